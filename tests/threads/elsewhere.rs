//! A thread outside of all runtimes: it answers requests, sends records and steers stages.

use std::collections::VecDeque;
use std::sync::LazyLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use futures::channel::{mpsc, oneshot};

type Job = Box<dyn FnOnce() + Send>;

static JOBS: LazyLock<Sender<Job>> = LazyLock::new(|| {
    let (jobs, taken): (_, Receiver<Job>) = channel();
    thread::spawn(move || taken.into_iter().for_each(|job| job()));
    jobs
});

/// Runs a job on that thread, after the jobs before it.
pub fn go(job: impl FnOnce() + Send + 'static) {
    JOBS.send(Box::new(job)).expect("the thread never ends");
}

/// An answer from that thread.
pub fn answer() -> oneshot::Receiver<()> {
    let (answer, asked) = oneshot::channel();
    go(move || _ = answer.send(()));
    asked
}

/// Sends that many records at a time, and does something else in between.
pub fn send<T: Send + 'static>(
    mut items: VecDeque<T>,
    at_a_time: usize,
    to: mpsc::UnboundedSender<T>,
) {
    go(move || {
        for item in items.drain(..at_a_time.min(items.len())) {
            if to.unbounded_send(item).is_err() {
                return; // the receiver is gone
            }
        }
        if !items.is_empty() {
            send(items, at_a_time, to);
        }
    });
}
