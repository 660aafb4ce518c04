//! Consumers one after the other over one stream of messages.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{Context, ErrorCode, Message};
use futures_util::{Stream, StreamExt, stream};

use crate::error::JetStreamError;
use crate::server;

/// For so long a source tries to find a stream that is gone: a cluster that starts does not know its streams at once.
const STREAM_IS_GONE: Duration = Duration::from_secs(30);

pub(crate) struct Reader {
    pub(crate) context: Context,
    pub(crate) stream: String,
    pub(crate) filter: String,
    pub(crate) prefetch: usize,
    pub(crate) goes_past_deleted: bool,
    /// The sequence of the next message.
    pub(crate) position: u64,
}

/// The messages of one consumer.
pub(crate) struct Consumer {
    messages: pull::Stream,
    /// The number of messages that the server had for it when it was made.
    pub(crate) pending: u64,
    /// The number of the latest message among those of this consumer.
    number: u64,
}

impl Reader {
    /// Goes to a position, or to where the stream begins.
    pub(crate) async fn seek(&mut self, position: Option<u64>) -> Result<u64, JetStreamError> {
        let state = server::stream(&self.context, &self.stream).await?.cached_info().state.clone();
        let first = state.first_sequence.max(1);
        self.position = match position {
            None => first,
            Some(position) if position > state.last_sequence + 1 => {
                return Err(JetStreamError::Ahead { position, last: state.last_sequence });
            }
            Some(position) if position < first && !self.goes_past_deleted => {
                return Err(JetStreamError::Deleted { position, first });
            }
            Some(position) => position.max(first),
        };
        Ok(self.position)
    }

    /// Makes a consumer that begins at the position.
    pub(crate) async fn connect(&self) -> Result<Consumer, JetStreamError> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: self.position },
            ack_policy: AckPolicy::None,
            filter_subject: self.filter.clone(),
            inactive_threshold: Duration::from_secs(30),
            num_replicas: 1,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = self.context.create_consumer_on_stream(config, &*self.stream).await;
        let consumer = consumer.map_err(|error| match error.kind() {
            async_nats::jetstream::stream::ConsumerErrorKind::JetStream(error) => {
                JetStreamError::Server(error)
            }
            _ => JetStreamError::request(error),
        })?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer
            .stream()
            .max_messages_per_batch(self.prefetch)
            .expires(Duration::from_secs(30))
            .heartbeat(Duration::from_secs(2))
            .messages();
        let messages = messages.await.map_err(JetStreamError::request)?;
        Ok(Consumer { messages, pending, number: 0 })
    }

    /// The messages from the position on.
    pub(crate) fn messages(
        self,
        consumer: Consumer,
    ) -> impl Stream<Item = Result<Message, JetStreamError>> {
        stream::unfold(Some((self, consumer)), async |state| {
            let (mut reader, mut consumer) = state?;
            loop {
                if let Some(message) = reader.next(&mut consumer).await {
                    return Some((Ok(message), Some((reader, consumer))));
                }
                match reader.reconnect().await {
                    Ok(another) => consumer = another,
                    Err(error) => return Some((Err(error), None)),
                }
            }
        })
    }

    /// The next message; `None` if this consumer has no more, or has lost one.
    async fn next(&mut self, consumer: &mut Consumer) -> Option<Message> {
        let message = consumer.messages.next().await?.ok()?;
        let info = message.info().ok()?;
        let (number, sequence) = (info.consumer_sequence, info.stream_sequence);
        if number != consumer.number + 1 || sequence < self.position {
            return None;
        }
        (consumer.number, self.position) = (number, sequence + 1);
        Some(message)
    }

    /// Makes another consumer, and tries until that succeeds.
    async fn reconnect(&mut self) -> Result<Consumer, JetStreamError> {
        let (mut wait, mut gone) = (Duration::from_millis(20), Duration::ZERO);
        loop {
            let consumer = match self.seek(Some(self.position)).await {
                Ok(_) => self.connect().await,
                Err(error) => Err(error),
            };
            match consumer {
                Ok(consumer) => return Ok(consumer),
                Err(error @ JetStreamError::Deleted { .. }) => return Err(error),
                // A server that is behind may be the one that answers, for a while.
                Err(JetStreamError::Server(error))
                    if error.error_code() != ErrorCode::STREAM_NOT_FOUND => {}
                Err(error @ (JetStreamError::Server(_) | JetStreamError::Ahead { .. })) => {
                    gone += wait;
                    if gone > STREAM_IS_GONE {
                        return Err(error);
                    }
                }
                Err(_) => gone = Duration::ZERO,
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(1));
        }
    }
}
