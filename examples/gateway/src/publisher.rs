//! Publishes the demo's readings, as devices do: unacknowledged readings are published again, so that the
//! broker may get them twice.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PubAckReason};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::demo::{Demo, fill_database};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::status::Status;

/// The interval between two batches of readings.
const TICKS: u64 = 10;

/// The largest batch: a tenth of the highest rate.
const MAX_BATCH: u16 = 1_000;

/// Publishes until the total number of readings is reached. Resumes at the ledger's position.
pub async fn publish(options: &Options, status: &Arc<Status>) -> anyhow::Result<()> {
    while let Err(error) = fill_database(options.postgres).await {
        status.say(&format!("demo: filling the database: {error:#}"));
        sleep(Duration::from_secs(1)).await;
    }
    let mut ledger = Ledger::open(&options.ledger(), options.seed)?;
    let mut devices = Devices::connect(options);
    let mut ticks = interval(Duration::from_secs(1) / TICKS as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (end, size) = (options.readings.unwrap_or(u64::MAX), options.rate.div_ceil(TICKS));
    while ledger.entry.confirmed < end {
        ticks.tick().await;
        let batch = ledger.entry.confirmed..end.min(ledger.entry.confirmed + size);
        ledger.entry.offered = ledger.entry.offered.max(batch.end);
        ledger.save()?;
        devices.publish(batch.clone()).await?;
        ledger.entry.confirmed = batch.end;
        ledger.save()?;
    }
    status.say(&format!("demo: {end} readings are published"));
    Ok(())
}

/// The connection of all devices.
struct Devices {
    client: AsyncClient,
    news: UnboundedReceiver<News>,
    prefix: String,
    demo: Demo,
    is_connected: bool,
}

/// Events of the connection. There is one acknowledgement for each message, so the channel stays bounded.
enum News {
    Connected,
    Accepted,
    /// No gateway has subscribed to it yet.
    NobodyListens,
    Disconnected,
}

impl Devices {
    fn connect(options: &Options) -> Self {
        let id = format!("{}-demo", options.name);
        let mut mqtt = MqttOptions::new(id, options.mqtt.ip().to_string(), options.mqtt.port());
        mqtt.set_keep_alive(Duration::from_secs(5)).set_outgoing_inflight_upper_limit(MAX_BATCH);
        let (client, events) = AsyncClient::new(mqtt, usize::from(MAX_BATCH) + 8);
        let (tell, news) = unbounded_channel();
        tokio::spawn(run(events, tell));
        let prefix = format!("{}/readings", options.name);
        Self { client, news, prefix, demo: Demo { seed: options.seed }, is_connected: false }
    }

    /// Returns when the broker has acknowledged all of them.
    async fn publish(&mut self, batch: std::ops::Range<u64>) -> anyhow::Result<()> {
        while !self.try_publish(&batch).await? {}
        Ok(())
    }

    /// Returns `false` if the batch has to be published again, from its first message.
    async fn try_publish(&mut self, batch: &std::ops::Range<u64>) -> anyhow::Result<bool> {
        while !self.is_connected {
            self.is_connected = matches!(self.next().await?, News::Connected);
        }
        for number in batch.clone() {
            let topic = format!("{}/{}", self.prefix, self.demo.device(number));
            let payload = self.demo.payload(number);
            if self.client.try_publish(topic, QoS::AtLeastOnce, false, payload).is_err() {
                self.is_connected = false;
                return Ok(false);
            }
        }
        let mut is_heard = true;
        for _ in batch.clone() {
            match self.next().await? {
                News::Accepted => {}
                News::NobodyListens => is_heard = false,
                News::Connected | News::Disconnected => {
                    self.is_connected = false;
                    return Ok(false);
                }
            }
        }
        if !is_heard {
            sleep(Duration::from_millis(500)).await;
        }
        Ok(is_heard)
    }

    async fn next(&mut self) -> anyhow::Result<News> {
        self.news.recv().await.context("the demo's connection has ended")
    }
}

async fn run(mut events: EventLoop, tell: UnboundedSender<News>) {
    while !tell.is_closed() {
        let news = match events.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => News::Connected,
            Ok(Event::Incoming(Packet::PubAck(answer))) => match answer.reason {
                PubAckReason::Success => News::Accepted,
                _ => News::NobodyListens,
            },
            Ok(_) => continue,
            Err(_) => {
                // The whole batch is published again.
                events.clean();
                events.pending.clear();
                events.state.collision = None;
                sleep(Duration::from_millis(250)).await;
                News::Disconnected
            }
        };
        let _ = tell.send(news);
    }
}
