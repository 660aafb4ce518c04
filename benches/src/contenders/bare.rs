//! No stage at all: `capacity` tasks that each loop over requests.

use std::sync::{Arc, Mutex, PoisonError};

use crate::meter::Meter;
use crate::runtimes::Rt;
use crate::workloads::Workload;

/// What the runtime itself can do with that many requests at once.
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
