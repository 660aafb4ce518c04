//! Ctrl-C: the first one drains the pipeline, the second one hands the job over, the third one ends the process.

#[cfg(not(unix))]
use std::future;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use inflight::pipeline::StopHandle;
#[cfg(unix)]
use std::task::Poll;
#[cfg(unix)]
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::timeout;

use crate::counters::Counters;
use crate::progress::Progress;

/// The exit status after Ctrl-C, by the convention of shells.
pub const STATUS: u8 = 130;

/// Listens for Ctrl-C and, on Unix, for SIGTERM. A drain that takes longer than `patience` becomes a hand-over.
pub fn on_ctrl_c(
    pipeline: StopHandle,
    patience: Duration,
    counters: Arc<Counters>,
    progress: Progress,
) {
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        progress.say(
            "stopping: the input ends, and the records in flight finish within --timeout \
             (Ctrl-C again leaves them to the next run)",
        );
        pipeline.drain();
        let _ = timeout(patience, signals.next()).await;
        progress.say("handing over: saving a last checkpoint (Ctrl-C again ends the process)");
        counters.give_up();
        pipeline.hand_over();
        signals.next().await;
        // No clean-up is needed, because the last checkpoint is durable.
        process::exit(STATUS.into());
    });
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
        std::future::poll_fn(|context| {
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
