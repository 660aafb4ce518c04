//! The job: a pipeline for each shard.

use std::time::Duration;

use anyhow::Context;
use aws_sdk_kinesis::Client;
use inflight::prelude::*;
use inflight::{FileStore, KeySelector, hash_key};
use inflight_partitions::{Event, JobHandle, Partition, Partitions};

use crate::ask::{AskError, Endpoint};
use crate::graph::Graph;
use crate::options::Options;
use crate::reader::Reader;
use crate::record::Record;
use crate::shards::{Shards, folder};
use crate::sink::KinesisSink;
use crate::source::KinesisSource;

/// Runs until the handle that `started` gets makes this worker leave.
pub async fn run(
    options: &Options,
    client: Client,
    endpoint: &str,
    started: impl FnOnce(JobHandle<String>),
) -> anyhow::Result<()> {
    let endpoint = Endpoint::new(endpoint).context("the endpoint")?;
    let calls = Permits::new(options.calls)?;
    let graph = if options.children_first { Graph::children_first() } else { Graph::default() };
    let shards = Shards::new(client.clone(), &options.input, &options.state, graph);
    let job = Partitions::new(shards).on_event(|event| tell(options, &event));
    started(job.handle());
    let pipeline = async |shard: Partition<String>| {
        let reader = Reader::new(client.clone(), &options.input, shard.id(), options.pause);
        let sink = KinesisSink::new(client.clone(), &options.output);
        let store = FileStore::open(folder(&options.state, shard.id()))?;
        let endpoint = endpoint.clone();
        let ask = move |record: &Tracked<Record>| endpoint.clone().ask((**record).clone());
        let ended = shard
            .pipeline(KinesisSource::new(reader), sink, store)
            .interval(options.interval)
            .run_positions_only(Tokio, |records, recovery| {
                records
                    .async_wait(policy(options.capacity), ask)
                    .permits(&calls)
                    .positions_only(recovery)
                    .spawn(Tokio)
            });
        Ok::<_, anyhow::Error>(ended.await?)
    };
    Ok(job.run(Tokio, pipeline).await?)
}

/// Calls overlap, also those of one key, and the answers of a key leave in order. The timeout is the sample application's.
fn policy(
    capacity: usize,
) -> AsyncWait<
    impl RetryStrategy<Tracked<Record>, String, AskError>,
    impl KeySelector<Tracked<Record>>,
> {
    const RETRIES: u32 = 8;
    let backoff = ExponentialBackoff::new(Duration::from_millis(50)).max_retries(RETRIES);
    AsyncWait::ordered_by_key(capacity, |record: &Tracked<Record>| hash_key(&record.key))
        .overlapping()
        .timeout(Duration::from_secs(30))
        .retry(backoff.when_error(AskError::passes))
}

fn tell(options: &Options, event: &Event<'_, String>) {
    match event {
        _ if options.is_try => {}
        Event::Failed { partition, error, retry_in } => {
            let again = retry_in.map_or("not again".into(), |time| format!("again in {time:?}"));
            eprintln!("{partition}: {error}; {again}");
        }
        Event::Started { partition, .. } => eprintln!("{partition}: begins"),
        Event::Finished { partition } => eprintln!("{partition}: is finished"),
        _ => {}
    }
}
