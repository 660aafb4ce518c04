//! The stream in NATS JetStream.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Stream};
use async_nats::{Client, ConnectOptions, Event};
use futures_util::StreamExt;
use tokio::time::{sleep, timeout};

use crate::options::Options;
use crate::output::Output;
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

/// A message of the stream.
#[derive(Debug)]
pub struct Stored {
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

    /// Publishes messages, and returns the highest of their sequence numbers when the stream has all of them.
    /// The stream does not store a message again whose id it knows from its duplicate window. Does not create
    /// the stream.
    pub async fn publish<'o>(
        &self,
        outputs: impl IntoIterator<Item = &'o Output>,
    ) -> anyhow::Result<u64> {
        self.connected().await?;
        let (mut outputs, mut latest) = (outputs.into_iter().peekable(), 0);
        while outputs.peek().is_some() {
            let mut under_way = Vec::with_capacity(BATCH);
            for output in outputs.by_ref().take(BATCH) {
                let message = PublishMessage::build()
                    .message_id(&output.id)
                    .payload(output.payload.clone().into());
                under_way.push(self.context.send_publish(output.subject.clone(), message).await?);
            }
            for acknowledgement in under_way {
                latest = latest.max(acknowledgement.await?.sequence);
            }
        }
        Ok(latest)
    }

    /// The ids of all messages after a sequence number.
    pub async fn ids_behind(&self, number: u64) -> anyhow::Result<HashSet<String>> {
        let mut ids = HashSet::new();
        self.read(number, true, |stored| _ = ids.insert(stored.id)).await?;
        Ok(ids)
    }

    /// Reads all messages after a sequence number.
    pub async fn read(
        &self,
        number: u64,
        headers_only: bool,
        mut each: impl FnMut(Stored),
    ) -> anyhow::Result<()> {
        let stream = self.stream().await?;
        let last = stream.get_info().await?.state.last_sequence;
        if last <= number {
            return Ok(());
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
                each(stored(message.message));
                if is_last {
                    return Ok(());
                }
            }
            ensure!(read > before, "the stream could not be read to its end");
        }
        Ok(())
    }
}

fn stored(message: async_nats::Message) -> Stored {
    let headers = message.headers.as_ref();
    let id = headers.and_then(|headers| headers.get(NATS_MESSAGE_ID));
    Stored {
        id: id.map_or_else(String::new, ToString::to_string),
        subject: message.subject.to_string(),
        payload: message.payload.into(),
    }
}
