//! When a checkpoint is due (K11, K12, K13): a pure function of what has happened.

use core::time::Duration;

use crate::element::BarrierMode;
use crate::time::Instant;

/// The conditions for the next checkpoint, and the mode of its barrier.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trigger {
    /// Processing time from the beginning of a checkpoint to that of the next one.
    pub(super) interval: Option<Duration>,
    /// Records that the source has handed out since the last checkpoint began.
    pub(super) records: Option<u64>,
    /// The least processing time from the end of a checkpoint to the beginning of the next one.
    pub(super) pause: Duration,
    pub(super) mode: BarrierMode,
    /// The time limit of a drain.
    pub(super) limit: Option<Duration>,
}

/// The news that the trigger decides by.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct News {
    /// Something has changed that a restore from the last checkpoint would lose.
    pub(super) has_progress: bool,
    /// The source has handed out as many records as the trigger names.
    pub(super) has_enough_records: bool,
    /// The sink's end holds as much as it wants to until the next checkpoint.
    pub(super) is_full: bool,
    /// Somebody has asked for a checkpoint, or the pipeline cannot go on without one.
    pub(super) is_asked_for: bool,
}

/// The last checkpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub(super) begun: Instant,
    pub(super) ended: Instant,
    /// How long the sink has prepared and committed it. No record was written meanwhile.
    pub(super) held_up: Duration,
    pub(super) has_failed: bool,
}

/// The interval of a pipeline that names neither an interval nor a number of records (K13): without any, a killed process would
/// begin at its start again.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);

/// The pause after a checkpoint that has failed, where there is no interval.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// The time of the next checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Now,
    At(Instant),
}

impl Trigger {
    /// The same, with an interval if it has no condition.
    pub(super) fn or_default_interval(self) -> Self {
        match (self.interval, self.records) {
            (None, None) => Self { interval: Some(DEFAULT_INTERVAL), ..self },
            _ => self,
        }
    }

    /// When a checkpoint is due, if none is under way; `None` while there is no reason for one.
    pub(super) fn due(&self, last: Last, news: News) -> Option<Due> {
        if news.is_asked_for {
            return Some(Due::Now);
        }
        // A slow sink writes at least as long as it commits: checkpoints must not take all its time (K12).
        let mut pause = self.pause.max(last.held_up);
        if last.has_failed {
            pause = pause.max(self.interval.unwrap_or(RETRY_PAUSE));
        }
        let after_pause = last.ended + pause;
        if news.has_enough_records || news.is_full || last.has_failed {
            return Some(Due::At(after_pause));
        }
        let interval = self.interval.filter(|_| news.has_progress)?;
        Some(Due::At((last.begun + interval).max(after_pause)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: i64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    const LAST: Last =
        Last { begun: at(10), ended: at(17), held_up: Duration::ZERO, has_failed: false };

    fn trigger() -> Trigger {
        let (interval, pause) = (Some(Duration::from_secs(5)), Duration::from_secs(1));
        Trigger { interval, records: Some(9), pause, ..Trigger::default() }
    }

    // K13
    #[test]
    fn no_checkpoint_is_due_while_nothing_changes() {
        assert_eq!(trigger().due(LAST, News::default()), None);
        let progress = News { has_progress: true, ..News::default() };
        assert_eq!(Trigger::default().due(LAST, progress), None);
    }

    // K13
    #[test]
    fn a_pipeline_without_a_condition_has_an_interval() {
        let interval = |trigger: Trigger| trigger.or_default_interval().interval;
        assert_eq!(interval(Trigger::default()), Some(Duration::from_secs(1)));
        assert_eq!(interval(Trigger { records: Some(9), ..Trigger::default() }), None);
        assert_eq!(interval(trigger()), trigger().interval);
    }

    // K12
    #[test]
    fn the_interval_counts_from_the_beginning_and_the_pause_from_the_end() {
        let progress = News { has_progress: true, ..News::default() };
        assert_eq!(trigger().due(LAST, progress), Some(Due::At(at(18))));
        let quick = Last { ended: at(11), ..LAST };
        assert_eq!(trigger().due(quick, progress), Some(Due::At(at(15))));
    }

    // K12
    #[test]
    fn a_sink_that_commits_slowly_has_as_long_to_write() {
        let slow = Last { held_up: Duration::from_secs(7), ..LAST };
        let progress = News { has_progress: true, ..News::default() };
        assert_eq!(trigger().due(slow, progress), Some(Due::At(at(24))));
    }

    // K10, K12
    #[test]
    fn a_failed_checkpoint_is_a_reason_for_the_next_one_after_a_pause() {
        let failed = Last { has_failed: true, ..LAST };
        assert_eq!(trigger().due(failed, News::default()), Some(Due::At(at(22))));
        assert_eq!(Trigger::default().due(failed, News::default()), Some(Due::At(at(18))));
        let full = News { is_full: true, ..News::default() };
        assert_eq!(trigger().due(failed, full), Some(Due::At(at(22))));
        assert_eq!(trigger().due(LAST, full), Some(Due::At(at(18))));
    }

    // K12, K16
    #[test]
    fn records_wait_for_the_pause_and_an_ask_for_nothing() {
        let records = News { has_enough_records: true, ..News::default() };
        assert_eq!(trigger().due(LAST, records), Some(Due::At(at(18))));
        let asked = News { is_asked_for: true, ..News::default() };
        assert_eq!(trigger().due(LAST, asked), Some(Due::Now));
    }
}
