//! The messages that were taken in: a broker sends unacknowledged messages again, and so does a device.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::message::Message;

/// The part of a checkpoint about all messages that were ever taken in. It is bounded: it remembers a limited
/// number of devices, of each device the latest ranges of numbers, and a limited number of messages without a
/// number. A forgotten message that comes again is processed again; the stream recognises it within its
/// window for duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    devices: BTreeMap<String, Device>,
    unreadable: VecDeque<u64>,
    /// Counts messages, to find the device that was silent for longest.
    clock: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Device {
    /// The first and last number of each range, in ascending order and not adjacent.
    stretches: Vec<(u64, u64)>,
    heard: u64,
}

impl Seen {
    /// A range ends where a number is missing, which seldom happens.
    const STRETCHES: usize = 16;
    const DEVICES: usize = 10_000;
    const UNREADABLE: usize = 4_096;

    /// Adds a message; `false` if it was taken in before.
    pub fn insert(&mut self, message: &Message) -> bool {
        self.clock += 1;
        match message {
            Message::Reading(reading) => self.insert_reading(&reading.device, reading.sequence),
            Message::Unreadable { .. } => self.insert_unreadable(message.fingerprint()),
        }
    }

    fn insert_reading(&mut self, name: &str, sequence: u64) -> bool {
        if !self.devices.contains_key(name) {
            self.make_room();
            self.devices.insert(name.to_owned(), Device::default());
        }
        let Some(device) = self.devices.get_mut(name) else { return true };
        device.heard = self.clock;
        device.insert(sequence)
    }

    /// Forgets the device that was silent for longest, if there are too many.
    fn make_room(&mut self) {
        if self.devices.len() < Self::DEVICES {
            return;
        }
        let silent = self.devices.iter().min_by_key(|(_, device)| device.heard);
        if let Some(name) = silent.map(|(name, _)| name.clone()) {
            self.devices.remove(&name);
        }
    }

    fn insert_unreadable(&mut self, fingerprint: u64) -> bool {
        if self.unreadable.contains(&fingerprint) {
            return false;
        }
        if self.unreadable.len() >= Self::UNREADABLE {
            self.unreadable.pop_front();
        }
        self.unreadable.push_back(fingerprint);
        true
    }
}

impl Device {
    fn insert(&mut self, number: u64) -> bool {
        // The first range that does not end before the number.
        let at = self.stretches.partition_point(|(_, last)| *last < number);
        if self.stretches.get(at).is_some_and(|(first, _)| *first <= number) {
            return false;
        }
        let goes_on = at > 0 && self.stretches[at - 1].1 + 1 == number;
        let leads_in = self.stretches.get(at).is_some_and(|(first, _)| number + 1 == *first);
        match (goes_on, leads_in) {
            (true, true) => self.stretches[at - 1].1 = self.stretches.remove(at).1,
            (true, false) => self.stretches[at - 1].1 = number,
            (false, true) => self.stretches[at].0 = number,
            (false, false) => self.stretches.insert(at, (number, number)),
        }
        if self.stretches.len() > Seen::STRETCHES {
            self.stretches.remove(0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::message::Reading;

    fn reading(device: &str, sequence: u64) -> Message {
        Message::Reading(Reading { device: device.into(), sequence, value: 0.0 })
    }

    #[test]
    fn as_a_set_would_in_any_order_and_in_few_stretches() {
        // They have no divisor in common with 30, so each number comes once in each round.
        for step in [1, 7, 29, 97] {
            let (mut seen, mut set) = (Seen::default(), BTreeSet::new());
            for n in 0..100_u64 {
                let number = n * step % 30;
                assert_eq!(seen.insert(&reading("a", number)), set.insert(number), "{step}: {n}");
            }
            assert_eq!(seen.devices["a"].stretches, [(0, 29)]);
        }
    }

    #[test]
    fn devices_have_numbers_of_their_own_and_the_largest_is_one() {
        let mut seen = Seen::default();
        assert!(seen.insert(&reading("a", 1)) && seen.insert(&reading("b", 1)));
        assert!(seen.insert(&reading("a", u64::MAX)) && !seen.insert(&reading("a", u64::MAX)));
        assert!(seen.insert(&reading("a", u64::MAX - 1)));
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let mut seen = Seen::default();
        for n in 0..1000 {
            assert!(seen.insert(&reading("gaps", 2 * n)));
        }
        assert_eq!(seen.devices["gaps"].stretches.len(), Seen::STRETCHES);
        assert!(!seen.insert(&reading("gaps", 1998)), "the latest is remembered");
        for n in 0..Seen::DEVICES {
            seen.insert(&reading(&format!("device-{n}"), 0));
        }
        assert_eq!(seen.devices.len(), Seen::DEVICES);
        assert!(!seen.devices.contains_key("gaps"), "it was silent for longest");
        for n in 0..2 * Seen::UNREADABLE {
            assert!(seen.insert(&Message::parse(b"", format!("{n}").as_bytes())));
        }
        assert_eq!(seen.unreadable.len(), Seen::UNREADABLE);
    }
}
