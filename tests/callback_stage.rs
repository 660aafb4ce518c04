//! Handles in a whole stage without an allocator of its own: attempts that time out and are made again, answers
//! that come too late, and as many places as attempts can run at once.

use std::cell::{Cell, RefCell};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;
use inflight::callback::{CallbackError, CompletionTable, Lateness, TableHandle, with_callback_in};
use inflight::{
    AsyncWait, AsyncWaitExt, Failure, Fixed, FixedDelay, Instant, NoRuntime, Runtime, Timer,
};

const MS: Duration = Duration::from_millis(1);

type Handle = TableHandle<u32, (), 4>;

/// A clock that is moved by hand. Everything is polled whenever it has moved, so nobody is woken.
#[derive(Clone, Default)]
struct Clock(Rc<Cell<Duration>>);

struct Alarm {
    clock: Clock,
    at: Option<Instant>,
}

impl Runtime for Clock {
    type Timer = Alarm;

    fn timer(&self) -> Result<Alarm, NoRuntime> {
        Ok(Alarm { clock: self.clone(), at: None })
    }
}

impl Timer for Alarm {
    fn now(&self) -> Instant {
        Instant::ZERO + self.clock.0.get()
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.at = at;
    }

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let now = self.now();
        self.at.take_if(|at| *at <= now).map_or(Poll::Pending, |_| Poll::Ready(()))
    }
}

// T2, T3, T5, C2: of each record's three attempts the first is never answered, the second too late, the third in
// time, but for every fifth record. There are no more places than attempts can run at once, and none is refused.
#[test]
fn attempts_that_time_out_give_their_places_to_the_next() {
    static TABLE: CompletionTable<Result<u32, ()>, 4> = CompletionTable::new();
    let asked: RefCell<Vec<(u32, Duration, Handle)>> = RefCell::default();
    let clock = Clock::default();
    let ask = with_callback_in(&TABLE, |record: &u32, handle: Handle| {
        asked.borrow_mut().push((*record, clock.0.get(), handle));
    });
    let policy = AsyncWait::unordered(4)
        .attempt_timeout(10 * MS)
        .retry(FixedDelay::new(3 * MS).max_retries(2).when_error(|_: &CallbackError<()>| false));
    let stage = futures::stream::iter(0..100).async_wait_with(policy, ask);
    let mut stage = pin!(stage.in_place_over(clock.clone(), Fixed::<4>).expect("it makes sense"));
    let (mut seen, mut late, mut cx) = (Vec::new(), 0, Context::from_waker(Waker::noop()));
    loop {
        match stage.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(outcome)) => {
                assert_eq!(outcome.attempts, 3, "{outcome:?}");
                seen.push((outcome.input, outcome.result));
                continue;
            }
            Poll::Ready(None) => break,
            Poll::Pending => {}
        }
        clock.0.set(clock.0.get() + MS);
        assert!(clock.0.get() < Duration::from_secs(60), "it ends");
        asked.borrow_mut().retain(|(record, since, handle)| {
            let running = clock.0.get() - *since;
            match handle.attempt().number {
                1 => running < 30 * MS,
                2 if running < 15 * MS => true,
                2 => {
                    let refused = handle.complete(Ok(0)).expect_err("it has timed out");
                    assert_eq!(refused.reason, Lateness::NobodyWaits);
                    late += 1;
                    false
                }
                _ if running < 5 * MS => true,
                _ if *record % 5 == 4 => false,
                _ => {
                    handle.complete(Ok(10 * *record)).expect("it is in time");
                    false
                }
            }
        });
    }
    seen.sort_unstable_by_key(|(record, _)| *record);
    let expected = |record| match record % 5 {
        4 => Err(Failure::Error(CallbackError::Dropped)),
        _ => Ok(10 * record),
    };
    assert!(seen.iter().copied().eq((0..100).map(|record| (record, expected(record)))), "{seen:?}");
    assert!(late > 90, "{late}");
}

// L2: a stage that is gone waits for nobody.
#[test]
fn handles_of_a_stage_that_is_gone_are_not_wanted() {
    static TABLE: CompletionTable<Result<u32, ()>, 4> = CompletionTable::new();
    let asked: RefCell<Vec<Handle>> = RefCell::default();
    {
        let ask =
            with_callback_in(&TABLE, |_: &u32, handle: Handle| asked.borrow_mut().push(handle));
        let stage = futures::stream::iter(0..100).async_wait_with(AsyncWait::ordered(4), ask);
        let stage = stage.in_place_over(Clock::default(), Fixed::<4>).expect("it makes sense");
        let mut stage = pin!(stage);
        let mut cx = Context::from_waker(Waker::noop());
        assert!((0..2).all(|_| stage.as_mut().poll_next(&mut cx).is_pending()), "it opens first");
        assert!(asked.borrow().len() == 4 && asked.borrow().iter().all(Handle::is_wanted));
    }
    let mut asked = asked.into_inner();
    assert!(!asked.iter().any(Handle::is_wanted));
    let late = asked.remove(0).complete(Ok(1)).expect_err("the stage is gone");
    assert_eq!(late.reason, Lateness::NobodyWaits);
}
