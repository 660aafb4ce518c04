//! Messages from the broker, and those of them that are not acknowledged.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use rumqttc::v5::AsyncClient;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Publish;

/// Messages between the connection, the source and its acknowledger. All of them belong to one connection:
/// when that is lost, the broker sends the unacknowledged ones again, perhaps under other numbers, so the
/// inbox is cleared. So it holds no more messages than the broker may send without an acknowledgement.
#[derive(Debug)]
pub struct Inbox {
    state: Mutex<State>,
    client: AsyncClient,
    window: usize,
}

#[derive(Debug, Default)]
struct State {
    connection: u64,
    /// Messages that are not taken in yet.
    arrived: VecDeque<Publish>,
    /// Messages that are taken in, with the position that covers each; in the order of arrival, which is the
    /// order of acknowledgement.
    taken: VecDeque<(u64, Publish)>,
    /// The latest durable position.
    durable: u64,
    source: Option<Waker>,
}

/// The handle for acknowledgements.
#[derive(Debug)]
pub struct Ticket {
    connection: u64,
    publish: Publish,
}

impl Inbox {
    /// The client's channel must have room for `window` acknowledgements.
    pub fn new(client: AsyncClient, window: u16) -> Self {
        Self { state: Mutex::default(), client, window: window.into() }
    }

    /// No code panics under the lock; and if it did, the data would be valid.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a message; `false` if it was dropped. That happens only to a message published with QoS 0,
    /// because the broker does not count those.
    pub fn arrived(&self, publish: Publish) -> bool {
        let mut state = self.state();
        if publish.qos == QoS::AtMostOnce && state.arrived.len() >= self.window {
            return false;
        }
        state.arrived.push_back(publish);
        if let Some(source) = state.source.take() {
            source.wake();
        }
        true
    }

    /// Clears the inbox when its connection is lost.
    pub fn disconnected(&self) {
        let mut state = self.state();
        state.connection += 1;
        state.arrived.clear();
        state.taken.clear();
    }

    /// The next message.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<(Publish, Ticket)> {
        let mut state = self.state();
        let Some(publish) = state.arrived.pop_front() else {
            state.source = Some(cx.waker().clone());
            return Poll::Pending;
        };
        // The data that an acknowledgement needs, without the content.
        let what = Publish { qos: publish.qos, pkid: publish.pkid, ..Publish::default() };
        let ticket = Ticket { connection: state.connection, publish: what };
        Poll::Ready((publish, ticket))
    }

    /// Records that a message is covered by every checkpoint at or after `position`, and is to be
    /// acknowledged after one. Returns the number of messages acknowledged now: there may be such a
    /// checkpoint already.
    pub fn covered_by(&self, position: u64, ticket: Ticket) -> usize {
        let mut state = self.state();
        if ticket.connection == state.connection && ticket.publish.qos != QoS::AtMostOnce {
            state.taken.push_back((position, ticket.publish));
        }
        self.acknowledge_taken(&mut state)
    }

    /// Records that everything up to `position` is durable. Returns the number of messages acknowledged now.
    pub fn acknowledge(&self, position: u64) -> usize {
        let mut state = self.state();
        state.durable = state.durable.max(position);
        self.acknowledge_taken(&mut state)
    }

    /// The number of unacknowledged messages.
    pub fn unacknowledged(&self) -> usize {
        let state = self.state();
        state.arrived.len() + state.taken.len()
    }

    fn acknowledge_taken(&self, state: &mut State) -> usize {
        let mut acknowledged = 0;
        while let Some((position, publish)) = state.taken.front()
            && *position <= state.durable
            // The channel has room for all of them. Otherwise the next call tries again.
            && self.client.try_ack(publish).is_ok()
        {
            state.taken.pop_front();
            acknowledged += 1;
        }
        acknowledged
    }
}

#[cfg(test)]
mod tests {
    use rumqttc::v5::{EventLoop, MqttOptions};

    use super::*;

    /// The connection is never polled; its channel has room for the acknowledgements.
    fn inbox() -> (Inbox, EventLoop) {
        let (client, events) = AsyncClient::new(MqttOptions::new("test", "127.0.0.1", 1), 8);
        (Inbox::new(client, 4), events)
    }

    fn message(pkid: u16) -> Publish {
        let qos = if pkid == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        Publish { qos, pkid, ..Publish::default() }
    }

    fn take(inbox: &Inbox) -> Option<Ticket> {
        match inbox.poll_next(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready((_, ticket)) => Some(ticket),
            Poll::Pending => None,
        }
    }

    #[test]
    fn only_what_is_durable_is_acknowledged() {
        let (inbox, _events) = inbox();
        for pkid in 1..=3 {
            assert!(inbox.arrived(message(pkid)));
            let ticket = take(&inbox).unwrap();
            assert_eq!(inbox.covered_by(pkid.into(), ticket), 0);
        }
        assert_eq!((inbox.acknowledge(2), inbox.unacknowledged()), (2, 1));
        // A repetition of the second message: it is durable, but it has to wait for the third.
        assert!(inbox.arrived(message(4)));
        let ticket = take(&inbox).unwrap();
        assert_eq!(inbox.covered_by(2, ticket), 0);
        assert_eq!((inbox.acknowledge(3), inbox.unacknowledged()), (2, 0));
        assert!(inbox.arrived(message(5)));
        let ticket = take(&inbox).unwrap();
        assert_eq!(inbox.covered_by(3, ticket), 1, "nothing has to be waited for");
    }

    #[test]
    fn what_a_lost_connection_brought_is_void() {
        let (inbox, _events) = inbox();
        for pkid in 1..=3 {
            assert!(inbox.arrived(message(pkid)));
        }
        let (taken, on_its_way) = (take(&inbox).unwrap(), take(&inbox).unwrap());
        assert_eq!(inbox.covered_by(1, taken), 0);
        inbox.disconnected();
        assert!(take(&inbox).is_none(), "the third one comes again");
        assert_eq!(inbox.covered_by(2, on_its_way), 0);
        assert_eq!((inbox.acknowledge(2), inbox.unacknowledged()), (0, 0));
    }

    #[test]
    fn what_nobody_counts_is_bounded() {
        let (inbox, _events) = inbox();
        let accepted = (0..10).filter(|_| inbox.arrived(message(0))).count();
        assert_eq!(accepted, 4);
        let ticket = take(&inbox).unwrap();
        assert_eq!((inbox.covered_by(1, ticket), inbox.acknowledge(1)), (0, 0));
    }
}
