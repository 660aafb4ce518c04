//! A stage on a task of its own and its consumer: neither misses an announcement of the other while it is busy.
//!
//! Both run on one thread here, and the consumer acts while the stage polls a request. So it acts in the middle of a turn,
//! as a consumer on another thread does.

#![cfg(feature = "alloc")]

#[path = "../../tests/common/still.rs"]
mod still;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_core::Stream;
use inflight_core::{
    AsyncWait, AsyncWaitExt, JoinError, NoRuntime, Outcome, Runtime, SpawnedStage, Spawner,
    StageError, Values,
};

use crate::still::Still;

type Consumer = SpawnedStage<Outcome<u32, (), ()>, (), Values, Handle<Result<(), StageError<()>>>>;

/// A stage of capacity 2 over endless numbers. The request for 0 is ready at once. The request for 1 is never ready,
/// and the consumer acts while it is polled for the second time. All others are never ready.
struct Scene {
    task: Task,
    woken: Arc<Flag>,
    consumer: Rc<RefCell<Option<Consumer>>>,
    started: Rc<Cell<u32>>,
    source: Rc<()>,
    waker: Rc<Cell<Option<Waker>>>,
}

impl Scene {
    fn new(capacity: usize, act: impl Fn(&mut Option<Consumer>) + 'static) -> Self {
        let answer = |number, polls, act: &dyn Fn()| {
            match (number, polls) {
                (0, _) => return Poll::Ready(Ok(())),
                (1, 2) => act(),
                _ => {}
            }
            Poll::Pending
        };
        Self::start(capacity, 2, answer, act)
    }

    /// Starts a stage whose requests call `answer` at every poll, with the number of polls and the consumer's action.
    fn start(
        capacity: usize,
        max_capacity: usize,
        answer: fn(u32, u32, &dyn Fn()) -> Poll<Result<(), ()>>,
        act: impl Fn(&mut Option<Consumer>) + 'static,
    ) -> Self {
        let (act, runtime) = (Rc::new(act), OneTask::default());
        let scene = Self {
            task: Rc::clone(&runtime.task),
            woken: Arc::default(),
            consumer: Rc::default(),
            started: Rc::default(),
            source: Rc::default(),
            waker: Rc::default(),
        };
        let (started, consumer) = (Rc::clone(&scene.started), Rc::clone(&scene.consumer));
        let waker = Rc::clone(&scene.waker);
        let ask = move |number: &u32| {
            let (number, act, consumer) = (*number, Rc::clone(&act), Rc::clone(&consumer));
            let waker = Rc::clone(&waker);
            started.set(started.get() + 1);
            let mut polls = 0;
            poll_fn(move |cx| {
                polls += 1;
                if (number, polls) == (1, 1) {
                    waker.set(Some(cx.waker().clone()));
                }
                answer(number, polls, &|| act(&mut consumer.borrow_mut()))
            })
        };
        let policy = AsyncWait::unordered(capacity).max_capacity(max_capacity);
        let numbers = Numbers { next: 0, _alive: Rc::clone(&scene.source) };
        let stage = numbers.async_wait(policy, ask).spawn(runtime).expect("it makes sense");
        *scene.consumer.borrow_mut() = Some(stage);
        scene.woken.0.store(true, Ordering::Relaxed);
        scene.run();
        scene
    }

    /// Runs the consumer's action.
    fn act(&self) {
        self.waker.take().expect("the request for 1 has been polled").wake();
        self.run();
    }

    /// Polls the stage's task until it is no longer woken.
    fn run(&self) {
        let waker = Waker::from(Arc::clone(&self.woken));
        while self.woken.0.swap(false, Ordering::Relaxed) {
            let Some(mut task) = self.task.take() else { return };
            if task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                *self.task.borrow_mut() = Some(task);
            }
        }
    }

    fn has_source(&self) -> bool {
        Rc::strong_count(&self.source) > 1
    }
}

