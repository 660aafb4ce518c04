//! What the user sees of a run: some lines on a terminal, or one line in a log.

use std::time::{Duration, UNIX_EPOCH};

use inflight::prelude::*;

use crate::counters::Counters;
use crate::terminal::cells::{Cells, legend};
use crate::terminal::ink::{Ink, Line, flow};
use crate::terminal::numbers::thousands;

/// The numbers of one moment.
#[derive(Clone, Debug, Default)]
pub struct Moment {
    pub done: u64,
    /// Lines a second, lately.
    pub rate: f64,
    /// The lines that are not done, estimated from the length of those before; `None` if the input's length is unknown.
    pub remaining: Option<u64>,
    /// `None` if nothing was done lately.
    pub eta: Option<Duration>,
    pub in_flight: u64,
    pub rejected: u64,
    pub retries: u64,
    pub timeouts: u64,
    pub event_time: Option<Timestamp>,
    /// `None` before the stage has started.
    pub stage: Option<(Metrics, Cells)>,
}

impl Moment {
    pub fn new(counters: &Counters, length: Option<u64>) -> Self {
        Self {
            done: counters.done(),
            remaining: length.map(|length| remaining(counters, length)),
            in_flight: counters.in_flight(),
            rejected: counters.rejected.get(),
            retries: counters.retries.get(),
            timeouts: counters.timeouts.get(),
            event_time: counters.event_time(),
            ..Self::default()
        }
    }

    /// For a terminal of this width.
    pub fn lines(&self, width: usize) -> Vec<Line> {
        let mut lines = self.progress(width);
        lines.extend(flow("", self.counts(), width));
        if let Some((stage, cells)) = &self.stage {
            lines.push(cells.line(stage, width));
            lines.extend(flow(
                "",
                legend(stage).into_iter().chain(cells.notes(stage, width)),
                width,
            ));
        }
        lines
    }

    /// For a file or a pipe.
    pub fn log_line(&self) -> String {
        let place = self.remaining.map(|_| format!(", {}, {}", self.percent(), self.eta()));
        format!(
            "{} lines done, {}/s{}, {} in flight, {} rejected, {} retries, {} timeouts",
            thousands(self.done),
            thousands(self.rate.round() as u64),
            place.unwrap_or_default(),
            thousands(self.in_flight),
            thousands(self.rejected),
            thousands(self.retries),
            thousands(self.timeouts),
        )
    }

    /// A bar, if there is an end to go to.
    fn progress(&self, width: usize) -> Vec<Line> {
        const BAR: usize = 24;
        let event_time =
            self.event_time.map(|time| Line::new(format!("event time {}", minute(time))));
        let Some(remaining) = self.remaining else {
            return event_time.map(|line| vec![line]).unwrap_or_default();
        };
        let full = BAR as f64 * self.done as f64 / (self.done + remaining).max(1) as f64;
        let full = "=".repeat(full as usize);
        let bar = Line::inked(Ink::Green, format!("[{full:BAR$}]"))
            .then(None, format!(" {}", self.percent()));
        flow("", [Some(bar), Some(Line::new(self.eta())), event_time].into_iter().flatten(), width)
    }

    fn counts(&self) -> [Line; 5] {
        let bad = (self.rejected > 0).then_some(Ink::Red);
        [
            Line::new(format!("{} lines done", thousands(self.done))),
            Line::new(format!("{}/s", thousands(self.rate.round() as u64))),
            Line::inked(bad, format!("{} rejected", thousands(self.rejected))),
            Line::new(format!("{} retries", thousands(self.retries))),
            Line::new(format!("{} timeouts", thousands(self.timeouts))),
        ]
    }

    /// Rounded down, so that 100% means that all is done.
    fn percent(&self) -> String {
        let all = (self.done + self.remaining.unwrap_or_default()).max(1);
        format!("{}%", self.done * 100 / all)
    }

    fn eta(&self) -> String {
        match self.eta {
            Some(eta) => {
                format!("ETA {}", humantime::format_duration(Duration::from_secs(eta.as_secs())))
            }
            None => "ETA unknown".into(),
        }
    }
}

