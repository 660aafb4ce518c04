//! The keys of a job in a bucket, and what is written there.

use std::time::Duration;

use async_nats::jetstream::context::CreateKeyValueErrorKind;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{Context, Message as Received, kv};
use async_nats::{HeaderMap, HeaderValue, header};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::batch::{self, Message};
use crate::error::JetStreamError;
use crate::reader::Reader;
use crate::server;

/// The content of a key. A deleted key has none; only those of workers are deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Entry {
    /// A worker that lives.
    Worker {
        name: String,
        /// It takes no more partitions, and gives back those that it has.
        leaves: bool,
    },
    /// A worker has the partition, as long as its session lives.
    Lease { session: String, worker: String },
    /// The worker that had the partition has given it back.
    Free,
    /// Nobody needs the partition any more.
    Finished,
}

/// A key of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Worker(String),
    Partition(String),
}

/// A change of a key.
#[derive(Debug)]
pub(super) struct News {
    pub(super) key: Key,
    pub(super) revision: u64,
    /// `None` if the key was deleted.
    pub(super) entry: Option<Entry>,
}

pub(super) struct Bucket {
    context: Context,
    name: String,
    pub(super) ttl: Duration,
}

impl Bucket {
    /// Finds the bucket, or creates it.
    pub(super) async fn open(
        context: Context,
        name: String,
        ttl: Duration,
        replicas: usize,
    ) -> Result<Self, JetStreamError> {
        server::require_version(&context)?;
        let config = kv::Config {
            bucket: name.clone(),
            history: 1,
            num_replicas: replicas,
            // The server tells those who watch that a key's time is over.
            limit_markers: Some(ttl),
            ..kv::Config::default()
        };
        let created = context.create_key_value(config).await;
        if let Err(error) = created
            && error.kind() != CreateKeyValueErrorKind::BucketCreate
        {
            return Err(JetStreamError::request(error));
        }
        let bucket = Self { context, name, ttl };
        let stream = server::stream(&bucket.context, &bucket.stream()).await?;
        let config = &stream.cached_info().config;
        let is_suitable = config.allow_message_ttl
            && config.subject_delete_marker_ttl.is_some_and(|ttl| !ttl.is_zero())
            && config.max_age.is_zero();
        if is_suitable {
            return Ok(bucket);
        }
        let why = "a bucket of leases needs markers of limits, and no time to live for all keys";
        Err(JetStreamError::Unsuitable { stream: bucket.stream(), why })
    }

    fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    fn subject(&self, key: &Key) -> String {
        match key {
            Key::Worker(session) => format!("$KV.{}.worker.{session}", self.name),
            Key::Partition(name) => format!("$KV.{}.partition.{name}", self.name),
        }
    }

    /// All changes from the latest one of each key on, and the number of those that there are already.
    pub(super) async fn watch(
        &self,
    ) -> Result<(u64, BoxStream<'static, Result<News, JetStreamError>>), JetStreamError> {
        let mut reader = Reader {
            context: self.context.clone(),
            stream: self.stream(),
            filter: String::new(),
            prefetch: 500,
            goes_past_deleted: true,
            position: 0,
        };
        reader.seek(None).await?;
        let consumer = reader.connect().await?;
        let (pending, prefix) = (consumer.pending, format!("$KV.{}.", self.name));
        let news = reader.messages(consumer).map(move |message| Ok(news(&prefix, &message?)));
        Ok((pending, news.filter_map(async |news| news.transpose()).boxed()))
    }

    /// Writes a key whose latest revision is `after`, or 0 if there is none, and returns the new revision. `None` deletes the key.
    pub(super) async fn write(
        &self,
        key: &Key,
        after: u64,
        entry: Option<&Entry>,
    ) -> Result<u64, JetStreamError> {
        let (mut headers, mut payload) = (HeaderMap::new(), Bytes::new());
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(after));
        let ttl = format!("{}ms", self.ttl.as_millis());
        match entry {
            None => {
                headers.insert("KV-Operation", "DEL");
                headers.insert(header::NATS_MESSAGE_TTL, ttl);
            }
            Some(Entry::Worker { .. }) => headers.insert(header::NATS_MESSAGE_TTL, ttl),
            Some(_) => {}
        }
        if let Some(entry) = entry {
            payload = serde_json::to_vec(entry).map_err(JetStreamError::request)?.into();
        }
        let message = Message { subject: self.subject(key), headers, payload };
        batch::publish(&self.context.client(), self.patience(), vec![message]).await
    }

    /// The latest revision of a key and its content, from the stream's leader; revision 0 if there is none.
    pub(super) async fn read(&self, key: &Key) -> Result<(u64, Option<Entry>), JetStreamError> {
        let stream = self.context.get_stream_no_info(self.stream()).await;
        let stream = stream.map_err(JetStreamError::request)?;
        match stream.get_last_raw_message_by_subject(&self.subject(key)).await {
            Ok(message) => Ok((message.sequence, serde_json::from_slice(&message.payload).ok())),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok((0, None)),
                LastRawMessageErrorKind::JetStream(error) => Err(error.into()),
                _ => Err(JetStreamError::request(error)),
            },
        }
    }

    /// The longest wait for an answer: short enough for another try before the time to live is over.
    pub(super) fn patience(&self) -> Duration {
        self.ttl / 3
    }
}

/// Reads a change; `None` if the key is not one of a job.
fn news(prefix: &str, message: &Received) -> Option<News> {
    let (kind, name) = message.subject.strip_prefix(prefix)?.split_once('.')?;
    let key = match kind {
        "worker" => Key::Worker(name.to_owned()),
        "partition" => Key::Partition(name.to_owned()),
        _ => return None,
    };
    let revision = message.info().ok()?.stream_sequence;
    Some(News { key, revision, entry: serde_json::from_slice(&message.payload).ok() })
}

/// Whether a bucket takes a key of this name.
pub(super) fn is_key(name: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-/_=.".contains(c);
    !name.is_empty()
        && !name.starts_with('.')
        && !name.ends_with('.')
        && name.chars().all(is_allowed)
}