fn take(consumer: &mut Option<Consumer>) -> Option<u32> {
    let cx = &mut Context::from_waker(Waker::noop());
    match Pin::new(consumer.as_mut()?).poll_next(cx) {
        Poll::Ready(outcome) => outcome.map(|outcome| outcome.input),
        Poll::Pending => None,
    }
}

// L6: a taken outcome makes room, also if it is taken during a turn of the stage.
#[test]
fn room_that_is_made_during_a_turn_is_used() {
    let scene = Scene::new(2, |consumer| assert_eq!(take(consumer), Some(0)));
    assert_eq!(scene.started.get(), 2, "one is running, and one outcome is not taken");
    scene.act();
    assert_eq!(scene.started.get(), 3);
}

// L6, C8
#[test]
fn a_capacity_that_is_raised_during_a_turn_takes_effect() {
    let scene = Scene::new(1, |consumer| {
        let consumer = consumer.as_ref().expect("there is a consumer");
        consumer.handle().set_capacity(2).expect("2 is the most");
    });
    assert_eq!(take(&mut scene.consumer.borrow_mut()), Some(0));
    scene.run();
    assert_eq!(scene.started.get(), 2, "one is running");
    scene.act();
    assert_eq!(scene.started.get(), 3);
}

// L1, C8: each free slot is used at once, as if the capacity had been 4 from the start.
#[test]
fn a_window_that_has_shrunk_is_filled_at_once() {
    let scene = Scene::start(100, 100, |_, _, _| Poll::Ready(Ok(())), |_| {});
    let handle = scene.consumer.borrow().as_ref().map(SpawnedStage::handle);
    handle.expect("there is a consumer").set_capacity(4).expect("100 is the most");
    scene.run();
    for _ in 0..96 {
        assert!(take(&mut scene.consumer.borrow_mut()).is_some());
        scene.run();
        assert_eq!(scene.started.get(), 100);
    }
    for taken in 1..20 {
        assert!(take(&mut scene.consumer.borrow_mut()).is_some());
        scene.run();
        assert_eq!(scene.started.get(), 100 + taken);
    }
}

// L6, L3
#[test]
fn a_stop_during_a_turn_takes_effect() {
    let scene = Scene::new(2, |consumer| {
        consumer.as_ref().expect("there is a consumer").handle().stop();
    });
    assert!(scene.has_source());
    scene.act();
    assert!(!scene.has_source());
}

// L6, L2: the stage ends also where the runtime does not cancel its task.
#[test]
fn a_consumer_dropped_during_a_turn_ends_the_stage() {
    let scene = Scene::new(2, |consumer| drop(consumer.take()));
    assert!(scene.task.borrow().is_some());
    scene.act();
    assert!(scene.task.borrow().is_none() && !scene.has_source());
}

/// The numbers 0, 1, 2 and so on.
struct Numbers {
    next: u32,
    _alive: Rc<()>,
}

impl Stream for Numbers {
    type Item = u32;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<u32>> {
        self.next += 1;
        Poll::Ready(Some(self.next - 1))
    }
}

type Task = Rc<RefCell<Option<Pin<Box<dyn Future<Output = ()>>>>>>;

/// A runtime with one task, which the test polls, and a clock that does not move.
#[derive(Default)]
struct OneTask {
    task: Task,
}

impl Runtime for OneTask {
    type Timer = Still;

    fn timer(&self) -> Result<Still, NoRuntime> {
        Ok(Still)
    }
}

impl<F: Future + 'static> Spawner<F> for OneTask {
    type Handle = Handle<F::Output>;

    fn spawn(&self, future: F) -> Handle<F::Output> {
        *self.task.borrow_mut() = Some(Box::pin(async {
            future.await;
        }));
        Handle(PhantomData)
    }
}

/// Never reports the task's end, and does not cancel it when dropped.
struct Handle<T>(PhantomData<fn() -> T>);

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Pending
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
