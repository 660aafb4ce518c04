//! An MQTT session as a pipeline's source.
//!
//! A session cannot be read again from a position. But the broker keeps unacknowledged messages, and sends
//! them again. So a position in a checkpoint describes the messages that were taken in, and the source
//! recognises repeated ones. It acknowledges a message when a checkpoint that covers it is durable.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use inflight::StreamElement;
use inflight::pipeline::{Acknowledge, ReplayableSource};
use serde::{Deserialize, Serialize};

use crate::inbox::Inbox;
use crate::message::Message;
use crate::seen::Seen;
use crate::status::Status;

/// The messages of a session, each once.
#[derive(Debug)]
pub struct MqttSource {
    inbox: Arc<Inbox>,
    position: Position,
    status: Arc<Status>,
}

/// The messages that were taken in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    taken: u64,
    seen: Seen,
}

impl MqttSource {
    pub fn new(inbox: Arc<Inbox>, status: Arc<Status>) -> Self {
        Self { inbox, position: Position::default(), status }
    }
}

impl ReplayableSource for MqttSource {
    type Record = Message;
    type Position = Position;
    type Error = Infallible;
    type Acknowledger = Acknowledger;

    async fn open(&mut self, position: Option<Position>) -> Result<(), Infallible> {
        if let Some(position) = position {
            self.inbox.acknowledge(position.taken);
            self.position = position;
        }
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Message>, Infallible>>> {
        loop {
            let (publish, ticket) = ready!(self.inbox.poll_next(cx));
            let message = Message::parse(&publish.topic, &publish.payload);
            let is_new = self.position.seen.insert(&message);
            self.position.taken += u64::from(is_new);
            let acknowledged = self.inbox.covered_by(self.position.taken, ticket);
            self.status.acknowledged.add(acknowledged as u64);
            if is_new {
                self.status.received.add(1);
                return Poll::Ready(Some(Ok(StreamElement::value(message))));
            }
            self.status.repeated.add(1);
        }
    }

    fn position(&self) -> Position {
        self.position.clone()
    }

    fn acknowledger(&mut self) -> Acknowledger {
        Acknowledger { inbox: Arc::clone(&self.inbox), status: Arc::clone(&self.status) }
    }
}

/// Acknowledges messages, so that the broker need not keep them any longer.
#[derive(Debug)]
pub struct Acknowledger {
    inbox: Arc<Inbox>,
    status: Arc<Status>,
}

impl Acknowledge<Position> for Acknowledger {
    type Error = Infallible;

    async fn acknowledge(&mut self, position: Position) -> Result<(), Infallible> {
        let acknowledged = self.inbox.acknowledge(position.taken);
        self.status.acknowledged.add(acknowledged as u64);
        Ok(())
    }
}
