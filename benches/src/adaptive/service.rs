//! The simulated service: two servers, one of which is away for a minute.

use std::collections::VecDeque;
use std::time::Duration;

/// The requests that the service works on at once, with both servers.
pub(super) const SLOTS: usize = 100;
/// The mean time of work on a request. Each takes up to a quarter less or more.
pub(super) const WORK: Duration = Duration::from_millis(100);
/// A refusal takes a trip over the network.
pub(super) const REFUSAL: Duration = Duration::from_millis(5);
/// From and until when one of the servers is away.
pub(super) const OUTAGE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(120));

/// Works on as many requests at once as it has slots, lets half as many wait for a slot, and refuses all others.
pub(super) struct Service {
    slots: usize,
    busy: usize,
    waiting: VecDeque<usize>,
    random: Random,
}

/// The service's reply to a new request.
pub(super) enum Reply {
    /// It works on the request for this long.
    Works(Duration),
    /// It works on it later.
    Waits,
    /// It refuses it.
    Refuses,
}

impl Service {
    pub(super) fn new(seed: u64) -> Self {
        Self { slots: SLOTS, busy: 0, waiting: VecDeque::new(), random: Random(seed) }
    }

    /// A request has come in.
    pub(super) fn request(&mut self, id: usize) -> Reply {
        if self.busy < self.slots {
            self.busy += 1;
            return Reply::Works(self.work());
        }
        if self.busy + self.waiting.len() >= self.slots + self.slots / 2 {
            return Reply::Refuses;
        }
        self.waiting.push_back(id);
        Reply::Waits
    }

    /// The service has answered a request.
    pub(super) fn answered(&mut self) {
        self.busy -= 1;
    }

    /// Requests that run already end, also when the slots become fewer.
    pub(super) fn set_slots(&mut self, slots: usize) {
        self.slots = slots;
    }

    /// A request that waited and has got a slot, and the time of work on it.
    pub(super) fn next(&mut self) -> Option<(usize, Duration)> {
        if self.busy >= self.slots {
            return None;
        }
        let id = self.waiting.pop_front()?;
        self.busy += 1;
        Some((id, self.work()))
    }

    fn work(&mut self) -> Duration {
        WORK.mul_f64(0.75 + 0.5 * self.random.share())
    }
}

/// Random numbers that are the same in every run (SplitMix64, by Steele, Lea and Flood).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// A number from 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as f64 / u64::MAX as f64
    }
}
