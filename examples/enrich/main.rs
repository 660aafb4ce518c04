//! Enriches flights with their airports, and survives crashes on the way.
//!
//! ```text
//! cargo run --release --example enrich                        # all of it
//! cargo run --release --example enrich -- --crash-after 2000  # dies half-way ...
//! cargo run --release --example enrich                        # ... and resumes
//! cargo run --release --example enrich -- --help
//! ```
//!
//! [`enrich`] is the heart: a source of lines, a stage that has many requests in flight, a sink, and a store;
//! the library does the rest. Each module has one subject:
//!
//! * `options`, `problem`: the command line, and the errors that stop a run.
//! * `job`, `identity`, `checkpoints`: the start of a run, and the check that a checkpoint fits it.
//! * `input`, `line`, `source`: the lines, and the flights and days in them.
//! * `service`, `airport`, `lookup`: the airport service, its data, and its client.
//! * `sink`, `format`: the output and the rejected lines.
//! * `counters`, `pace`, `screen`, `progress`, `live`, `summary`: the numbers for the user; `terminal` is shared with the
//!   gateway.
//! * `stop`: Ctrl-C, up to three times.
//! * `rehearsal`: hooks for the tests that kill the program.
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

mod airport;
mod checkpoints;
mod counters;
mod format;
mod identity;
mod input;
mod job;
mod line;
mod live;
mod lookup;
mod options;
mod pace;
mod problem;
mod progress;
mod rehearsal;
mod screen;
mod service;
mod sink;
mod source;
mod stop;
mod summary;
#[path = "../terminal/mod.rs"]
mod terminal;

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use inflight::lines::LinesError;
use inflight::pipeline::{Ended, Pipeline, PipelineError, Report};
use inflight::prelude::*;
use inflight::{NullStore, StageHandle};

use crate::counters::Counters;
use crate::job::{Job, Start};
use crate::line::Line;
use crate::live::Live;
use crate::lookup::{Airports, LookupError};
use crate::options::{Mode, Options, Order};
use crate::problem::Problem;
use crate::progress::{Progress, say};
use crate::rehearsal::Rehearsal;
use crate::sink::Sink;
use crate::source::Source;
use crate::summary::Summary;

/// The stage's name in a checkpoint.
const STAGE: &str = "enrich";

/// The version of [`Line`] in a checkpoint: raise it when the fields of `Line` change.
const LINE_VERSION: u32 = 1;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// After Ctrl-C the records in flight end within `--timeout`, and then have this long to be written. Only
/// restored records that wait for a slot take longer. They are handed over.
const GRACE: Duration = Duration::from_secs(1);

/// The heart: lines go in, at most `--capacity` of them are looked up at once, outcomes come out.
async fn enrich<S: CheckpointStore>(
    options: &Options,
    airports: Airports,
    source: Source,
    sink: Sink,
    store: S,
    progress: &Progress,
    live: &Live,
) -> Result<Ended, PipelineError<LinesError, LinesError, S::Error>> {
    let queue = match options.order {
        Order::Ordered => AsyncWait::ordered,
        Order::Unordered => AsyncWait::unordered,
    };
    let policy = queue(options.capacity())
        .timeout(options.timeout)
        .attempt_timeout(options.attempt_timeout)
        .retry(
            ExponentialBackoff::new(FIRST_BACKOFF)
                .max_delay(LONGEST_BACKOFF)
                .max_retries(options.retries)
                .when_error(|error: &LookupError| error.is_transient()),
        );

    let look_up = move |line: &Line, attempt| {
        let (airports, flight) = (airports.clone(), line.flight.clone());
        async move { airports.of(&flight?, attempt).await }
    };

    let counters = sink.counters.clone();
    let pipeline = Pipeline::new(source, sink, store)
        .interval(options.checkpoint_interval)
        .on_report(|report| {
            live.report(&report);
            tell_of(report, &counters, progress);
        });
    let patience = options.timeout.saturating_add(GRACE);
    stop::on_ctrl_c(pipeline.stop_handle(), patience, counters.clone(), progress.clone());
    let watch = |stage: StageHandle| {
        progress.watch(stage.clone());
        live.stage(stage);
    };
    let pipeline = match options.checkpoint {
        Mode::Positions => {
            let running = pipeline.run_positions_only(Tokio, |lines, recovery| {
                let look_up = with_attempt(move |line: &Tracked<Line>, info| look_up(line, info));
                let stage = lines.async_wait_with(policy, look_up).positions_only(recovery);
                stage.spawn(Tokio).inspect(|stage| watch(stage.handle()))
            });
            return running.await;
        }
        Mode::Snapshot => pipeline,
        Mode::Drain => pipeline.draining(None),
    };
    let running = pipeline.run(Tokio, |lines, recovery| {
        let stage = lines.async_wait_with(policy, with_attempt(look_up));
        let stage = stage.checkpointed(STAGE, LINE_VERSION).restore(recovery);
        stage.spawn(Tokio).inspect(|stage| watch(stage.handle()))
    });
    running.await
}

