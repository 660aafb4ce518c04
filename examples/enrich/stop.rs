//! Ctrl-C: the first one asks the source to stop, the second one stops the process.

use std::{future, process};

use inflight::pipeline::StopHandle;
#[cfg(unix)]
use std::task::Poll;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::progress::Progress;

/// The exit status after Ctrl-C, by the convention of shells.
pub const STATUS: u8 = 130;

/// True once a stop was requested.
#[derive(Debug)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens for Ctrl-C and, on Unix, for SIGTERM, and stops the pipeline then.
    pub fn on_ctrl_c(progress: Progress, pipeline: StopHandle) -> Self {
        let (sender, receiver) = watch::channel(false);
        let mut signals = Signals::listen();
        tokio::spawn(async move {
            signals.next().await;
            progress.say(
                "stopping: the input ends, and the records in flight finish within --timeout \
                 (Ctrl-C again stops at once)",
            );
            let _ = sender.send(true);
            pipeline.drain();
            signals.next().await;
            // No clean-up is needed, because the last checkpoint is durable.
            process::exit(STATUS.into());
        });
        Self(receiver)
    }

    /// Returns when a stop was requested.
    pub async fn requested(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            // The listener has ended.
            future::pending::<()>().await;
        }
    }
}

#[cfg(unix)]
struct Signals(Vec<Signal>);

#[cfg(unix)]
impl Signals {
    /// A signal that cannot be listened for keeps its default effect.
    fn listen() -> Self {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate()];
        Self(kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect())
    }

    async fn next(&mut self) {
        future::poll_fn(|context| {
            let any = self.0.iter_mut().any(|signal| signal.poll_recv(context).is_ready());
            if any { Poll::Ready(()) } else { Poll::Pending }
        })
        .await
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            future::pending::<()>().await;
        }
    }
}
