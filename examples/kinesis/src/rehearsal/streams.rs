//! Streams that are made, changed and deleted.

use std::time::Duration;

use anyhow::{Context, bail};
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::StreamStatus;

/// Streams of two shards each.
pub struct Streams {
    client: Client,
    names: Vec<String>,
}

impl Streams {
    pub async fn create<const N: usize>(client: &Client, names: [&str; N]) -> anyhow::Result<Self> {
        for name in names {
            let created = client.create_stream().stream_name(name).shard_count(2).send().await;
            created
                .context("no stream could be created; is the emulator there? (`./up` starts it)")?;
        }
        for name in names {
            active(client, name).await?;
        }
        Ok(Self { client: client.clone(), names: names.map(str::to_owned).to_vec() })
    }

    pub async fn delete(self) -> anyhow::Result<()> {
        for name in &self.names {
            self.client.delete_stream().stream_name(name).send().await?;
        }
        Ok(())
    }
}

/// Splits a shard in the middle of its hash keys.
pub async fn split(client: &Client, stream: &str, shard: &str) -> anyhow::Result<()> {
    active(client, stream).await?;
    let shards = client.list_shards().stream_name(stream).send().await?;
    let mut shards = shards.shards().iter();
    let range = shards.find(|listed| listed.shard_id == shard);
    let range = range.and_then(|shard| shard.hash_key_range.as_ref()).context("a shard")?;
    let (low, high) = (&range.starting_hash_key, &range.ending_hash_key);
    let (low, high): (u128, u128) = (low.parse()?, high.parse()?);
    let middle = low + (high - low) / 2 + 1;
    let split = client.split_shard().stream_name(stream).shard_to_split(shard);
    split.new_starting_hash_key(middle.to_string()).send().await?;
    Ok(())
}

/// Merges two shards that have adjacent hash keys.
pub async fn merge(client: &Client, stream: &str, shards: [&str; 2]) -> anyhow::Result<()> {
    active(client, stream).await?;
    let merge = client.merge_shards().stream_name(stream);
    merge.shard_to_merge(shards[0]).adjacent_shard_to_merge(shards[1]).send().await?;
    Ok(())
}

/// Waits until a stream can be changed.
async fn active(client: &Client, stream: &str) -> anyhow::Result<()> {
    for _ in 0..200 {
        let found = client.describe_stream_summary().stream_name(stream).send().await?;
        let summary = found.stream_description_summary();
        if summary.is_some_and(|it| it.stream_status == StreamStatus::Active) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("the stream {stream} does not become active")
}
