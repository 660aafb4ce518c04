//! The stream in NATS JetStream.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, ContextBuilder, PublishAckFuture};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use crate::options::Options;
use crate::output::{Output, claims};
use crate::status::{Server, Status};

/// A server without an answer for longer counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

const BEFORE_RECONNECT: Duration = Duration::from_millis(250);

/// The number of messages that are published before the first acknowledgement is awaited, or that are read at
/// once.
const BATCH: usize = 500;

/// A stream of the outputs of one gateway.
#[derive(Clone, Debug)]
pub struct Outlet {
    client: Client,
    context: Context,
    config: Config,
}

/// What was added to the stream after a sequence number.
#[derive(Debug, Default)]
pub struct Since {
    /// The ids of the outputs.
    pub ids: HashSet<String>,
    /// The sequence number of the last claim, or 0.
    pub claim: u64,
    /// The sequence number of the last message, or of the last one that there ever was.
    pub last: u64,
}

/// A message of the stream.
#[derive(Debug)]
pub struct Stored {
    pub sequence: u64,
    pub id: String,
    pub subject: String,
    pub payload: Vec<u8>,
}

impl Outlet {
    /// Connects in the background, now and whenever the connection is lost.
    ///
    /// # Errors
    ///
    /// Only if the address is invalid.
    pub async fn open(options: &Options, status: Arc<Status>) -> anyhow::Result<Self> {
        let told = move |event| {
            match event {
                Event::Connected => status.up(Server::Nats),
                Event::Disconnected => status.down(Server::Nats, &"the connection is lost"),
                _ => {}
            }
            std::future::ready(())
        };
        let client = ConnectOptions::new()
            .name(format!("inflight-gateway {}", options.name))
            .retry_on_initial_connect()
            .ping_interval(Duration::from_secs(5))
            .connection_timeout(PATIENCE)
            .reconnect_delay_callback(|attempts| BEFORE_RECONNECT * u32::from(attempts > 1))
            .event_callback(told)
            .connect(options.nats.to_string())
            .await
            .context("the NATS client")?;
        let context = ContextBuilder::new().timeout(PATIENCE).build(client.clone());
        let config = Config {
            name: options.name.clone(),
            subjects: vec![format!("{}.>", options.name)],
            duplicate_window: options.duplicate_window,
            ..Config::default()
        };
        Ok(Self { client, context, config })
    }

    /// Waits for a connection, for a short time.
    async fn connected(&self) -> anyhow::Result<()> {
        let connected = async {
            while self.client.connection_state() != State::Connected {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, connected).await.context("there is no connection")
    }

    /// The stream; creates it if it does not exist.
    async fn stream(&self) -> anyhow::Result<Stream> {
        // Otherwise the client would buffer messages, and send them long after the gateway has decided
        // otherwise.
        self.connected().await?;
        Ok(self.context.get_or_create_stream(self.config.clone()).await?)
    }

    /// Publishes messages behind the message `known`, and returns the sequence number of the last one when the stream has all of
    /// them. If another message is the stream's last one, this is an error, and none of them is stored. The stream does not store a
    /// message again whose id it knows from its duplicate window. Does not create the stream.
    pub async fn publish<'o>(
        &self,
        outputs: impl IntoIterator<Item = &'o Output>,
        known: u64,
    ) -> anyhow::Result<u64> {
        self.connected().await?;
        let (mut outputs, mut last) = (outputs.into_iter().peekable(), known);
        while outputs.peek().is_some() {
            let (mut under_way, mut before) = (Vec::with_capacity(BATCH), None);
            for output in outputs.by_ref().take(BATCH) {
                let acknowledgement =
                    self.send(output, last + under_way.len() as u64, before).await?;
                if before.is_some() {
                    under_way.push(acknowledgement);
                } else {
                    // An owner that was replaced meanwhile sends no more than this one.
                    match acknowledgement.await?.sequence {
                        sequence if sequence == last + 1 => last = sequence,
                        sequence if sequence <= known => continue, // the stream has it
                        sequence => bail!("message {sequence} was published by another gateway"),
                    }
                }
                before = Some(&*output.id);
            }
            for acknowledgement in under_way {
                let sequence = acknowledgement.await?.sequence;
                ensure!(sequence == last + 1, "message {sequence} was there before");
                last = sequence;
            }
        }
        Ok(last)
    }

    /// Sends a message that is to be stored behind the message `last`, which has the id `before`.
    async fn send(
        &self,
        output: &Output,
        last: u64,
        before: Option<&str>,
    ) -> anyhow::Result<PublishAckFuture> {
        let mut message = PublishMessage::build()
            .message_id(&output.id)
            .expected_last_sequence(last)
            .payload(output.payload.clone().into());
        // The number alone is not enough: if the stream has refused the message before this one, because another one was faster,
        // then that one has the expected number.
        if let Some(before) = before {
            message = message.expected_last_message_id(before);
        }
        Ok(self.context.send_publish(output.subject.clone(), message).await?)
    }

    /// Claims the stream behind the message `last`, and returns the sequence number of the claim.
    pub async fn claim(&self, last: u64) -> anyhow::Result<u64> {
        self.connected().await?;
        let message = PublishMessage::build().expected_last_sequence(last);
        let claim = self.context.send_publish(claims(&self.config.name), message).await?.await?;
        Ok(claim.sequence)
    }

    /// Deletes the stream.
    #[cfg(test)]
    pub async fn delete(&self) {
        let _ = self.context.delete_stream(&self.config.name).await;
    }

    /// Reads what was added after a sequence number.
    pub async fn since(&self, number: u64) -> anyhow::Result<Since> {
        let (mut since, claims) = (Since::default(), claims(&self.config.name));
        let each = |stored: Stored| {
            if stored.subject == claims {
                since.claim = stored.sequence;
            } else {
                since.ids.insert(stored.id);
            }
        };
        since.last = self.read(number, true, each).await?;
        Ok(since)
    }

    /// Reads all messages after a sequence number. Returns the sequence number of the last message.
    pub async fn read(
        &self,
        number: u64,
        headers_only: bool,
        mut each: impl FnMut(Stored),
    ) -> anyhow::Result<u64> {
        let stream = self.stream().await?;
        let last = stream.get_info().await?.state.last_sequence;
        if last <= number {
            return Ok(last);
        }
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: number + 1 },
            ack_policy: AckPolicy::None,
            headers_only,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(config).await?;
        let mut read = number;
        while read < last {
            let mut batch =
                consumer.batch().max_messages(BATCH).expires(PATIENCE).messages().await?;
            let before = read;
            while let Some(message) = batch.next().await {
                let message = message.map_err(anyhow::Error::from_boxed)?;
                let info = message.info().map_err(anyhow::Error::from_boxed)?;
                read = info.stream_sequence;
                // The rest of the stream may have been deleted.
                let is_last = info.pending == 0;
                each(stored(read, message.message));
                if is_last {
                    return Ok(last.max(read));
                }
            }
            ensure!(read > before, "the stream could not be read to its end");
        }
        Ok(last.max(read))
    }
}

fn stored(sequence: u64, message: async_nats::Message) -> Stored {
    let headers = message.headers.as_ref();
    let id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID));
    Stored {
        sequence,
        id: id.map_or_else(String::new, ToString::to_string),
        subject: message.subject.to_string(),
        payload: message.payload.into(),
    }
}