/// The lines in flight, and those that are not read, if they are as long as those that are.
fn remaining(counters: &Counters, length: u64) -> u64 {
    let (lines, bytes) = (counters.lines.get(), counters.bytes.get());
    let unread = length.saturating_sub(bytes) as f64 * lines as f64 / bytes.max(1) as f64;
    counters.in_flight() + unread as u64
}

/// The date and the time, to the minute.
fn minute(time: Timestamp) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or_default();
    let time =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis)).to_string();
    time.replace('T', " ").chars().take("2001-01-01 00:00".len()).collect()
}

#[cfg(test)]
mod tests {
    use inflight::CellState;

    use super::*;
    use crate::terminal::ink::Palette;

    fn moment() -> Moment {
        let mut stage = Metrics::default();
        (stage.in_flight, stage.capacity, stage.running, stage.in_backoff, stage.done) =
            (90, 100, 60, 20, 5);
        stage.oldest = Some(Duration::from_millis(2_100));
        let states = [
            (CellState::Running, 60),
            (CellState::Backoff, 20),
            (CellState::Done, 5),
            (CellState::Waiting, 5),
        ];
        let states = states.into_iter().flat_map(|(state, count)| vec![state; count]).collect();
        Moment {
            done: 43_000,
            rate: 1_480.4,
            remaining: Some(57_000),
            eta: Some(Duration::from_millis(72_900)),
            in_flight: 90,
            rejected: 3,
            retries: 1_097,
            timeouts: 12,
            event_time: Some(Timestamp::from_millis(978_479_999_999)),
            stage: Some((stage, Cells { states, omitted: 0 })),
        }
    }

    fn drawn(moment: &Moment, width: usize) -> Vec<String> {
        moment.lines(width).iter().map(|line| line.draw(width, Palette::None)).collect()
    }

    #[test]
    fn the_user_sees_the_window_at_work() {
        let lines = [
            "[==========              ] 43%   ETA 1m 12s   event time 2001-01-02 23:59",
            "43,000 lines done   1,480/s   3 rejected   1,097 retries   12 timeouts",
            "[██████████████████████████████▒▒▒▒▒▒▒▒▒▒▪▪···     ]",
            "█ 60 running   ▒ 20 in backoff   · 5 waiting   ▪ 5 done   oldest 2.1 s",
            "1 cell = 2 records",
        ];
        assert_eq!(drawn(&moment(), 80), lines);
        let narrow = drawn(&moment(), 40);
        assert!(narrow.contains(&"1 cell = 3 records".into()), "{narrow:#?}");
        for width in 3..200 {
            let lines = drawn(&moment(), width);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
        }
    }

    #[test]
    fn without_a_length_there_is_no_bar() {
        let moment = Moment { remaining: None, event_time: None, stage: None, ..moment() };
        assert_eq!(
            drawn(&moment, 80),
            ["43,000 lines done   1,480/s   3 rejected   1,097 retries   12 timeouts"]
        );
        assert_eq!(
            moment.log_line(),
            "43,000 lines done, 1,480/s, 90 in flight, 3 rejected, 1,097 retries, 12 timeouts"
        );
    }

    #[test]
    fn a_log_has_it_in_one_line() {
        assert_eq!(
            Moment { eta: None, ..moment() }.log_line(),
            "43,000 lines done, 1,480/s, 43%, ETA unknown, 90 in flight, 3 rejected, 1,097 retries, 12 timeouts"
        );
    }

    #[test]
    fn rejected_lines_are_red() {
        let red = |moment: &Moment| {
            moment
                .lines(80)
                .iter()
                .any(|line| line.draw(80, Palette::Many).contains("\x1b[91m3 rejected"))
        };
        assert!(red(&moment()));
        assert!(!red(&Moment { rejected: 0, ..moment() }));
    }

    #[test]
    fn the_rest_is_estimated_from_the_lines_before() {
        let counters = Counters::default();
        assert_eq!(remaining(&counters, 1_000), 0);
        counters.lines.add(10);
        counters.bytes.add(200);
        counters.written.add(7);
        assert_eq!(remaining(&counters, 1_000), 3 + 40);
    }
}
