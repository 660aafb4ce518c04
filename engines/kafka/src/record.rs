//! Records as they come in, and messages as they go out.

use inflight_core::Timestamp;
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use serde::{Deserialize, Serialize};

/// A record of a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaRecord {
    /// Its place in the partition. Offsets have gaps.
    pub offset: u64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is the mark of a deletion in a compacted topic.
    pub value: Option<Vec<u8>>,
    /// Its headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl KafkaRecord {
    pub(crate) fn new(offset: u64, message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().map(|headers| {
            let header = headers.iter();
            header.map(|it| (it.key.to_owned(), it.value.map(<[u8]>::to_vec))).collect()
        });
        Self {
            offset,
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.unwrap_or_default(),
        }
    }
}

/// The time that a message carries: its producer's or, if the topic is set so, the broker's.
pub(crate) fn timestamp(message: &BorrowedMessage<'_>) -> Option<Timestamp> {
    message.timestamp().to_millis().map(Timestamp::from_millis)
}

/// A message on its way to a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The partition; `None` leaves it to the client, which takes the key's hash.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub value: Option<Vec<u8>>,
    /// The headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The time; `None` leaves it to the client, which takes the present.
    pub timestamp: Option<Timestamp>,
}

impl Message {
    /// A message with a value, for a topic.
    pub fn new(topic: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.into(), value: Some(value.into()), ..Self::default() }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }
}
