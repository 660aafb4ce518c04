//! `--try`: the job in a process of its own, which is killed again and again while shards are split and merged; and every answer
//! compared.

mod compare;
mod producer;
mod readback;
pub mod streams;
mod tally;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, bail};
use aws_sdk_kinesis::Client;

use self::producer::Producer;
use self::readback::Readback;
use self::streams::Streams;
use self::tally::Tally;
use self::worker::Worker;
use crate::options::Options;
use crate::service;

/// The longest time without another answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with 0 only if no answer is missing, doubled, out of order or wrong.
pub async fn rehearse(options: &Options, client: &Client) -> anyhow::Result<ExitCode> {
    let Some(emulator) = &options.emulator else { bail!("--try needs an emulator") };
    let endpoint = service::start(options.latency).await.context("the endpoint")?;
    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let name = format!("try-{}", began.as_millis());
    let (input, output) = (format!("{name}-in"), format!("{name}-out"));
    let state = options.state.join(&name);
    let run = Options {
        emulator: Some(emulator.clone()),
        input: input.clone(),
        output: output.clone(),
        endpoint: Some(endpoint),
        state: state.clone(),
        ..options.clone()
    };
    let streams = Streams::create(client, [&input, &output]).await?;
    let tally = crashes(&run, client).await?;
    println!("{tally}");
    if !options.no_comparison && tally.is_right() {
        println!("\n{}", compare::compare(&run, client).await?);
    }
    streams.delete().await?;
    if tally.is_right() {
        std::fs::remove_dir_all(&state)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the checkpoints and the job's log are in {}", state.display());
    Ok(ExitCode::FAILURE)
}

/// Runs the job in one life after the other while records are written, and compares.
async fn crashes(options: &Options, client: &Client) -> anyhow::Result<Tally> {
    let mut producer = Producer::start(client, &options.input, options.records);
    let mut answers = Readback::start(client, &options.output, options.pause).await?;
    let mut kills = Vec::new();
    for number in 0..options.kills {
        let worker = Worker::start(options)?;
        answers.collect_for(life(number)).await?;
        worker.kill().await?;
        kills.push(answers.distinct() < producer.written_so_far());
    }
    let worker = Worker::start(options)?;
    let written = producer.end().await?;
    while answers.distinct() < written.len() {
        if !answers.collect_next(PATIENCE).await? {
            break; // the rest is lost
        }
    }
    worker.leave().await.with_context(|| log_of(options))?;
    answers.collect_for(Duration::from_secs(1)).await?; // whatever may come again
    let open = kills.iter().filter(|is_open| **is_open).count();
    Ok(Tally::new(&written, answers.all(), (kills.len(), open)))
}

/// The time from a start of the job to its kill: from 0.2 to 1.4 s.
fn life(number: u32) -> Duration {
    Duration::from_millis(200 + u64::from(number) * 730 % 1_200)
}

fn log_of(options: &Options) -> String {
    let log: PathBuf = worker::log(options);
    format!("the job's log is {}", log.display())
}
