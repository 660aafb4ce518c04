//! Who completes an attempt first, who comes too late, and who is woken: over both kinds of places.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use inflight_callback::{
    CallbackError, CompletionHandle, CompletionTable, Handle, Lateness, TableHandle, TooLate,
    with_callback, with_callback_in,
};
use inflight_core::{AsyncFunction, Attempt};

type Answer = Result<u32, &'static str>;

const ATTEMPT: Attempt = Attempt { number: 2, retry: 1, request_id: 7, time_left: None };

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn poll<F: Future>(future: Pin<&mut F>, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(&Waker::from(Arc::clone(wakes))))
}

/// An attempt on the heap: its future and its handle.
macro_rules! start {
    () => {{
        let mut kept = None;
        let mut function = with_callback(|_: &(), handle: CompletionHandle<u32, &'static str>| {
            kept = Some(handle)
        });
        let future = function.invoke(&(), ATTEMPT);
        (future, kept.expect("the function was called"))
    }};
    ($table:expr) => {{
        let mut kept = None;
        let mut function = with_callback_in($table, |_: &(), handle: Handle<_, _, _>| {
            kept = Some(handle);
        });
        let future = function.invoke(&(), ATTEMPT);
        (future, kept)
    }};
}

#[test]
fn one_of_many_threads_completes_it_and_the_others_are_told() {
    for _ in 0..200 {
        let (future, handle) = start!();
        let (mut future, wakes) = (pin!(future), Arc::new(Wakes::default()));
        assert_eq!(handle.attempt(), ATTEMPT);
        assert!(poll(future.as_mut(), &wakes).is_pending());
        let all = Barrier::new(4);
        let completed: Vec<Result<(), TooLate<Answer>>> = thread::scope(|scope| {
            let run = |number: u32| {
                let (handle, all) = (handle.clone(), &all);
                scope.spawn(move || {
                    all.wait();
                    handle.complete(Ok(number))
                })
            };
            let threads: Vec<_> = (0..4).map(run).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let winner = completed.iter().position(Result::is_ok).expect("one wins") as u32;
        for (number, completed) in (0..).zip(completed) {
            let late = TooLate { result: Ok(number), reason: Lateness::AlreadyCompleted };
            assert_eq!(completed, if number == winner { Ok(()) } else { Err(late) });
        }
        assert!(!handle.is_wanted());
        assert_eq!(wakes.count(), 1);
        assert_eq!(poll(future, &wakes), Poll::Ready(Ok(winner)));
        let late = handle.complete(Err("more")).expect_err("the future has its result");
        assert_eq!(late, TooLate { result: Err("more"), reason: Lateness::AlreadyCompleted });
    }
}

#[test]
fn the_last_of_several_wakers_is_woken() {
    let (future, handle) = start!();
    let mut future = pin!(future);
    let (first, second) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
    assert!(poll(future.as_mut(), &first).is_pending());
    assert!(poll(future.as_mut(), &second).is_pending());
    assert!(poll(future.as_mut(), &second).is_pending());
    handle.complete(Err("no")).expect("it is the first");
    assert_eq!((first.count(), second.count()), (0, 1));
    assert_eq!(poll(future, &second), Poll::Ready(Err(CallbackError::Error("no"))));
}

#[test]
fn an_attempt_whose_handles_are_all_dropped_fails() {
    let (future, handle) = start!();
    let (mut future, wakes) = (pin!(future), Arc::new(Wakes::default()));
    let clone = handle.clone();
    drop(handle);
    assert!(poll(future.as_mut(), &wakes).is_pending(), "there is another one");
    drop(clone);
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll(future, &wakes), Poll::Ready(Err(CallbackError::Dropped)));
}

// T5: a completion of a call that is over says so.
#[test]
fn whoever_completes_an_attempt_that_is_over_is_told() {
    let (future, handle) = start!();
    assert!(handle.is_wanted());
    drop(future);
    assert!(!handle.is_wanted());
    let late = handle.complete(Ok(1)).expect_err("nobody waits");
    assert_eq!(late, TooLate { result: Ok(1), reason: Lateness::NobodyWaits });
}

#[test]
fn a_place_is_used_again_and_an_old_handle_is_not_its_new_one() {
    static TABLE: CompletionTable<Answer, 2> = CompletionTable::new();
    let wakes = Arc::new(Wakes::default());
    let (old_future, old) = start!(&TABLE);
    let old: TableHandle<u32, &'static str, 2> = old.expect("there is a place");
    let (mut second, handle) = start!(&TABLE);
    let (mut third, none) = start!(&TABLE);
    assert!(none.is_none(), "nothing is asked without a place");
    assert_eq!(poll(Pin::new(&mut third), &wakes), Poll::Ready(Err(CallbackError::TableFull)));
    drop(third);

    drop(old_future);
    let (mut new_future, new) = start!(&TABLE);
    let new = new.expect("a place has become vacant");
    let late = old.complete(Ok(1)).expect_err("its attempt is over");
    assert_eq!(late, TooLate { result: Ok(1), reason: Lateness::NobodyWaits });
    assert!(!old.is_wanted() && new.is_wanted());
    drop(old.clone());
    drop(old); // it is not one of the new attempt's handles
    assert!(poll(Pin::new(&mut new_future), &wakes).is_pending());

    // An interrupt, say.
    thread::spawn(move || new.complete(Ok(2))).join().expect("no panic").expect("it is in time");
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll(Pin::new(&mut new_future), &wakes), Poll::Ready(Ok(2)));
    drop(handle);
    assert_eq!(poll(Pin::new(&mut second), &wakes), Poll::Ready(Err(CallbackError::Dropped)));
    drop((second, new_future));
    let all: Vec<_> = (0..3).map(|_| start!(&TABLE)).collect();
    assert_eq!(all.iter().filter(|(_, handle)| handle.is_some()).count(), 2);
}

