//! Assembles the gateway.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use inflight::console::ServedConsole;
use inflight::pipeline::{Ended, Pipeline, Report};
use inflight::prelude::*;
use inflight::{FileStore, hash_key};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;

use crate::devices::{Devices, EnrichError};
use crate::message::Message;
use crate::mqtt::Session;
use crate::options::Options;
use crate::sink::StreamSink;
use crate::source::MqttSource;
use crate::status::Status;
use crate::stream::Outlet;
use crate::view::View;
use crate::{live, prometheus, publisher};

/// The stage's name in a checkpoint, and the version of [`Message`] there.
const STAGE: (&str, u32) = ("enrich", 1);

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);

const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Runs until Ctrl-C, or until SIGTERM.
pub async fn gateway(options: &Arc<Options>) -> anyhow::Result<ExitCode> {
    let status = Arc::new(Status::new());
    let view = options.view.then(|| View::open(Arc::clone(&status))).transpose()?;
    let _prometheus = match options.metrics {
        Some(address) => Some(Aborted(prometheus::serve(address, Arc::clone(&status)).await?)),
        None => None,
    };
    let live = options.serve.map(|address| live::serve(address, &status)).transpose()?;
    let _log = (!options.view).then(|| Aborted(log(&status)));
    let _demo = options.demo.then(|| Aborted(demo(options, &status)));
    let ended = enrich(options, &status, live.as_ref()).await;
    drop(view);
    let ended = ended?;
    println!("in {:.1} s: {}", status.numbers().up_for.as_secs_f64(), status.summary());
    println!(
        "{}",
        match ended {
            Some(_) => "stopped; the stream has all readings that were taken in",
            None =>
                "stopped with readings in flight; the next run resumes from the last checkpoint",
        }
    );
    Ok(ExitCode::SUCCESS)
}

/// The heart: messages go in, at most `--capacity` of them are in flight, outcomes come out, in order for
/// each device. `None`: the records in flight at Ctrl-C took too long.
async fn enrich(
    options: &Options,
    status: &Arc<Status>,
    live: Option<&ServedConsole>,
) -> anyhow::Result<Option<Ended>> {
    let store = FileStore::open(options.checkpoints()).context("the checkpoints")?;
    let outlet = Outlet::open(options, Arc::clone(status)).await?;
    let sink = StreamSink::new(outlet, &options.name, Arc::clone(status));
    let devices = Devices::new(options, Arc::clone(status))?;
    let (session, inbox) = Session::open(options, Arc::clone(status));
    status.watch_inbox(Arc::clone(&inbox));
    let source = MqttSource::new(inbox, Arc::clone(status));

    // While the database is away no message fails, because its attempts are repeated until the database is
    // back.
    let policy =
        AsyncWait::ordered_by_key(options.capacity, |message: &Message| hash_key(message.device()))
            .overlapping()
            .max_running(options.pool)
            .attempt_timeout(options.attempt_timeout)
            .retry(
                ExponentialBackoff::new(FIRST_BACKOFF)
                    .max_delay(LONGEST_BACKOFF)
                    .jitter(0.5, options.seed)
                    .max_retries(u32::MAX)
                    .when_error(|error: &EnrichError| error.is_transient()),
            );

    let reports = live.map(|console| console.pipeline("checkpoints"));
    let pipeline = Pipeline::new(source, sink, store)
        .interval(options.checkpoint_interval)
        // Otherwise the window would be used up before the interval is over.
        .every_records(u64::from(options.window / 2).max(1))
        .on_report(|report| {
            reports.iter().for_each(|reports| reports.record(&report));
            tell_of(report, status);
        });
    let stop = pipeline.stop_handle();
    let ended = pipeline.run(Tokio, |messages, checkpoint| {
        let stage = messages
            .async_wait(policy, move |message: &Message| {
                let (devices, message) = (devices.clone(), message.clone());
                async move {
                    match message {
                        Message::Reading(reading) => devices.find(reading.device).await,
                        Message::Unreadable { reason, .. } => Err(EnrichError::Unreadable(reason)),
                    }
                }
            })
            .checkpointed(STAGE.0, STAGE.1)
            .restore(checkpoint)
            .spawn(Tokio)?;
        status.watch_stage(stage.handle());
        live.inspect(|console| console.stage(STAGE.0, stage.handle()));
        Ok(stage)
    });
    let ended = tokio::select! {
        biased;
        stopped = asked_to_stop(stop, options.drain, status) => stopped.map(|()| None)?,
        ended = pin!(ended) => Some(ended?),
    };
    session.close().await;
    Ok(ended)
}

/// Reports on checkpoints for the log.
fn tell_of(report: Report<'_>, status: &Status) {
    match report {
        Report::Resumed { id, damaged: 0 } => status.say(&format!("resumes from checkpoint {id}")),
        Report::Resumed { id, damaged } => status.say(&format!(
            "resumes from checkpoint {id}; {damaged} that may be newer are damaged, and what was \
             acknowledged since is missing"
        )),
        Report::Saved { bytes, .. } => status.checkpoint_saved(bytes),
        Report::Failed { id, reason } => {
            status.say(&format!("checkpoint {id} failed, the next one covers it: {reason}"));
        }
        _ => {}
    }
}

/// On Ctrl-C or SIGTERM, takes no more input. Returns when the time for the records in flight is over, or at
/// the second signal.
async fn asked_to_stop(
    pipeline: inflight::pipeline::StopHandle,
    patience: Duration,
    status: &Status,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    status.say("stopping: the readings in flight finish (Ctrl-C again stops at once)");
    pipeline.drain();
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(patience) => {}
    }
    Ok(())
}

/// A line of the log at intervals.
fn log(status: &Arc<Status>) -> AbortHandle {
    let status = Arc::clone(status);
    let task = tokio::spawn(async move {
        loop {
            tokio::time::sleep(LOG_INTERVAL).await;
            status.say(&status.summary().to_string());
        }
    });
    task.abort_handle()
}

/// The publisher of seeded readings.
fn demo(options: &Arc<Options>, status: &Arc<Status>) -> AbortHandle {
    let (options, status) = (Arc::clone(options), Arc::clone(status));
    let task = tokio::spawn(async move {
        if let Err(error) = publisher::publish(&options, &status).await {
            status.say(&format!("demo: {error:#}"));
        }
    });
    task.abort_handle()
}

/// A task that is cancelled when its owner is dropped.
struct Aborted(AbortHandle);

impl Drop for Aborted {
    fn drop(&mut self) {
        self.0.abort();
    }
}
