//! The same records with one call at a time and with many, side by side, as the published sample application does it.

use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::Context;
use aws_sdk_kinesis::Client;
use inflight_partitions::JobHandle;

use super::producer::Producer;
use super::streams::Streams;
use crate::job;
use crate::options::Options;

/// The number of records that wait when both begin.
const RECORDS: u64 = 6_000;
/// The longest time.
const TIME: Duration = Duration::from_secs(8);

/// Runs two jobs over one stream, each with an output stream and checkpoints of its own, and returns a table.
pub async fn compare(options: &Options, client: &Client) -> anyhow::Result<String> {
    let input = format!("{}-compared", options.input);
    let outputs = [format!("{}-sync", options.output), format!("{}-async", options.output)];
    let streams = Streams::create(client, [&input, &outputs[0], &outputs[1]]).await?;
    Producer::start(client, &input, RECORDS).end().await?;
    let side = |calls: usize, output: &String| Options {
        input: input.clone(),
        output: output.clone(),
        state: options.state.join(output),
        capacity: calls,
        ..options.clone()
    };
    let (sync, many) = (side(1, &outputs[0]), side(options.capacity, &outputs[1]));
    let (one_by_one, at_once) = tokio::try_join!(run(&sync, client), run(&many, client))?;
    streams.delete().await?;
    let mut table = String::from("| calls | at a time | records | seconds | records a second |\n");
    table += "| --- | --- | --- | --- | --- |\n";
    for (name, calls, Run { records, time }) in
        [("synchronous", 1, one_by_one), ("asynchronous", options.capacity, at_once)]
    {
        let (time, rate) = (time.as_secs_f64(), records as f64 / time.as_secs_f64());
        writeln!(table, "| {name} | {calls} a shard | {records} | {time:.1} | {rate:.0} |")?;
    }
    Ok(table)
}

/// What a job has done in a time.
struct Run {
    records: u64,
    time: Duration,
}

/// Runs a job until all records have an answer, or for the longest time.
async fn run(options: &Options, client: &Client) -> anyhow::Result<Run> {
    let handle: Arc<OnceLock<JobHandle<String>>> = Arc::default();
    let began = Instant::now();
    let endpoint = options.endpoint.clone().context("an endpoint")?;
    let job = job::run(options, client.clone(), &endpoint, |started| {
        let _ = handle.set(started);
    });
    let watch = async {
        loop {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let Some(job) = handle.get() else { continue };
            let records: u64 = job.view().partitions.iter().map(|shard| shard.outputs).sum();
            let time = began.elapsed();
            if records >= RECORDS || time >= TIME {
                job.leave();
                return Run { records, time };
            }
        }
    };
    let (ended, run) = tokio::join!(job, watch);
    ended?;
    Ok(run)
}
