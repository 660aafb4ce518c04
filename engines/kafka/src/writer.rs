//! A partition's transactional producer, and its transactions one after the other. All calls block.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inflight_core::{CheckpointId, Loaded};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, PurgeConfig};

use crate::error::KafkaJobError;
use crate::fetcher::Fetcher;
use crate::metadata::{self, Commit};
use crate::record::Message;

/// The time for the end of a transaction, also when the limit is over. One that stays open hides the output of others.
const LEAST: Duration = Duration::from_secs(1);

/// The owner of a partition, if it has claimed it.
pub(crate) struct Writer {
    config: ClientConfig,
    fetcher: Arc<Fetcher>,
    topic: String,
    partition: i32,
    id: String,
    limit: Duration,
    /// `None` before the claim.
    producer: Option<BaseProducer>,
    last: Last,
    /// The number of the latest call.
    latest_call: u64,
}

/// The last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Last {
    /// There was none, or it was aborted.
    Aborted,
    /// It is to be aborted before the next one. The brokers were never told to commit it.
    ToAbort,
    /// The brokers were told to commit it, and nobody knows whether they did.
    Undecided(CheckpointId),
    Committed(CheckpointId),
}

impl Writer {
    pub(crate) fn new(
        config: &ClientConfig,
        fetcher: Arc<Fetcher>,
        topic: &str,
        partition: i32,
        id: String,
        limit: Duration,
    ) -> Self {
        let mut config = config.clone();
        config.set("transactional.id", &id);
        if config.get("transaction.timeout.ms").is_none() {
            let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1000);
            config.set("transaction.timeout.ms", limit.to_string());
        }
        let (topic, last) = (topic.to_owned(), Last::Aborted);
        let producer = None;
        Self { config, fetcher, topic, partition, id, limit, producer, last, latest_call: 0 }
    }

    /// Begins a call, unless a later one has begun: the call of a future that was dropped may come late.
    pub(crate) fn enter(&mut self, call: u64) -> Result<(), KafkaJobError> {
        if call < self.latest_call {
            return Err(KafkaJobError::Superseded);
        }
        self.latest_call = call;
        Ok(())
    }

    /// Makes a new producer, which fences the one before and ends its transaction, and reads what is committed then.
    pub(crate) fn claim(&mut self) -> Result<Option<Loaded>, KafkaJobError> {
        (self.producer, self.last) = (None, Last::Aborted);
        let producer: BaseProducer = self.config.create()?;
        self.tell(producer.init_transactions(self.limit))?;
        let latest = read(&self.fetcher, &self.topic, self.partition, self.limit)?;
        self.producer = Some(producer);
        Ok(latest)
    }

    /// Commits messages and offset in one transaction.
    pub(crate) fn commit(
        &mut self,
        commit: &Commit,
        messages: &[Message],
    ) -> Result<(), KafkaJobError> {
        let deadline = Instant::now() + self.limit;
        self.settle(deadline)?;
        self.last = Last::Aborted; // the one before is of no interest any more
        self.tell(self.producer()?.begin_transaction())?;
        self.last = Last::ToAbort;
        if let Err(error) = self.write(commit, messages, deadline) {
            // Its error says more than that of the abort, which comes again before the next commit; unless that is the fence.
            let fenced = self.abort(deadline).err().filter(KafkaJobError::is_final);
            return Err(fenced.unwrap_or(error));
        }
        self.finish(commit.id, deadline)
    }

    /// Whether the last transaction, which has this id, was committed.
    pub(crate) fn is_committed(&mut self, id: CheckpointId) -> Result<bool, KafkaJobError> {
        self.producer()?;
        if let Last::Undecided(undecided) = self.last {
            match self.finish(undecided, Instant::now() + self.limit) {
                Err(error) if matches!(self.last, Last::Undecided(_)) || error.is_final() => {
                    return Err(error);
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(self.last == Last::Committed(id))
    }

    fn producer(&self) -> Result<&BaseProducer, KafkaJobError> {
        self.producer.as_ref().ok_or(KafkaJobError::NotClaimed)
    }

    /// Sorts the client's error.
    fn tell<T>(&self, result: Result<T, ClientError>) -> Result<T, KafkaJobError> {
        result.map_err(|error| KafkaJobError::of_producer(error, &self.id))
    }

    /// Ends the last transaction, if that was not possible before.
    fn settle(&mut self, deadline: Instant) -> Result<(), KafkaJobError> {
        match self.last {
            Last::Undecided(id) => self.finish(id, deadline),
            Last::ToAbort => self.abort(deadline),
            Last::Aborted | Last::Committed(_) => Ok(()),
        }
    }

    /// Writes everything of a transaction.
    fn write(
        &self,
        commit: &Commit,
        messages: &[Message],
        deadline: Instant,
    ) -> Result<(), KafkaJobError> {
        let producer = self.producer()?;
        for message in messages {
            send(producer, message, deadline)?;
        }
        take_reports(producer, deadline);
        let offsets = commit.list(&self.topic, self.partition)?;
        let group = self.fetcher.group()?;
        self.tell(producer.send_offsets_to_transaction(&offsets, &group, left(deadline)))
    }

    /// Tells the brokers to commit, for the first time or again.
    fn finish(&mut self, id: CheckpointId, deadline: Instant) -> Result<(), KafkaJobError> {
        let Err(error) = self.producer()?.commit_transaction(left(deadline).max(LEAST)) else {
            self.last = Last::Committed(id);
            return Ok(());
        };
        let is_refused = match &error {
            ClientError::Transaction(told) => told.txn_requires_abort(),
            ClientError::Flush(_) => self.last == Last::ToAbort, // the brokers were not told
            _ => false,
        };
        if !is_refused {
            self.last = Last::Undecided(id);
            return self.tell(Err(error));
        }
        self.last = Last::ToAbort;
        self.abort(deadline)?;
        self.tell(Err(error))
    }

    fn abort(&mut self, deadline: Instant) -> Result<(), KafkaJobError> {
        let deadline = deadline.max(Instant::now() + LEAST);
        let producer = self.producer()?;
        // The client waits for the messages that are under way, and does not take the reports of them meanwhile.
        producer.purge(PurgeConfig::default().queue());
        take_reports(producer, deadline);
        self.tell(producer.abort_transaction(left(deadline)))?;
        self.last = Last::Aborted;
        Ok(())
    }
}

/// Reads the checkpoint in the group's committed offset.
pub(crate) fn read(
    fetcher: &Fetcher,
    topic: &str,
    partition: i32,
    limit: Duration,
) -> Result<Option<Loaded>, KafkaJobError> {
    let committed = fetcher.committed(partition, limit)?;
    committed.find_partition(topic, partition).map_or(Ok(None), |element| metadata::read(&element))
}

/// Waits until the brokers have, or have refused, each message. The client's own wait would look only each 100 ms.
fn take_reports(producer: &BaseProducer, deadline: Instant) {
    while producer.in_flight_count() > 0 && left(deadline) > Duration::ZERO {
        producer.poll(Duration::from_millis(1));
    }
}

/// Gives a message to the client, after waiting for room in its queue.
fn send(
    producer: &BaseProducer,
    message: &Message,
    deadline: Instant,
) -> Result<(), KafkaJobError> {
    let mut record = BaseRecord::to(&message.topic).headers(headers(message));
    record.partition = message.partition;
    record.key = message.key.as_deref();
    record.payload = message.value.as_deref();
    record.timestamp = message.timestamp.map(|time| time.as_millis());
    loop {
        record = match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((ClientError::MessageProduction(RDKafkaErrorCode::QueueFull), record))
                if left(deadline) > Duration::ZERO =>
            {
                record
            }
            Err((error, _)) => return Err(error.into()),
        };
        producer.poll(Duration::from_millis(1));
    }
}

fn headers(message: &Message) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(message.headers.len());
    message.headers.iter().fold(headers, |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_deref() })
    })
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}
