//! The log on the servers: a stream of orders in partitions, and a stream of outputs and checkpoints.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{Context, ContextBuilder};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Info, SubjectTransform};
use futures_util::StreamExt;
use inflight_jetstream::output_stream;

use crate::order::Order;

/// The stream of orders. The server puts each into a partition by its key: `orders.KEY` becomes `orders.PARTITION.KEY`.
pub const ORDERS: &str = "fleet_orders";
/// The stream of outputs, `done.PARTITION.KEY`, and of checkpoints, `checkpoint.PARTITION`.
pub const DONE: &str = "fleet_done";
/// The bucket in which the workers have their leases.
pub const WORKERS: &str = "fleet_workers";

/// A server without an answer for longer is asked again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most orders on their way to the log, and of outputs that are read at once.
const BATCH: usize = 500;

/// The names of the partitions, as the server's transform of subjects numbers them.
pub fn partitions(count: u16) -> impl Iterator<Item = String> {
    (0..count).map(|partition| partition.to_string())
}

/// Connects to the servers, in the background, and again whenever the connection is lost.
pub async fn connect(servers: &[String], name: &str) -> anyhow::Result<Context> {
    let client = ConnectOptions::new()
        .name(format!("inflight-fleet {name}"))
        .retry_on_initial_connect()
        .ping_interval(Duration::from_secs(2))
        .connection_timeout(PATIENCE)
        .reconnect_delay_callback(|attempts| Duration::from_millis(50) * u32::from(attempts > 1))
        .connect(servers)
        .await
        .context("the NATS client")?;
    // Waits for the connection.
    client.flush().await.context("the NATS servers")?;
    Ok(ContextBuilder::new().timeout(PATIENCE).build(client))
}

/// The log as the controller uses it.
#[derive(Clone, Debug)]
pub struct Log {
    context: Context,
    replicas: usize,
}

impl Log {
    pub fn new(context: Context, replicas: usize) -> Self {
        Self { context, replicas }
    }

    /// Makes both streams anew.
    pub async fn create(&self, partitions: u16) -> anyhow::Result<()> {
        for stream in [ORDERS, DONE, &format!("KV_{WORKERS}")] {
            _ = self.context.delete_stream(stream).await; // it need not be there
        }
        let orders = Config {
            name: ORDERS.into(),
            subjects: vec!["orders.*".into()],
            subject_transform: Some(SubjectTransform {
                source: "orders.*".into(),
                destination: format!(
                    "orders.{{{{partition({partitions},1)}}}}.{{{{wildcard(1)}}}}"
                ),
            }),
            num_replicas: self.replicas,
            ..Config::default()
        };
        let done = Config {
            num_replicas: self.replicas,
            ..output_stream(DONE, ["done.>", "checkpoint.*"])
        };
        for config in [orders, done] {
            let name = config.name.clone();
            self.context.create_stream(config).await.with_context(|| format!("stream {name}"))?;
        }
        Ok(())
    }

    /// Whether every stream has a leader, and all its replicas are there and have everything.
    pub async fn is_whole(&self) -> bool {
        for stream in [ORDERS, DONE, &format!("KV_{WORKERS}")] {
            let Ok(info) = self.info(stream).await else { return false };
            let Some(cluster) = info.cluster.filter(|_| self.replicas > 1) else { continue };
            let is_there = |peer: &async_nats::jetstream::stream::PeerInfo| {
                peer.current && !peer.offline && peer.lag.unwrap_or(0) < 100
            };
            let others = cluster.replicas.iter().filter(|peer| is_there(peer)).count();
            if cluster.leader.is_none_or(|leader| leader.is_empty()) || others + 1 < self.replicas {
                return false;
            }
        }
        true
    }

    /// The number of messages in the stream of outputs: all outputs, and a checkpoint of each partition that has one.
    pub async fn outputs(&self) -> anyhow::Result<u64> {
        Ok(self.info(DONE).await?.state.messages)
    }

    /// The number of orders in the log.
    pub async fn orders(&self) -> anyhow::Result<u64> {
        Ok(self.info(ORDERS).await?.state.last_sequence)
    }

    async fn info(&self, stream: &str) -> anyhow::Result<Info> {
        let stream = self.context.get_stream_no_info(stream).await?;
        Ok(stream.get_info().await?)
    }

    /// Publishes some of the orders that follow the `there` that are in the log, and returns how many are in it then.
    ///
    /// Each is published behind the one before. So each is in the log once and in its place, whatever has become of earlier tries: order n has
    /// the sequence n + 1.
    pub async fn publish(&self, orders: &[Order], there: u64) -> anyhow::Result<u64> {
        let mut under_way = Vec::with_capacity(BATCH);
        for order in orders.iter().skip(there as usize).take(BATCH) {
            let message = PublishMessage::build()
                .expected_last_sequence(order.id)
                .payload(serde_json::to_vec(order)?.into());
            let subject = format!("orders.{}", order.key);
            under_way.push(self.context.send_publish(subject, message).await?);
        }
        let count = under_way.len() as u64;
        for acknowledgement in under_way {
            acknowledgement.await?;
        }
        Ok(there + count)
    }

    /// Reads the outputs behind a sequence, each with its own.
    pub async fn read(&self, behind: u64, mut each: impl FnMut(u64, &[u8])) -> anyhow::Result<()> {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: behind + 1 },
            ack_policy: AckPolicy::None,
            filter_subject: "done.>".into(),
            memory_storage: true,
            num_replicas: 1,
            inactive_threshold: Duration::from_secs(5),
            ..pull::Config::default()
        };
        let consumer = self.context.create_consumer_on_stream(config, DONE).await?;
        let (mut left, mut number) = (consumer.cached_info().num_pending, 0);
        while left > 0 {
            let mut batch = consumer.fetch().max_messages(BATCH).messages().await?;
            let before = number;
            while let Some(message) = batch.next().await {
                let message = message.map_err(anyhow::Error::from_boxed)?;
                let info = message.info().map_err(anyhow::Error::from_boxed)?;
                number += 1;
                ensure!(info.consumer_sequence == number, "an output was skipped in reading");
                left = info.pending;
                each(info.stream_sequence, &message.payload);
            }
            ensure!(number > before, "the outputs could not be read to their end");
        }
        Ok(())
    }
}
