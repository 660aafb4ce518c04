//! Reads a shard, from any point in it to its end.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::types::{Record as Stored, ShardIteratorType};

use inflight::Timestamp;

use crate::patience::{self, CallError};
use crate::record::Record;

/// The most records of a read.
const LIMIT: i32 = 1_000;

/// A reader of one shard.
#[derive(Debug)]
pub struct Reader {
    client: Client,
    stream: String,
    shard: Arc<str>,
    /// The number of the last record that was read; `None` at the beginning.
    after: Option<String>,
    /// Where Kinesis goes on; `None` if it is to be asked.
    iterator: Option<String>,
    /// The pause after a read that has found nothing. Kinesis allows five reads of a shard a second.
    pause: Duration,
}

/// What a read has found.
#[derive(Debug)]
pub struct Batch {
    pub records: Vec<Record>,
    /// No record of the shard follows now.
    pub is_latest: bool,
    /// The shard was split or merged, and none of its records follows.
    pub is_end: bool,
}

impl Reader {
    pub fn new(client: Client, stream: &str, shard: &str, pause: Duration) -> Self {
        let (stream, shard) = (stream.to_owned(), shard.into());
        Self { client, stream, shard, after: None, iterator: None, pause }
    }

    /// Goes behind the record with this number; with `None`, to the first record that the stream has kept.
    pub async fn go(&mut self, after: Option<String>) -> Result<(), CallError> {
        self.after = after;
        self.iterator = Some(self.find().await?);
        Ok(())
    }

    /// Reads on. It takes the reader and returns it, so that the future can be kept beside other fields of its owner.
    pub async fn read(mut self) -> Result<(Self, Batch), CallError> {
        loop {
            let iterator = match self.iterator.take() {
                Some(iterator) => iterator,
                None => self.find().await?,
            };
            let request =
                || self.client.get_records().shard_iterator(iterator.clone()).limit(LIMIT).send();
            let read = match patience::call(request).await {
                Ok(read) => read,
                // An iterator lives for five minutes, and a stage that is full takes no record for longer.
                Err(SdkError::ServiceError(refused))
                    if refused.err().is_expired_iterator_exception() =>
                {
                    continue;
                }
                Err(error) => return Err(CallError::new("GetRecords", error)),
            };
            let is_end = read.next_shard_iterator.is_none();
            let is_latest = read.millis_behind_latest == Some(0);
            self.iterator = read.next_shard_iterator;
            let records = read.records.into_iter().map(|stored| self.record(stored));
            let records: Vec<_> = records.collect();
            if let Some(last) = records.last() {
                self.after = Some(last.sequence.clone());
            } else if !is_end {
                tokio::time::sleep(self.pause).await;
            }
            return Ok((self, Batch { records, is_latest, is_end }));
        }
    }

    async fn find(&self) -> Result<String, CallError> {
        let request = || {
            let request = self.client.get_shard_iterator();
            let request = request.stream_name(&self.stream).shard_id(&*self.shard);
            match &self.after {
                Some(number) => request
                    .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                    .starting_sequence_number(number),
                None => request.shard_iterator_type(ShardIteratorType::TrimHorizon),
            }
            .send()
        };
        let found = patience::call(request).await;
        let found = found.map_err(|error| CallError::new("GetShardIterator", error))?;
        Ok(found.shard_iterator.unwrap_or_default())
    }

    fn record(&self, stored: Stored) -> Record {
        let arrived = stored.approximate_arrival_timestamp.and_then(|at| at.to_millis().ok());
        Record {
            shard: Arc::clone(&self.shard),
            sequence: stored.sequence_number,
            key: stored.partition_key,
            data: stored.data.into_inner(),
            arrived: arrived.map(Timestamp::from_millis),
        }
    }
}
