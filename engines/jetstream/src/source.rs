//! One partition of a stream as a pipeline's source.

use std::fmt;
use std::task::{Context as Task, Poll};
use std::time::SystemTime;

use async_nats::jetstream::{Context, Message};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use inflight_core::pipeline::ReplayableSource;
use inflight_core::{StreamElement, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::JetStreamError;
use crate::reader::Reader;
use crate::server;

/// A message of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number in the stream.
    pub sequence: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers, in no order.
    pub headers: Vec<(String, String)>,
    /// Its content.
    pub payload: Vec<u8>,
}

impl Record {
    fn new(message: &Message, sequence: u64) -> Self {
        let headers = message.headers.iter().flat_map(|headers| headers.iter());
        let headers = headers.flat_map(|(name, values)| {
            values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
        });
        Self {
            sequence,
            subject: message.subject.to_string(),
            headers: headers.collect(),
            payload: message.payload.to_vec(),
        }
    }
}

/// Reads a stream, or a part of it by subject, from a position on: each message once, in the stream's order. It does not end.
///
/// Its position is the sequence of the next message. A record's timestamp is the time at which the server stored the message.
///
/// The source has a consumer of its own, without acknowledgements, which the server forgets 30 seconds after it was last used. When a
/// server is restarted, or the connection is lost, the source makes another one where it was, for as long as that takes; it ends with an error
/// only if the stream is gone, or has deleted messages that it had not read.
pub struct JetStreamSource {
    context: Context,
    stream: String,
    filter: String,
    prefetch: usize,
    goes_past_deleted: bool,
    position: u64,
    pending: Option<u64>,
    messages: Option<BoxStream<'static, Result<Message, JetStreamError>>>,
}

impl JetStreamSource {
    /// All messages of the stream.
    pub fn new(context: Context, stream: impl Into<String>) -> Self {
        Self {
            context,
            stream: stream.into(),
            filter: String::new(),
            prefetch: 200,
            goes_past_deleted: false,
            position: 0,
            pending: None,
            messages: None,
        }
    }

    /// Only messages whose subjects match: one partition, if the subjects tell it. `orders.3.>` matches the subjects into which the stream's
    /// transform `orders.{{partition(8,1)}}.{{wildcard(1)}}` puts a partition.
    #[must_use]
    pub fn filter(mut self, subject: impl Into<String>) -> Self {
        self.filter = subject.into();
        self
    }

    /// The number of messages that the source asks for at a time, and so the most that wait in memory, twice; 200 without this call, at
    /// least one.
    #[must_use]
    pub fn prefetch(mut self, messages: usize) -> Self {
        self.prefetch = messages.max(1);
        self
    }

    /// Goes on at the first message that is left if the stream has deleted messages behind the position. Without this call that is an
    /// error, because records may be lost. A partition in which nothing has happened for longer than the stream keeps messages cannot be
    /// told from one that has lost some.
    #[must_use]
    pub fn past_deleted(mut self) -> Self {
        self.goes_past_deleted = true;
        self
    }
}

impl ReplayableSource for JetStreamSource {
    type Record = Record;
    type Position = u64;
    type Error = JetStreamError;
    type Acknowledger = ();

    /// # Errors
    ///
    /// [`TooOld`](JetStreamError::TooOld), [`Deleted`](JetStreamError::Deleted), [`Ahead`](JetStreamError::Ahead),
    /// [`Server`](JetStreamError::Server), [`Request`](JetStreamError::Request), [`NotConnected`](JetStreamError::NotConnected).
    async fn open(&mut self, position: Option<u64>) -> Result<(), JetStreamError> {
        server::require_version(&self.context)?;
        let mut reader = Reader {
            context: self.context.clone(),
            stream: self.stream.clone(),
            filter: self.filter.clone(),
            prefetch: self.prefetch,
            goes_past_deleted: self.goes_past_deleted,
            position: 0,
        };
        self.position = reader.seek(position).await?;
        let messages = reader.connect().await?;
        self.pending = Some(messages.pending);
        self.messages = Some(reader.messages(messages).boxed());
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<StreamElement<Record>, JetStreamError>>> {
        let Some(messages) = &mut self.messages else { return Poll::Ready(None) };
        let polled = messages.poll_next_unpin(cx);
        polled.map(|next| {
            next.map(|message| {
                let message = message?;
                let info = message.info().map_err(JetStreamError::Request)?;
                let sequence = info.stream_sequence;
                (self.position, self.pending) = (sequence + 1, Some(info.pending));
                let timestamp = Some(timestamp(info.published.into()));
                let value = Record::new(&message, sequence);
                Ok(StreamElement::Record { value, timestamp })
            })
        })
    }

    fn position(&self) -> u64 {
        self.position
    }

    /// What the server knew to be pending when it sent the latest record.
    fn lag(&self) -> Option<u64> {
        self.pending
    }

    fn acknowledger(&mut self) {}
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl fmt::Debug for JetStreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JetStreamSource");
        shown.field("stream", &self.stream).field("filter", &self.filter);
        shown.field("position", &self.position).finish_non_exhaustive()
    }
}
