//! Single rules of a stage in several instances.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn, ready};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;
use futures_lite::{FutureExt, StreamExt, stream};
use inflight_core::{
    AsyncFunction, AsyncWait, AttemptInfo, Barrier, Checkpoint, CheckpointId, ConfigError, Failure,
    Instances, ParallelExt, StageError, StartError, StreamElement, hash_key, split_snapshot,
};

use crate::clock::Clock;
use crate::executor::{Flag, Virtual};

fn runtime() -> Virtual {
    Virtual::new(&Clock::new(0, 1))
}

/// Polls whatever is woken, the consumer as well, until nothing is.
fn settle<S: Stream + Unpin>(runtime: &Virtual, stage: &mut S) -> Vec<S::Item> {
    let (mut out, consumer) = (Vec::new(), Flag::woken());
    let waker = Waker::from(Arc::clone(&consumer));
    loop {
        if let Some(task) = runtime.woken().first() {
            runtime.poll(task);
            continue;
        }
        if !consumer.is_set() {
            return out;
        }
        consumer.clear();
        while let Poll::Ready(Some(item)) =
            Pin::new(&mut *stage).poll_next(&mut Context::from_waker(&waker))
        {
            out.push(item);
        }
    }
}

/// Counts the requests that are alive.
struct Alive(Rc<Cell<usize>>);

