//! The connection to the MQTT broker.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet, SubscribeReasonCode};
use rumqttc::v5::{AsyncClient, Event, EventLoop, MqttOptions};
use tokio::time::sleep;

use crate::inbox::Inbox;
use crate::options::Options;
use crate::status::{Server, Status};

/// A broker without an answer for longer counts as lost.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
const BEFORE_RECONNECT: Duration = Duration::from_millis(250);

/// The largest message from the broker; the broker itself should refuse larger ones. As a dead letter it is
/// up to six times as long, and NATS accepts a mebibyte.
const MAX_PACKET: u32 = 128 * 1024;

/// The session survives the connection, the gateway and the broker.
#[derive(Debug)]
pub struct Session {
    client: AsyncClient,
    task: tokio::task::JoinHandle<()>,
}

impl Session {
    /// Connects, now and whenever the connection is lost, on a task of its own, so that the broker gets
    /// answers while the gateway waits for the database.
    pub fn open(options: &Options, status: Arc<Status>) -> (Self, Arc<Inbox>) {
        let window = options.window;
        let mut mqtt =
            MqttOptions::new(&options.name, options.mqtt.ip().to_string(), options.mqtt.port());
        mqtt.set_keep_alive(KEEP_ALIVE)
            .set_clean_start(false)
            .set_session_expiry_interval(Some(u32::MAX))
            .set_receive_maximum(Some(window))
            .set_max_packet_size(Some(MAX_PACKET))
            .set_manual_acks(true)
            .set_outgoing_inflight_upper_limit(1); // it publishes nothing
        // Room for all acknowledgements, a subscription and a disconnect.
        let (client, events) = AsyncClient::new(mqtt, usize::from(window) + 8);
        let inbox = Arc::new(Inbox::new(client.clone(), window));
        let topics = format!("{}/readings/#", options.name);
        let connection = Connection {
            events,
            client: client.clone(),
            inbox: Arc::clone(&inbox),
            topics,
            status,
        };
        (Self { client, task: tokio::spawn(connection.run()) }, inbox)
    }

    /// Sends pending acknowledgements, and disconnects. If an acknowledgement does not arrive in time, the
    /// broker sends the message again, and the gateway recognises it.
    pub async fn close(self) {
        let _ = self.client.try_disconnect();
        let _ = tokio::time::timeout(Duration::from_secs(1), self.task).await;
    }
}

struct Connection {
    events: EventLoop,
    client: AsyncClient,
    inbox: Arc<Inbox>,
    topics: String,
    status: Arc<Status>,
}

impl Connection {
    async fn run(mut self) {
        loop {
            match self.events.poll().await {
                Ok(Event::Incoming(packet)) => self.take(packet),
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(Event::Outgoing(_)) => {}
                Err(error) => {
                    // The order matters: pending acknowledgements belong to the lost connection, and after
                    // the first line no more can be added.
                    self.inbox.disconnected();
                    self.events.clean();
                    self.status.down(Server::Mqtt, &error);
                    sleep(BEFORE_RECONNECT).await;
                }
            }
        }
    }

    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::ConnAck(welcome) => self.connected(&welcome),
            Packet::Publish(publish) => {
                let has_room = self.inbox.arrived(publish);
                self.status.refused.add(u64::from(!has_room));
            }
            Packet::SubAck(answer) => {
                let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
                if answer.return_codes.iter().any(|code| *code != granted) {
                    self.status.say(&format!("mqtt: no subscription: {:?}", answer.return_codes));
                }
            }
            _ => {}
        }
    }

    fn connected(&mut self, welcome: &ConnAck) {
        self.status.up(Server::Mqtt);
        if !welcome.session_present {
            self.status.say("mqtt: a new session; earlier messages are lost");
        }
        if self.client.try_subscribe(&self.topics, QoS::AtLeastOnce).is_err() {
            self.status.say("mqtt: could not subscribe");
        }
    }
}