/// Reports on checkpoints for the user.
fn tell_of(report: Report<'_>, counters: &Counters, progress: &Progress) {
    match report {
        Report::Saved { .. } => counters.checkpoints.add(1),
        Report::Failed { id, reason } => progress.say(&format!(
            "checkpoint {id} failed, the next one covers it: {}",
            problem::with_causes(reason)
        )),
        _ => {}
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Problem::new(format!("cannot start: {error}"), "Try again when the system has room for it.")
    });
    let status = runtime.and_then(|runtime| {
        let status = runtime.block_on(run(&options));
        // A thread may still be waiting for a line from standard input.
        runtime.shutdown_background();
        status
    });
    status.unwrap_or_else(|problem| {
        say(&problem.to_string());
        ExitCode::from(2)
    })
}

/// One run, from opening the files to the summary.
async fn run(options: &Options) -> Result<ExitCode, Problem> {
    options.check_open_files()?;
    let Job { lines, length, output, rejected, checkpoints, identity, start } =
        Job::open(options).await?;
    let Start { position, written, is_finished } = start;
    let counters = Arc::new(Counters::from_checkpoint(&position, written.totals));
    let summary = |began: Instant| Summary::new(&counters, &position, &written, began.elapsed());
    if is_finished {
        let headline = "this job has finished already (--fresh starts from the beginning)";
        tell(headline, &summary(Instant::now()).finished(), options)?;
        return Ok(ExitCode::SUCCESS);
    }

    let service = match &options.service {
        Some(url) => url.clone(),
        None => service::start(options)?,
    };
    let live = Live::serve(options.serve)?;
    let airports = Airports::new(service, counters.clone());
    let progress = Progress::start(counters.clone(), length);
    let source = Source::new(lines, counters.clone());
    let (crash_after, rehearsal) = (options.crash_after, Rehearsal::from_environment());
    let sink =
        Sink { output, rejected, identity, counters: counters.clone(), crash_after, rehearsal };

    let (began, goes_on) = (Instant::now(), checkpoints.is_some());
    let ended: Result<_, Problem> = match checkpoints {
        Some(checkpoints) => {
            let store = checkpoints.store;
            enrich(options, airports, source, sink, store, &progress, &live)
                .await
                .map_err(Problem::from)
        }
        None => {
            let store = NullStore;
            enrich(options, airports, source, sink, store, &progress, &live)
                .await
                .map_err(Problem::from)
        }
    };
    progress.end();
    let headline = match ended? {
        Ended::Finished => {
            tell("finished", &summary(began).finished(), options)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ if !goes_on => "stopped; without checkpoints it cannot resume",
        Ended::HandedOver => {
            "stopped with records in flight; run the same command again to resume from the last \
             checkpoint"
        }
        _ => "stopped; run the same command again to resume",
    };
    tell(headline, &summary(began), options)?;
    Ok(ExitCode::from(stop::STATUS))
}

/// Prints the summary, and writes it to the file of `--summary`.
fn tell(headline: &str, summary: &Summary, options: &Options) -> Result<(), Problem> {
    // Standard output may be closed; that is not an error.
    let _ = writeln!(io::stdout(), "{headline}: {}\n{summary}", options.output.display());
    if summary.has_rejected() {
        let _ = writeln!(io::stdout(), "  rejected      see {}", options.rejected().display());
    }
    options.summary.as_deref().map_or(Ok(()), |path| summary.save(path))
}