#[test]
fn what_was_not_taken_is_dropped_with_the_future() {
    let counted = Arc::new(());
    let mut kept = None;
    let mut function =
        with_callback(|_: &(), handle: CompletionHandle<Arc<()>, ()>| kept = Some(handle));
    let future = function.invoke(&(), ATTEMPT);
    let handle = kept.expect("the function was called");
    handle.complete(Ok(Arc::clone(&counted))).expect("it is the first");
    assert_eq!(Arc::strong_count(&counted), 2);
    drop(future);
    assert_eq!(Arc::strong_count(&counted), 1);
    let late = handle.complete(Ok(counted)).expect_err("it was completed");
    assert_eq!(late.reason, Lateness::AlreadyCompleted);
}

// A waker's owner may hold handles itself: what is waited for, and by whom, is up to the user.
#[test]
fn a_waker_that_is_replaced_may_complete_the_attempt_when_it_is_dropped() {
    struct CompletesWhenDropped(CompletionHandle<u32, &'static str>);

    impl Wake for CompletesWhenDropped {
        fn wake(self: Arc<Self>) {}
    }

    impl Drop for CompletesWhenDropped {
        fn drop(&mut self) {
            let _ = self.0.complete(Ok(1));
        }
    }

    let (future, handle) = start!();
    let (mut future, wakes) = (pin!(future), Arc::new(Wakes::default()));
    let first = Waker::from(Arc::new(CompletesWhenDropped(handle.clone())));
    assert!(future.as_mut().poll(&mut Context::from_waker(&first)).is_pending());
    drop(first);
    let _ = poll(future.as_mut(), &wakes);
    assert_eq!(wakes.count(), 1);
    assert_eq!(poll(future, &wakes), Poll::Ready(Ok(1)));
}

// The place of an attempt that never came to be is not lost: the table outlives the stage.
#[test]
fn a_panic_while_asking_gives_the_place_back() {
    static TABLE: CompletionTable<Answer, 1> = CompletionTable::new();
    let mut function = with_callback_in(&TABLE, |_: &(), _: TableHandle<u32, &'static str, 1>| {
        panic!("the client is not there");
    });
    let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        drop(function.invoke(&(), ATTEMPT));
    }));
    assert!(asked.is_err());
    let (_future, handle) = start!(&TABLE);
    assert!(handle.is_some(), "the place is vacant again");
}
