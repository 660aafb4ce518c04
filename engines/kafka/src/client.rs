//! A job's settings, and its client in this process.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use inflight_core::Loaded;
use inflight_core::pipeline::Output;
use rdkafka::config::ClientConfig;

use crate::blocking;
use crate::error::{KafkaJobError, WriteError};
use crate::fetcher::Fetcher;
use crate::group::KafkaGroup;
use crate::record::Message;
use crate::source::KafkaSource;
use crate::transaction::KafkaTransaction;
use crate::writer::{self, Writer};

/// The settings of a job over a topic's partitions. See the [crate's page](crate).
#[derive(Clone)]
pub struct KafkaJob {
    config: ClientConfig,
    group: String,
    topic: String,
    limit: Duration,
    hand_over_limit: Duration,
    metadata_limit: usize,
}

impl KafkaJob {
    /// A job that reads a topic. The group's name is the job's name: its committed offsets are the job's checkpoints, so no other
    /// program may commit in it.
    ///
    /// `config` has the settings of librdkafka that all clients of the job need, first of all `bootstrap.servers`. The crate sets
    /// itself what its promises depend on: `group.id`, `transactional.id`, `isolation.level`, `enable.auto.commit`,
    /// `auto.offset.reset`, `enable.partition.eof`, `partition.assignment.strategy`. It sets `transaction.timeout.ms`,
    /// `max.poll.interval.ms` and `statistics.interval.ms` if the configuration does not.
    pub fn new(config: ClientConfig, group: impl Into<String>, topic: impl Into<String>) -> Self {
        Self {
            config,
            group: group.into(),
            topic: topic.into(),
            limit: Duration::from_secs(30),
            hand_over_limit: Duration::from_secs(60),
            metadata_limit: 4096,
        }
    }

    /// The longest time for a call to the brokers: a claim, a commit, opening a source; 30 seconds without this call, at least one. A
    /// transaction that takes longer is given up. Readers of the output wait as long for a process that has died in one, or until
    /// the partition is claimed again.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit.max(Duration::from_secs(1));
        self
    }

    /// The longest time for which a change of the group waits for partitions that are handed over; 60 seconds without this call. It
    /// should be longer than the job's own limit for a hand-over, and must be shorter than `max.poll.interval.ms`, after which the
    /// group gives up this member.
    #[must_use]
    pub fn hand_over_limit(mut self, limit: Duration) -> Self {
        self.hand_over_limit = limit;
        self
    }

    /// The longest metadata of a committed offset, in bytes, as the brokers' `offset.metadata.max.bytes` says; 4,096 without this
    /// call. A checkpoint takes four thirds of its length, and a few bytes. The protocol takes up to 32,767.
    #[must_use]
    pub fn metadata_limit(mut self, bytes: usize) -> Self {
        self.metadata_limit = bytes.min(32_767);
        self
    }

    /// Makes the client, and starts its thread. It does not wait for a connection.
    ///
    /// # Errors
    ///
    /// [`KafkaJobError::Client`] for a configuration that the client does not take, [`KafkaJobError::Thread`].
    pub fn start(self) -> Result<KafkaClient, KafkaJobError> {
        let fetcher = Fetcher::start(&self.config, &self.group, &self.topic)?;
        Ok(KafkaClient { job: self, fetcher: Arc::new(fetcher) })
    }
}

/// Without the configuration, which may contain passwords.
impl fmt::Debug for KafkaJob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KafkaJob");
        shown.field("group", &self.group).field("topic", &self.topic).field("limit", &self.limit);
        shown.finish_non_exhaustive()
    }
}

/// A job's client in this process: one consumer for all partitions. Clones share it.
#[derive(Clone)]
pub struct KafkaClient {
    job: KafkaJob,
    fetcher: Arc<Fetcher>,
}

impl KafkaClient {
    /// Joins the group, as one member, which decides on the partitions of this process.
    ///
    /// # Errors
    ///
    /// [`KafkaJobError::Client`], [`KafkaJobError::Thread`].
    pub fn group(&self) -> Result<KafkaGroup, KafkaJobError> {
        let KafkaJob { config, group, topic, hand_over_limit, .. } = &self.job;
        KafkaGroup::join(config, group, topic, *hand_over_limit)
    }

    /// A partition's source. At most one of a partition is open in a process.
    pub fn source(&self, partition: i32) -> KafkaSource {
        KafkaSource::new(Arc::clone(&self.fetcher), partition, self.job.limit)
    }

    /// A partition's transaction. `write` makes messages of an outcome: none, one (in a `Some` or an array) or several. If it returns
    /// an error, nothing is committed, and the next checkpoint's call has the same outputs first.
    ///
    /// The `transactional.id` is the group's name, the topic and the partition, with dashes between them.
    pub fn transaction<T, W, I>(&self, partition: i32, write: W) -> KafkaTransaction<W>
    where
        W: FnMut(&Output<T>) -> Result<I, WriteError>,
        I: IntoIterator<Item = Message>,
    {
        let KafkaJob { config, group, topic, limit, metadata_limit, .. } = &self.job;
        let id = format!("{group}-{topic}-{partition}");
        let fetcher = Arc::clone(&self.fetcher);
        let writer = Writer::new(config, fetcher, topic, partition, id, *limit);
        KafkaTransaction::new(writer, *metadata_limit, write)
    }

    /// Reads a partition's latest checkpoint without claiming the partition, so its owner goes on; `None` if none was saved.
    ///
    /// # Errors
    ///
    /// [`KafkaJobError::ForeignOffset`], [`KafkaJobError::Client`], [`KafkaJobError::NoRuntime`].
    pub async fn read_latest(&self, partition: i32) -> Result<Option<Loaded>, KafkaJobError> {
        let (fetcher, topic) = (Arc::clone(&self.fetcher), self.job.topic.clone());
        let limit = self.job.limit;
        blocking::call(move || writer::read(&fetcher, &topic, partition, limit)).await
    }
}

impl fmt::Debug for KafkaClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaClient").field("job", &self.job).finish_non_exhaustive()
    }
}
