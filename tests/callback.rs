//! Who completes an attempt first, who comes too late, and who is woken: over both kinds of places.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

use inflight::callback::{
    CallbackError, CompletionHandle, CompletionTable, Handle, Lateness, TableHandle, TooLate,
    with_callback, with_callback_in,
};
use inflight::{AsyncFunction, AttemptInfo};

type Answer = Result<u32, &'static str>;

const ATTEMPT: AttemptInfo = AttemptInfo { number: 2, retry: 1, request_id: 7, time_left: None };

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

// Attempts that come and go in any order: none is ever in the place of another, and none is refused for nothing.
#[test]
fn every_attempt_has_a_place_of_its_own() {
    static TABLE: CompletionTable<Answer, 4> = CompletionTable::new();
    let (mut running, mut random) = (Vec::new(), 1_u32);
    for number in 0..2_000 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let chosen = (random >> 16) as usize;
        if chosen % 5 < 3 {
            let (future, handle) = start!(&TABLE);
            assert_eq!(handle.is_some(), running.len() < 4);
            running.extend(handle.map(|handle| (future, handle, number)));
        } else if !running.is_empty() {
            drop(running.swap_remove(chosen % running.len()));
        }
        assert!(running.iter().all(|(_, handle, _)| handle.is_wanted()));
    }
    for (_, handle, number) in &running {
        handle.complete(Ok(*number)).expect("it is the only one");
    }
    let wakes = Arc::new(Wakes::default());
    for (future, _, number) in &mut running {
        assert_eq!(poll(Pin::new(future), &wakes), Poll::Ready(Ok(*number)));
    }
}

// What became of an attempt is not known any more when its place in the table is another's.
#[test]
fn a_table_only_knows_that_an_attempt_is_over() {
    static TABLE: CompletionTable<Answer, 1> = CompletionTable::new();
    let (mut future, handle) = start!(&TABLE);
    let handle = handle.expect("there is a place");
    handle.complete(Ok(1)).expect("it is the first");
    let late = handle.complete(Ok(2)).expect_err("it was completed");
    assert_eq!(late.reason, Lateness::AlreadyCompleted);
    assert_eq!(poll(Pin::new(&mut future), &Arc::default()), Poll::Ready(Ok(1)));
    drop(future);
    let late = handle.complete(Ok(3)).expect_err("it is over");
    assert_eq!(late, TooLate { result: Ok(3), reason: Lateness::NobodyWaits });
}

#[test]
fn errors_say_what_has_happened() {
    #[derive(Debug)]
    struct Refused(std::fmt::Error);

    impl std::fmt::Display for Refused {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("refused")
        }
    }

    impl std::error::Error for Refused {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }

    use std::error::Error;

    let error = CallbackError::Error(Refused(std::fmt::Error));
    assert_eq!(error.to_string(), "refused");
    // The client's error, with its own source, is in the variant: a box, which is no error itself, may be there too.
    let CallbackError::Error(refused) = &error else { panic!("{error:?}") };
    assert!(refused.source().is_some_and(|source| source.is::<std::fmt::Error>()));
    for error in [CallbackError::Dropped, CallbackError::TableFull] {
        assert!(CallbackError::<Refused>::source(&error).is_none() && error.to_string().len() > 20);
    }
    let late = TooLate { result: (), reason: Lateness::AlreadyCompleted };
    assert_eq!(late.to_string(), "the attempt has been completed before");
    assert_eq!(Lateness::NobodyWaits.to_string(), "the attempt is over");
}

#[test]
fn a_handle_of_either_kind_prints_as_a_handle() {
    static TABLE: CompletionTable<Answer, 1> = CompletionTable::new();
    let (future, handle) = start!();
    assert!(format!("{handle:?}").starts_with("Handle {"), "{handle:?}");
    drop(future);
    let (_future, handle) = start!(&TABLE);
    assert!(format!("{:?}", handle.expect("there is a place")).starts_with("Handle {"));
}

#[test]
fn what_was_not_taken_from_a_table_is_dropped_with_the_future() {
    static TABLE: CompletionTable<Result<Arc<()>, ()>, 1> = CompletionTable::new();
    let (counted, mut kept) = (Arc::new(()), None);
    let mut function =
        with_callback_in(&TABLE, |_: &(), handle: TableHandle<Arc<()>, (), 1>| kept = Some(handle));
    let future = function.invoke(&(), ATTEMPT);
    let handle = kept.expect("there is a place");
    handle.complete(Ok(Arc::clone(&counted))).expect("it is the first");
    assert_eq!(Arc::strong_count(&counted), 2);
    drop(future);
    assert_eq!(Arc::strong_count(&counted), 1);
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
