//! The rate of the last seconds, and the time that the rest takes at this rate.

use std::collections::VecDeque;
use std::time::Duration;

/// Observations of a counter, for some seconds.
#[derive(Debug, Default)]
pub struct Pace(VecDeque<(Duration, u64)>);

impl Pace {
    /// Longer makes the rate steadier, and slower to follow a change.
    const OVER: Duration = Duration::from_secs(10);

    /// Adds an observation: the counter's value, and the time since the start.
    pub fn add(&mut self, at: Duration, count: u64) {
        self.0.push_back((at, count));
        // One observation stays that is older, so that the whole time is covered.
        while self.0.get(1).is_some_and(|(second, _)| at.saturating_sub(*second) >= Self::OVER) {
            self.0.pop_front();
        }
    }

    /// Counts a second.
    pub fn rate(&self) -> f64 {
        let (Some((since, before)), Some((at, now))) = (self.0.front(), self.0.back()) else {
            return 0.0;
        };
        let seconds = at.saturating_sub(*since).as_secs_f64();
        if seconds > 0.0 { now.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }

    /// The time for `remaining` more counts; `None` if nothing has counted lately.
    pub fn time_for(&self, remaining: u64) -> Option<Duration> {
        Duration::try_from_secs_f64(remaining as f64 / self.rate()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_rate_follows_the_last_ten_seconds() {
        let mut pace = Pace::default();
        assert_eq!((pace.rate(), pace.time_for(1)), (0.0, None));
        // A hundred a second, from a count that an earlier run has reached; then a standstill.
        for second in 0..=20 {
            pace.add(SECOND * second, 5_000 + 100 * u64::from(second));
        }
        assert_eq!((pace.rate(), pace.time_for(250)), (100.0, Some(SECOND * 5 / 2)));
        (21..=25).for_each(|second| pace.add(SECOND * second, 7_000));
        assert_eq!(pace.rate(), 50.0);
        (26..=31).for_each(|second| pace.add(SECOND * second, 7_000));
        assert_eq!((pace.rate(), pace.time_for(250)), (0.0, None));
    }
}
