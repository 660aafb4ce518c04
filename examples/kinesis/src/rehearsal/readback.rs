//! Reads the output stream while it grows.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context;
use aws_sdk_kinesis::Client;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::patience::CallError;
use crate::reader::Reader;
use crate::record::{Answer, Record};

/// An answer with the key under which it was put.
pub type Keyed = (String, Answer);

/// The answers of a stream, in order for each key.
pub struct Readback {
    answers: Vec<Keyed>,
    distinct: BTreeSet<(String, String)>,
    records: UnboundedReceiver<Result<Record, CallError>>,
    _readers: JoinSet<()>,
}

impl Readback {
    pub async fn start(client: &Client, stream: &str, pause: Duration) -> anyhow::Result<Self> {
        let (sender, records) = unbounded_channel();
        let mut readers = JoinSet::new();
        let shards = client.list_shards().stream_name(stream).send().await?;
        for shard in shards.shards() {
            let reader = Reader::new(client.clone(), stream, &shard.shard_id, pause);
            readers.spawn(read(reader, sender.clone()));
        }
        let (answers, distinct) = (Vec::new(), BTreeSet::new());
        Ok(Self { answers, distinct, records, _readers: readers })
    }

    /// Takes what comes for so long.
    pub async fn collect_for(&mut self, time: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + time;
        while let Ok(record) = timeout_at(end, self.records.recv()).await {
            self.take(record)?;
        }
        Ok(())
    }

    /// Takes the next answer; `false` if none comes for so long.
    pub async fn collect_next(&mut self, patience: Duration) -> anyhow::Result<bool> {
        let Ok(record) = timeout(patience, self.records.recv()).await else { return Ok(false) };
        self.take(record)?;
        Ok(true)
    }

    fn take(&mut self, record: Option<Result<Record, CallError>>) -> anyhow::Result<()> {
        let record = record.context("the output stream has ended")??;
        let answer: Answer = serde_json::from_slice(&record.data).context("an answer")?;
        self.distinct.insert((answer.shard.clone(), answer.sequence.clone()));
        self.answers.push((record.key, answer));
        Ok(())
    }

    /// The number of records that have an answer.
    pub fn distinct(&self) -> usize {
        self.distinct.len()
    }

    pub fn all(&self) -> &[Keyed] {
        &self.answers
    }
}

async fn read(mut reader: Reader, sender: UnboundedSender<Result<Record, CallError>>) {
    if let Err(error) = reader.go(None).await {
        let _ = sender.send(Err(error));
        return;
    }
    loop {
        let batch = match reader.read().await {
            Ok((again, batch)) => {
                reader = again;
                batch
            }
            Err(error) => {
                let _ = sender.send(Err(error));
                return;
            }
        };
        for record in batch.records {
            if sender.send(Ok(record)).is_err() {
                return; // nobody collects any more
            }
        }
    }
}
