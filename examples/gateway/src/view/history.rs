//! The numbers of the last minutes.

use std::collections::VecDeque;
use std::time::Duration;

use inflight::Metrics;

use crate::status::Numbers;

/// The numbers of the last seconds, and those of some moments of the last minutes.
#[derive(Debug, Default)]
pub struct History {
    seconds: VecDeque<Numbers>,
    minutes: VecDeque<Numbers>,
}

impl History {
    /// A bar of a spark line stands for this time.
    pub const STEP: Duration = Duration::from_secs(5);

    /// The number of bars: five minutes.
    pub const STEPS: usize = 60;

    /// The time for a rate.
    const RATE_OVER: Duration = Duration::from_secs(2);

    /// The time for latencies.
    const LATELY: Duration = Duration::from_secs(60);

    pub fn add(&mut self, now: Numbers) {
        let at = now.up_for;
        if self.minutes.back().is_none_or(|last| at.saturating_sub(last.up_for) >= Self::STEP) {
            self.minutes.push_back(now.clone());
            self.minutes.drain(..self.minutes.len().saturating_sub(Self::STEPS + 1));
        }
        self.seconds.push_back(now);
        // One moment stays that is older, so that the whole time is covered.
        let is_covered = |second: &Numbers| at.saturating_sub(second.up_for) >= Self::RATE_OVER;
        while self.seconds.get(1).is_some_and(is_covered) {
            self.seconds.pop_front();
        }
    }

    /// The latest numbers.
    pub fn now(&self) -> Option<&Numbers> {
        self.seconds.back()
    }

    /// The present rate of a counter, a second.
    pub fn rate(&self, of: fn(&Numbers) -> u64) -> f64 {
        self.seconds.front().zip(self.now()).map_or(0.0, |(before, now)| rate(before, now, of))
    }

    /// The rates of a counter in the last minutes, a second, oldest first: at most [`STEPS`](Self::STEPS).
    pub fn rates(&self, of: fn(&Numbers) -> u64) -> Vec<f64> {
        let moments = self.minutes.iter();
        moments.clone().zip(moments.skip(1)).map(|(before, now)| rate(before, now, of)).collect()
    }

    /// The stage's numbers of the last minute, and the length of that minute, which is shorter at the start.
    pub fn lately(&self) -> (Metrics, Duration) {
        let Some(now) = self.now() else { return Default::default() };
        let age = |moment: &Numbers| now.up_for.saturating_sub(moment.up_for);
        let is_old = |moment: &&Numbers| age(moment) >= Self::LATELY;
        let before = self.minutes.iter().rev().find(is_old).or(self.minutes.front());
        before.map_or_else(Default::default, |before| (now.stage.since(&before.stage), age(before)))
    }
}

fn rate(before: &Numbers, now: &Numbers, of: fn(&Numbers) -> u64) -> f64 {
    let time = now.up_for.saturating_sub(before.up_for).as_secs_f64();
    of(now).saturating_sub(of(before)) as f64 / time.max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::Status;

    /// The numbers after some seconds, with 100 readings in each.
    fn moment(seconds: u64, call: Duration) -> Numbers {
        let mut numbers = Status::new().numbers();
        (numbers.up_for, numbers.received) = (Duration::from_secs(seconds), 100 * seconds);
        // A call in each second, all of them after the first 100 seconds slower.
        (0..seconds.min(100))
            .for_each(|_| numbers.stage.call_time.record(Duration::from_millis(1)));
        (100..seconds).for_each(|_| numbers.stage.call_time.record(call));
        numbers
    }

    #[test]
    fn rates_are_those_of_the_last_seconds_and_of_each_step() {
        let mut history = History::default();
        assert_eq!(
            (history.rate(|now| now.received), history.rates(|now| now.received)),
            (0.0, vec![])
        );
        for second in 0..=11 {
            history.add(moment(second, Duration::ZERO));
        }
        let mut still = moment(11, Duration::ZERO);
        still.up_for = Duration::from_secs(12);
        history.add(still);
        assert_eq!(history.rate(|now| now.received), 50.0);
        assert_eq!(history.rates(|now| now.received), [100.0, 100.0]);
        (13..2_000).for_each(|second| history.add(moment(second, Duration::ZERO)));
        assert_eq!(history.rates(|now| now.received), [100.0; History::STEPS]);
        assert_eq!((history.seconds.len(), history.minutes.len()), (3, History::STEPS + 1));
    }

    #[test]
    fn latencies_are_those_of_the_last_minute() {
        let (mut history, slow) = (History::default(), Duration::from_secs(3));
        assert_eq!(history.lately(), Default::default());
        (0..=30).for_each(|second| history.add(moment(second, slow)));
        let (stage, time) = history.lately();
        assert_eq!((stage.call_time.count(), time), (30, Duration::from_secs(30)));
        (31..=170).for_each(|second| history.add(moment(second, slow)));
        let (stage, time) = history.lately();
        assert_eq!((stage.call_time.count(), time), (60, Duration::from_secs(60)));
        assert!(stage.call_time.quantile(0.0) > slow, "calls of the minutes before count");
    }
}
