//! The stage on one thread and an instance's task on another, in all interleavings: no answer, end, cancellation or question is
//! missed. loom reports a deadlock where one of the two sleeps for ever.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p inflight-core --features alloc --lib --release loom`

use core::future::{Future, poll_fn, ready};
use core::pin::Pin;
use core::task::{Context, Poll};

use loom::future::block_on;
use loom::thread;

use super::InstanceTask;
use super::reply::{Awaited, reply};
use crate::{Instant, Timer};

/// All interleavings with at most three preemptions.
fn model(run: impl Fn() + Send + Sync + 'static) {
    crate::sync::model(3, run);
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

/// Polls the task until the test is over, which an answer of its own tells.
async fn until<F: Future>(mut is_over: Awaited<()>, task: &mut InstanceTask<F, Still>) {
    poll_fn(|cx| {
        let _ = Pin::new(&mut *task).poll(cx);
        is_over.poll(cx).map(|_| ())
    })
    .await;
}

// L6
#[test]
fn loom_an_answer_arrives() {
    model(|| {
        let (mut replier, mut awaited) = reply();
        let instance = thread::spawn(move || replier.give(7));
        assert_eq!(block_on(poll_fn(|cx| awaited.poll(cx))), Some(7));
        instance.join().unwrap();
    });
}

// F2, F3: the end of the instance's task is not missed, and an answer before it counts.
#[test]
fn loom_the_end_of_the_other_side_arrives() {
    model(|| {
        let (replier, mut awaited) = reply::<u8>();
        let instance = thread::spawn(move || drop(replier));
        assert_eq!(block_on(poll_fn(|cx| awaited.poll(cx))), None);
        instance.join().unwrap();
    });
}

// L2: a request that nobody awaits any more is dropped.
#[test]
fn loom_a_cancellation_arrives() {
    model(|| {
        let (replier, awaited) = reply::<u8>();
        let instance = thread::spawn(move || {
            block_on(poll_fn(|cx| match replier.poll_cancelled(cx.waker()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }));
        });
        drop(awaited);
        instance.join().unwrap();
    });
}

// L6: a request that comes while the task goes to sleep is started.
#[test]
fn loom_a_request_is_started() {
    model(|| {
        let (mut task, instance) = InstanceTask::<_, Still>::new(1);
        let (replier, mut awaited) = reply();
        let (mut over, is_over) = reply();
        let task = thread::spawn(move || block_on(until(is_over, &mut task)));
        instance.start(ready(7), replier);
        assert_eq!(block_on(poll_fn(|cx| awaited.poll(cx))), Some(7));
        over.give(());
        task.join().unwrap();
    });
}

// T6: a question is answered, and not before the requests are started that came before it.
#[test]
fn loom_a_question_is_answered() {
    model(|| {
        let (mut task, instance) = InstanceTask::<_, Still>::new(1);
        let (replier, mut awaited) = reply();
        let (mut over, is_over) = reply();
        let task = thread::spawn(move || block_on(until(is_over, &mut task)));
        instance.start(ready(7), replier);
        instance.ask_if_settled();
        block_on(poll_fn(|cx| match instance.poll_settled(cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
        let mut cx = Context::from_waker(core::task::Waker::noop());
        assert_eq!(awaited.poll(&mut cx), Poll::Ready(Some(7)));
        over.give(());
        task.join().unwrap();
    });
}