impl Alive {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(Rc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

#[test] // C1
fn no_instance_is_refused() {
    let ask = |number: &u32| ready(Ok::<_, ()>(*number));
    let stage = stream::iter([1])
        .async_wait_parallel(Instances::on(runtime(), 0), AsyncWait::ordered(1), |_| ask)
        .in_place(runtime());
    assert_eq!(stage.err(), Some(StartError::Config(ConfigError::ZeroInstances)));
}

#[test] // L2, T3: a request that has timed out is dropped at once, although its instance's task is the one that has it.
fn a_request_that_has_timed_out_is_dropped() {
    let (runtime, alive) = (runtime(), Rc::new(Cell::new(0)));
    let count = Rc::clone(&alive);
    let ask = move |_: &u32| {
        let alive = Alive::new(&count);
        async move {
            let _alive = alive;
            pending::<Result<u32, ()>>().await
        }
        .boxed_local()
    };
    let policy = AsyncWait::ordered(4).timeout(Duration::from_millis(10));
    let mut stage = stream::iter(0..4_u32)
        .chain(stream::pending())
        .async_wait_parallel(Instances::on(runtime.clone(), 2), policy, |_| ask.clone())
        .spawn(runtime.clone())
        .unwrap();
    assert_eq!((settle(&runtime, &mut stage).len(), alive.get()), (0, 4));
    runtime.clock.advance_to(10_000_000);
    let out = settle(&runtime, &mut stage);
    assert!(out.iter().all(|outcome| outcome.result == Err(Failure::TimedOut)));
    assert_eq!((out.len(), alive.get()), (4, 0));
}

#[test] // F3: it ends the whole stage, and never looks like the end of the stream.
fn a_panic_in_an_instance_ends_the_stage() {
    let runtime = runtime();
    let ask = |number: &u32| {
        let number = *number;
        async move {
            match number {
                2 => resume_unwind(Box::new("planned")),
                0 => Ok::<u32, ()>(0),
                _ => pending().await,
            }
        }
    };
    let mut stage = stream::iter(0..4_u32)
        .async_wait_parallel(Instances::on(runtime.clone(), 2), AsyncWait::ordered(4), |_| ask)
        .spawn(runtime.clone())
        .unwrap();
    let mut out = Vec::new();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let settled = catch_unwind(AssertUnwindSafe(|| out = settle(&runtime, &mut stage)));
    std::panic::set_hook(hook);
    assert!(settled.is_err(), "the stream goes on with {out:?}");
    assert_eq!(stage.end(), Some(Err(&StageError::Panicked)));
    drop(stage);
    while let Some(task) = runtime.woken().first() {
        runtime.poll(task);
    }
    assert!(runtime.alive().is_empty(), "L2");
}

#[test] // F2: as with requests on tasks of their own
fn the_requests_of_a_cancelled_task_have_failed() {
    let runtime = runtime();
    let ask = |_: &u32| pending::<Result<u32, ()>>();
    let mut stage = stream::iter(0..4_u32)
        .async_wait_parallel(Instances::on(runtime.clone(), 2), AsyncWait::ordered(4), |_| ask)
        .spawn(runtime.clone())
        .unwrap();
    assert!(settle(&runtime, &mut stage).is_empty());
    let instances: Vec<_> = runtime.alive().into_iter().skip(1).collect();
    assert_eq!(instances.len(), 2);
    instances.iter().for_each(|task| runtime.kill(task));
    let out = settle(&runtime, &mut stage);
    assert_eq!(out.len(), 4);
    assert!(out.iter().all(|outcome| outcome.result == Err(Failure::Cancelled)));
}

/// A function whose instances open and close, and note it.
struct Noting {
    instance: usize,
    notes: Rc<RefCell<Vec<(usize, &'static str)>>>,
}

impl AsyncFunction<u32> for Noting {
    type Output = u32;
    type Error = usize;
    type Future = std::future::Ready<Result<u32, usize>>;

    /// Instance 0 is open at once, instance 1 never, and all others fail.
    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), usize>> {
        self.notes.borrow_mut().push((self.instance, "open"));
        match self.instance {
            0 => Poll::Ready(Ok(())),
            1 => Poll::Pending,
            other => Poll::Ready(Err(other)),
        }
    }

    fn invoke(&mut self, input: &u32, _: AttemptInfo) -> Self::Future {
        ready(Ok(*input))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.notes.borrow_mut().push((self.instance, "close"));
        Poll::Ready(())
    }
}

#[test] // L4
fn the_first_instance_that_cannot_be_opened_ends_the_stage() {
    let (runtime, notes) = (runtime(), Rc::new(RefCell::new(Vec::new())));
    let function = |instance| Noting { instance, notes: Rc::clone(&notes) };
    let mut stage = stream::iter(0..4_u32)
        .async_wait_parallel(Instances::on(runtime.clone(), 4), AsyncWait::ordered(4), function)
        .spawn(runtime.clone())
        .unwrap();
    assert!(settle(&runtime, &mut stage).is_empty());
    assert_eq!(stage.end(), Some(Err(&StageError::Open(2))));
    let opened = [(0, "open"), (1, "open"), (2, "open")];
    let closed = [(0, "close"), (1, "close"), (2, "close"), (3, "close")];
    assert_eq!(*notes.borrow(), [&opened[..], &closed[..]].concat());
}

#[test] // P1: without a key, the instance with the fewest running requests gets the next one.
fn records_are_spread() {
    let (runtime, met) = (runtime(), Rc::new(RefCell::new(Vec::new())));
    let function = |instance| {
        let met = Rc::clone(&met);
        move |number: &u32| {
            met.borrow_mut().push(instance);
            let is_slow = *number == 0;
            async move { if is_slow { pending().await } else { Ok::<u32, ()>(0) } }
        }
    };
    let mut stage = stream::iter(0..7_u32)
        .chain(stream::pending())
        .async_wait_parallel(Instances::on(runtime.clone(), 2), AsyncWait::unordered(2), function)
        .spawn(runtime.clone())
        .unwrap();
    assert_eq!(settle(&runtime, &mut stage).len(), 6);
    assert_eq!(*met.borrow(), [0, 1, 1, 1, 1, 1, 1]);
}

#[test] // P1, K8: an instance has the keys that a part of a split snapshot has.
fn instances_have_the_keys_of_a_split_snapshot() {
    let (runtime, met) = (runtime(), Rc::new(RefCell::new(Vec::new())));
    let function = |instance| {
        let met = Rc::clone(&met);
        move |number: &u32| {
            met.borrow_mut().push((*number, instance));
            pending::<Result<u32, ()>>()
        }
    };
    let barrier = StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(CheckpointId(1))));
    let elements = (0..20_u32).map(StreamElement::value).chain([barrier]);
    let policy = AsyncWait::unordered(30).with_key(|number: &u32| number % 7);
    let mut stage = stream::iter(elements.collect::<Vec<_>>())
        .async_wait_parallel(Instances::on(runtime.clone(), 3), policy, function)
        .checkpointed("stage", 1)
        .spawn(runtime.clone())
        .unwrap();
    let out = settle(&runtime, &mut stage);
    let [StreamElement::Barrier(barrier)] = &out[..] else { panic!("{out:?}") };
    let section = barrier.checkpoint.section("stage").unwrap();
    let parts = split_snapshot(section, 3, |key| key as usize).unwrap();
    for (instance, part) in parts.iter().enumerate() {
        let op = AsyncWait::unordered(30).build_core::<u32, u32, ()>().unwrap();
        let mut op = op.checkpointed("stage", 1);
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        checkpoint.put("stage", part).unwrap();
        let now = inflight_core::Instant::ZERO;
        op.restore(now, &checkpoint).unwrap();
        let mut records = Vec::new();
        while let Some(attempt) = op.poll_attempt(now) {
            records.push(*attempt.input);
        }
        let of_instance = |(number, met): &(u32, usize)| (*met == instance).then_some(*number);
        assert_eq!(records, met.borrow().iter().filter_map(of_instance).collect::<Vec<_>>());
        assert!(records.iter().all(|number| hash_key(&(number % 7)) as usize % 3 == instance));
    }
}

#[test] // L5: an instance with many requests that are ready gives way after some.
fn an_instance_gives_way() {
    let (runtime, polled) = (runtime(), Rc::new(Cell::new(0)));
    let count = Rc::clone(&polled);
    let ask = move |_: &u32| {
        let polled = Rc::clone(&count);
        let mut is_first = true;
        poll_fn(move |cx| {
            polled.set(polled.get() + 1);
            if std::mem::take(&mut is_first) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok::<u32, ()>(0))
        })
    };
    let mut stage = stream::iter(0..100_u32)
        .async_wait_parallel(Instances::on(runtime.clone(), 1), AsyncWait::ordered(100), |_| {
            ask.clone()
        })
        .spawn(runtime.clone())
        .unwrap();
    runtime.poll(&runtime.alive()[0]); // the stage starts all of them
    let instance = runtime.alive().remove(1);
    let mut polls = 0;
    while polled.get() < 200 {
        let before = polled.get();
        runtime.poll(&instance);
        polls += 1;
        assert!(
            polled.get() - before <= 16,
            "{} requests were polled at once",
            polled.get() - before
        );
    }
    assert!((13..40).contains(&polls), "{polls} polls");
    assert_eq!(settle(&runtime, &mut stage).len(), 100);
}
