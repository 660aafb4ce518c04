//! A whole stage on one thread and its consumer on another, in all interleavings: the loop over turns, the operator and
//! the wake-ups as they are, over loom's atomics. loom reports a deadlock where one of the two sleeps for ever.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p inflight-core --features alloc --lib --release loom`

use alloc::vec;
use alloc::vec::Vec;
use core::future::{Ready, ready};

use loom::future::block_on;
use loom::sync::Mutex;

use super::*;
use crate::{
    AsyncWait, AsyncWaitExt, ConfigError, Elements, Instant, IntoElement, NoRuntime, Outcome,
    Runtime, Spawner, StreamKind, Timer, Timestamp, Values,
};

/// All interleavings with at most two preemptions, which suffice to lose a wake-up; more take hours.
fn model(run: impl Fn() + Send + Sync + 'static) {
    crate::sync::model(2, run);
}

type Stage<M> = SpawnedStage<Outcome<u32, (), ()>, (), M, Task<Result<(), StageError<()>>>>;

/// A stage over so many numbers, whose requests are ready at once.
fn stage(capacity: usize, most: usize, numbers: u32) -> Stage<Values> {
    start(capacity, most, (0..numbers).collect())
}

fn start<T, M>(capacity: usize, most: usize, items: Vec<T>) -> Stage<M>
where
    T: IntoElement<u32, M> + Send + 'static,
    M: StreamKind + 'static,
    M::Item<Outcome<u32, (), ()>>: Send,
{
    let policy = AsyncWait::ordered(capacity).max_capacity(most);
    let source = Items(items.into_iter());
    let ask: fn(&u32) -> Ready<Result<(), ()>> = |_| ready(Ok(()));
    source.async_wait(policy, ask).spawn(Threads).unwrap()
}

fn inputs(mut stage: Stage<Values>) -> Vec<u32> {
    let mut inputs = Vec::new();
    while let Some(outcome) = block_on(stage.next()) {
        inputs.push(outcome.input);
    }
    assert_eq!(stage.end(), Some(Ok(())));
    inputs
}

// L6, E2: credit reaches the stage, outcomes and the end reach the consumer.
#[test]
fn loom_everything_comes_through_one_slot() {
    model(|| assert_eq!(inputs(stage(1, 1, 2)), [0, 1]));
}

// L6, E2
#[test]
fn loom_everything_comes_through_two_slots() {
    model(|| assert_eq!(inputs(stage(2, 2, 3)), [0, 1, 2]));
}

// L6: control elements have no credit; the stage waits for room in the ring.
#[test]
fn loom_control_elements_come_through_a_full_ring() {
    model(|| {
        let at = Timestamp::from_millis;
        let marks = vec![1, 2, 3].into_iter().map(|mark| StreamElement::Watermark(at(mark)));
        let mut stage: Stage<Elements> = start(1, 1, marks.collect());
        let mut last = None;
        while let Some(element) = block_on(stage.next()) {
            last = Some(element);
        }
        assert_eq!(last, Some(StreamElement::Watermark(at(3))));
    });
}

// L2: a consumer that goes is missed, even if its runtime does not cancel the task.
#[test]
fn loom_a_stage_ends_with_its_consumer() {
    model(|| {
        let mut stage = stage(1, 1, 2);
        let task = stage.task.clone();
        assert!(block_on(stage.next()).is_some());
        drop(stage);
        assert_eq!(block_on(task), Ok(Ok(())));
    });
}

// L6, C8
#[test]
fn loom_a_capacity_that_is_raised_counts() {
    model(|| {
        let stage = stage(1, 2, 2);
        let handle = stage.handle();
        let raises = loom::thread::spawn(move || handle.set_capacity(2));
        // The consumer takes nothing until two are there.
        block_on(core::future::poll_fn(|cx| {
            stage.inlet.shared.consumer.register(cx.waker());
            match stage.inlet.ring.slots() {
                2 => Poll::Ready(()),
                _ => Poll::Pending,
            }
        }));
        assert_eq!(raises.join().unwrap(), Ok::<(), ConfigError>(()));
        assert_eq!(inputs(stage), [0, 1]);
    });
}

// L6, L3
#[test]
fn loom_a_stop_is_obeyed() {
    model(|| {
        let stage = stage(1, 1, 2);
        let handle = stage.handle();
        let stops = loom::thread::spawn(move || handle.stop());
        let inputs = inputs(stage); // the stream ends
        assert!([0, 1].starts_with(&inputs));
        stops.join().unwrap();
    });
}

/// The numbers of a source.
struct Items<T>(alloc::vec::IntoIter<T>);

impl<T> Unpin for Items<T> {}

impl<T> Stream for Items<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<T>> {
        Poll::Ready(self.0.next())
    }
}

/// Every task has a thread of its own. Nothing is cancelled, and the clock stands still.
struct Threads;

impl Runtime for Threads {
    type Timer = Still;

    fn timer(&self) -> Result<Still, NoRuntime> {
        Ok(Still)
    }
}

impl<F> Spawner<F> for Threads
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    type Handle = Task<F::Output>;

    fn spawn(&self, future: F) -> Task<F::Output> {
        let join = Arc::new(Join { output: Mutex::new(None), waker: AtomicWaker::new() });
        let task = Task(Arc::clone(&join));
        loom::thread::spawn(move || {
            let output = block_on(future);
            *join.output.lock().unwrap() = Some(output);
            join.waker.wake();
        });
        task
    }
}

struct Join<T> {
    output: Mutex<Option<T>>,
    waker: AtomicWaker,
}

#[derive(Clone)]
struct Task<T>(Arc<Join<T>>);

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.waker.register(cx.waker());
        self.0.output.lock().unwrap().take().map_or(Poll::Pending, |output| Poll::Ready(Ok(output)))
    }
}

struct Still;

impl Timer for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
