//! Writes the records, and splits and merges shards in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use tokio::task::JoinHandle;

use super::streams::{merge, split};
use crate::patience;

/// The number of keys. Each row of records has one of each.
const KEYS: u64 = 50;

/// A record of the input stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub shard: String,
    pub sequence: String,
    pub key: String,
    /// The number of the record among those of its key.
    pub number: u64,
}

impl Written {
    pub fn text(key: &str, number: u64) -> String {
        format!("{key} {number}")
    }
}

/// A task that writes. A third of the way it splits the first shard in two, and after another third it merges one of them
/// with the second shard.
pub struct Producer {
    count: Arc<AtomicUsize>,
    task: JoinHandle<anyhow::Result<Vec<Written>>>,
}

impl Producer {
    pub fn start(client: &Client, stream: &str, records: u64) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let row = Row { client: client.clone(), stream: stream.to_owned() };
        let task = tokio::spawn(produce(row, records.div_ceil(KEYS), Arc::clone(&count)));
        Self { count, task }
    }

    pub fn written_so_far(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until all is written.
    pub async fn end(&mut self) -> anyhow::Result<Vec<Written>> {
        (&mut self.task).await?.context("the producer")
    }
}

async fn produce(row: Row, rows: u64, count: Arc<AtomicUsize>) -> anyhow::Result<Vec<Written>> {
    const SHARDS: [&str; 4] = [
        "shardId-000000000000",
        "shardId-000000000001",
        "shardId-000000000002",
        "shardId-000000000003",
    ];
    let mut written = Vec::new();
    for number in 0..rows {
        if number == rows / 3 {
            split(&row.client, &row.stream, SHARDS[0]).await.context("SplitShard")?;
        }
        if number == rows * 2 / 3 {
            merge(&row.client, &row.stream, [SHARDS[3], SHARDS[1]]).await.context("MergeShards")?;
        }
        row.put(number, &mut written).await?;
        count.store(written.len(), Ordering::Relaxed);
    }
    Ok(written)
}

struct Row {
    client: Client,
    stream: String,
}

impl Row {
    /// Puts the records with this number: one of each key, so that they keep their order.
    async fn put(&self, number: u64, written: &mut Vec<Written>) -> anyhow::Result<()> {
        let mut missing: Vec<_> = (0..KEYS).map(|key| format!("k{key:02}")).collect();
        while !missing.is_empty() {
            let entries = missing.iter().map(|key| entry(key, number));
            let entries = entries.collect::<Result<Vec<_>, _>>()?;
            let request = || {
                let request = self.client.put_records().stream_name(&self.stream);
                request.set_records(Some(entries.clone())).send()
            };
            let put = patience::call(request).await.context("PutRecords")?;
            let mut refused = Vec::new();
            for (key, put) in missing.into_iter().zip(put.records) {
                match (put.shard_id, put.sequence_number) {
                    (Some(shard), Some(sequence)) => {
                        written.push(Written { shard, sequence, key, number });
                    }
                    _ => refused.push(key),
                }
            }
            missing = refused;
        }
        Ok(())
    }
}

fn entry(key: &str, number: u64) -> anyhow::Result<PutRecordsRequestEntry> {
    let entry = PutRecordsRequestEntry::builder().partition_key(key);
    Ok(entry.data(Blob::new(Written::text(key, number))).build()?)
}
