//! Contenders without a stage.

use std::future::{Future, poll_fn};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use crate::meter::Meter;
use crate::runtimes::Rt;
use crate::workloads::Workload;

/// The rate of the runtime itself with that many requests: as many tasks, each of which loops over requests.
pub(crate) async fn no_stage<R: Rt, W: Workload>(work: W, capacity: usize, meter: Meter) -> Meter {
    let shared = Arc::new(Mutex::new((meter.records(), Some(meter))));
    let tasks: Vec<_> = (0..capacity)
        .map(|_| {
            let shared = Arc::clone(&shared);
            let next = move |answer: Option<W::Answer>| {
                let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if let (Some(answer), Some(meter)) = (answer, &mut shared.1) {
                    meter.take(answer);
                }
                shared.0.next()
            };
            R::spawn(async move {
                let mut record = next(None);
                while let Some(this) = record {
                    record = next(Some(work.request(this).await));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await;
    }
    let meter = shared.lock().unwrap_or_else(PoisonError::into_inner).1.take();
    meter.expect("nobody else takes it")
}

/// The cost of the requests themselves, with that many at once: each is polled when it starts, and once more
/// when all have been woken. All have the same waker, so a wake needs no lookup.
pub(crate) async fn alone<W: Workload>(work: W, capacity: usize, mut meter: Meter) -> Meter {
    let mut records = meter.records();
    let mut window: Vec<_> = (0..capacity).map(|_| Box::pin(None)).collect();
    let countdown = Arc::new(Countdown { left: AtomicUsize::new(0), parent: Mutex::new(None) });
    let waker = Waker::from(Arc::clone(&countdown));
    let cx = || Context::from_waker(&waker);
    while !records.is_empty() {
        let left = (records.end - records.start) as usize;
        countdown.left.store(capacity.min(left), Ordering::SeqCst);
        for place in &mut window {
            place.set(records.next().map(|record| work.request(record)));
            if let Some(request) = place.as_mut().as_pin_mut() {
                assert!(request.poll(&mut cx()).is_pending());
            }
        }
        countdown.all_woken().await;
        for request in window.iter_mut().filter_map(|place| place.as_mut().as_pin_mut()) {
            match request.poll(&mut cx()) {
                Poll::Ready(answer) => meter.take(answer),
                Poll::Pending => unreachable!("it has been woken"),
            }
        }
    }
    meter
}

struct Countdown {
    left: AtomicUsize,
    parent: Mutex<Option<Waker>>,
}

impl Countdown {
    async fn all_woken(&self) {
        poll_fn(|cx| {
            *self.parent.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
            let left = self.left.load(Ordering::SeqCst);
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

impl Wake for Countdown {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            let parent = self.parent.lock().unwrap_or_else(PoisonError::into_inner).take();
            parent.into_iter().for_each(Waker::wake);
        }
    }
}
