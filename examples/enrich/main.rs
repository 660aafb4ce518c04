//! Enriches flights with their airports, and survives whatever happens on the way.
//!
//! ```text
//! cargo run --release --example enrich                        # all of it
//! cargo run --release --example enrich -- --crash-after 2000  # dies half-way ...
//! cargo run --release --example enrich                        # ... and goes on
//! cargo run --release --example enrich -- --help
//! ```
//!
//! [`enrich`] is the heart: a source of lines, a stage that has many requests in flight, a sink. Each
//! of the modules has one subject:
//!
//! * `options`, `problem`: the command line, and what stops a run.
//! * `job`, `identity`, `checkpoints`: where a run begins, and whether a checkpoint fits it.
//! * `input`, `line`, `source`: from bytes to lines to the elements of a stream.
//! * `service`, `airport`, `lookup`: the airport service, what it knows, and its client.
//! * `sink`, `format`: the output and the rejected lines.
//! * `counters`, `progress`, `summary`: what a person sees of it.
//! * `stop`: Ctrl-C.
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

mod airport;
mod checkpoints;
mod counters;
mod format;
mod identity;
mod input;
mod job;
mod line;
mod lookup;
mod options;
mod problem;
mod progress;
mod service;
mod sink;
mod source;
mod stop;
mod summary;

use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use inflight::prelude::*;

use crate::checkpoints::STAGE;
use crate::counters::Counters;
use crate::job::{Job, Start};
use crate::line::Line;
use crate::lookup::{Airports, LookupError};
use crate::options::{Options, Order};
use crate::problem::Problem;
use crate::progress::{Progress, say};
use crate::sink::Sink;
use crate::source::{End, Source};
use crate::stop::Stop;
use crate::summary::Summary;

/// The version of [`Line`] in a checkpoint: to be raised when its fields change.
const LINE_VERSION: u32 = 1;

const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);

/// What is in flight at Ctrl-C ends within `--timeout`, and then has this long to be written. Only what
/// waits for its turn, restored from a checkpoint, takes longer.
const GRACE: Duration = Duration::from_secs(1);

/// The heart: lines go in, at most `--capacity` of them are being looked up, outcomes come out.
async fn enrich(
    options: &Options,
    airports: Airports,
    source: Source,
    in_flight: Option<Checkpoint>,
    sink: &mut Sink,
) -> Result<End, Problem> {
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

    let out_of_patience = out_of_patience(source.stop.clone(), options.timeout);
    let mut out_of_patience = pin!(out_of_patience);
    let (lines, last_word) = source.start();
    let mut stage = lines
        .async_wait(policy, move |line: &Line| {
            let (airports, flight) = (airports.clone(), line.flight.clone());
            async move { airports.of(&flight?).await }
        })
        .checkpointed(STAGE, LINE_VERSION)
        .restore(in_flight.as_ref())
        .spawn(Tokio)
        .map_err(|error| {
            Problem::new(error.to_string(), "See --help, or start over with --fresh.")
        })?;

    loop {
        let element = tokio::select! {
            biased;
            () = &mut out_of_patience => {
                sink.give_up().await?;
                return Ok(End::GivenUp);
            }
            element = stage.next() => element,
        };
        let Some(element) = element else { break };
        match element {
            StreamElement::Record { value: outcome, .. } => sink.write(outcome).await?,
            StreamElement::Watermark(time) => sink.watermark(time),
            StreamElement::Barrier(barrier) => sink.commit(barrier.checkpoint).await?,
            StreamElement::Status(_) => {}
        }
    }

    let last_word = last_word.await.map_err(|_| {
        Problem::new("the stage ended before its input", "Run the same command again: it goes on.")
    })?;
    sink.finish(&last_word).await?;
    Ok(last_word.end)
}

/// Returns when what was in flight at Ctrl-C has had its time.
async fn out_of_patience(mut stop: Stop, timeout: Duration) {
    stop.requested().await;
    tokio::time::sleep(timeout.saturating_add(GRACE)).await;
}

fn main() -> ExitCode {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Problem::new(format!("cannot start: {error}"), "Try again when the system has room for it.")
    });
    let status = runtime.and_then(|runtime| {
        let status = runtime.block_on(run(&options));
        // Somebody may still be waiting for a line from standard input.
        runtime.shutdown_background();
        status
    });
    status.unwrap_or_else(|problem| {
        say(&problem.to_string());
        ExitCode::from(2)
    })
}

/// One run, from the files that are there to the summary.
async fn run(options: &Options) -> Result<ExitCode, Problem> {
    options.check_open_files()?;
    let job = Job::open(options).await?;
    let Start { position, written, in_flight, next } = job.start;
    let counters = Arc::new(Counters::from_checkpoint(&position, written.totals));
    let summary = |began: Instant| Summary::new(&counters, &position, &written, began.elapsed());
    if written.finished {
        let headline =
            "this job has finished already, and there is nothing to do (--fresh starts over)";
        tell(headline, &summary(Instant::now()).finished(), options)?;
        return Ok(ExitCode::SUCCESS);
    }

    let service = match &options.service {
        Some(url) => url.clone(),
        None => service::start(options)?,
    };
    let airports = Airports::new(service, counters.clone());
    let progress = Progress::start(counters.clone(), job.length);
    let source = Source {
        reader: job.reader,
        position: position.clone(),
        next,
        interval: job.checkpoints.is_some().then_some(options.checkpoint_interval),
        stop: Stop::on_ctrl_c(progress.clone()),
        counters: counters.clone(),
    };
    let mut sink = Sink {
        output: job.output,
        rejected: job.rejected,
        checkpoints: job.checkpoints,
        counters: counters.clone(),
        crash_after: options.crash_after,
    };

    let began = Instant::now();
    let ended = enrich(options, airports, source, in_flight, &mut sink).await;
    progress.end();
    match ended? {
        End::Finished => {
            tell("finished", &summary(began).finished(), options)?;
            Ok(ExitCode::SUCCESS)
        }
        end @ (End::Stopped | End::GivenUp) => {
            let headline = match (sink.checkpoints, end) {
                (None, _) => "stopped; without checkpoints it cannot go on",
                (Some(_), End::GivenUp) => {
                    "stopped before all that was in flight was finished; run the same command again \
                     and it goes on from its last checkpoint"
                }
                (Some(_), _) => "stopped; run the same command again and it goes on",
            };
            tell(headline, &summary(began), options)?;
            Ok(ExitCode::from(stop::STATUS))
        }
        End::Failed(error) => Err(Problem::file(
            "read",
            &options.input,
            "See to the file, and run the same command again: it goes on.",
        )(error)),
    }
}

/// The summary, on standard output and where `--summary` says.
fn tell(headline: &str, summary: &Summary, options: &Options) -> Result<(), Problem> {
    // Nobody may be listening; that stops nothing.
    let _ = writeln!(io::stdout(), "{headline}: {}\n{summary}", options.output.display());
    if summary.has_rejected() {
        let _ = writeln!(io::stdout(), "  rejected      see {}", options.rejected().display());
    }
    options.summary.as_deref().map_or(Ok(()), |path| summary.save(path))
}
