//! Messages that are published together or not at all: an atomic batch (ADR-50 of NATS).

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::publish::PublishAck;
use async_nats::{Client, HeaderMap, HeaderValue, Request, header};
use bytes::Bytes;
use tokio::time::Instant;

use crate::error::JetStreamError;
use crate::server::{self, answer};

/// The most messages in a batch, as the server's limit is unless it was set lower.
pub(crate) const MOST_MESSAGES: usize = 1000;

/// Bytes that the headers of a batch add to a message, at most.
const BATCH_HEADERS: usize = 128;

/// A message to be published.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its subject, which is one of the stream's.
    pub subject: String,
    /// Its headers. Those that begin with `Nats-` are for the server; those of batches and of expectations are this crate's.
    pub headers: HeaderMap,
    /// Its content.
    pub payload: Bytes,
}

impl Message {
    /// A message without headers.
    pub fn new(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), headers: HeaderMap::new(), payload: payload.into() }
    }

    /// Its length as the server counts it, with the headers of a batch, in bytes.
    pub(crate) fn len(&self) -> usize {
        let headers = self.headers.iter().flat_map(|(name, values)| {
            values
                .iter()
                .map(move |value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + 4)
        });
        self.payload.len() + headers.sum::<usize>() + BATCH_HEADERS
    }
}

/// Publishes messages together, and returns the sequence of the last one. After an error of the request they may have been published, or
/// may be later.
pub(crate) async fn publish(
    client: &Client,
    limit: Duration,
    mut messages: Vec<Message>,
) -> Result<u64, JetStreamError> {
    server::require_connection(client)?;
    let Some(mut last) = messages.pop() else { return Err(JetStreamError::NotClaimed) };
    if messages.is_empty() {
        return Ok(ask(client, limit, last)
            .await
            .and_then(|ack| answer::<PublishAck>(&ack))?
            .sequence);
    }
    let (id, count) = (nuid::next().to_string(), messages.len() + 1);
    for (number, mut message) in (1_u64..).zip(messages) {
        message.headers.insert(header::NATS_BATCH_ID, &*id);
        message.headers.insert(header::NATS_BATCH_SEQUENCE, HeaderValue::from(number));
        if number > 1 {
            let Message { subject, headers, payload } = message;
            let published = client.publish_with_headers(subject, headers, payload);
            published.await.map_err(JetStreamError::request)?;
        } else {
            begin(client, limit, message).await?;
        }
    }
    last.headers.insert(header::NATS_BATCH_ID, &*id);
    last.headers.insert(header::NATS_BATCH_SEQUENCE, HeaderValue::from(count));
    last.headers.insert(header::NATS_BATCH_COMMIT, header::NATS_BATCH_COMMIT_FINAL);
    let ack: PublishAck = answer(&ask(client, limit, last).await?)?;
    Ok(ack.sequence)
}

/// Sends the first message. Its answer tells why the server does not take the batch, and comes at once. If too many batches are under way,
/// waits for the end of one.
async fn begin(client: &Client, limit: Duration, first: Message) -> Result<(), JetStreamError> {
    let start = Instant::now();
    loop {
        let payload = ask(client, limit, first.clone()).await?;
        if payload.is_empty() {
            return Ok(());
        }
        match answer::<PublishAck>(&payload) {
            // A stream's leader may be older than the server to which the client is connected: it has stored the message alone.
            Ok(_) => {
                let version = "of the stream's leader".to_owned();
                return Err(JetStreamError::TooOld { version });
            }
            Err(error) if !is_one_too_many(&error) || start.elapsed() >= limit => {
                return Err(error);
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn is_one_too_many(error: &JetStreamError) -> bool {
    let JetStreamError::Server(error) = error else { return false };
    error.error_code() == ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT
}

async fn ask(client: &Client, limit: Duration, message: Message) -> Result<Bytes, JetStreamError> {
    let Message { subject, headers, payload } = message;
    let request = Request::new().headers(headers).payload(payload).timeout(Some(limit));
    let answer = client.send_request(subject, request).await.map_err(JetStreamError::request)?;
    Ok(answer.payload)
}
