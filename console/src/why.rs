//! One sentence for a person: why the oldest record has not left.

use std::borrow::Cow;
use std::time::Duration;

use inflight_core::{Cell, CellState, Metrics};

/// Why the oldest record is where it is. A record may have more than one reason, which a stage does not tell apart; then the sentence names
/// those that are possible.
pub(crate) fn why(oldest: &Cell, numbers: &Metrics) -> String {
    let attempt = ordinal(oldest.attempts);
    match oldest.state {
        CellState::Running => {
            format!("Its {attempt} attempt is running{}", done_behind(numbers.done))
        }
        CellState::Backoff => format!(
            "Its {attempt} attempt has failed, and the backoff before the next one is not over{}",
            done_behind(numbers.done)
        ),
        CellState::Done => "It is done, and its consumer has not taken it.".into(),
        CellState::Waiting => waiting(numbers),
    }
}

fn waiting(numbers: &Metrics) -> String {
    let busy = numbers.limit.filter(|limit| numbers.running >= *limit);
    match (numbers.paused, numbers.next_start, busy) {
        (true, Some(left), _) => format!("The stage is paused for another {}.", seconds(left)),
        (true, None, _) => "The stage is paused until it is resumed.".into(),
        (false, Some(left), _) => {
            format!("A rate, or a batch that fills, lets the next attempt start in {}.", seconds(left))
        }
        (false, None, Some(limit)) => format!("It waits for one of the {limit} running attempts to end."),
        (false, None, None) => {
            "It waits for the record before it with the same key, for a permit, or for more records of its batch.".into()
        }
    }
}

fn done_behind(done: u64) -> String {
    match done {
        0 => ".".into(),
        1 => "; 1 record that is done has not left.".into(),
        done => format!("; {done} records that are done have not left."),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn ordinal(attempts: u32) -> Cow<'static, str> {
    const WORDS: [&str; 6] = ["next", "first", "second", "third", "fourth", "fifth"];
    match WORDS.get(attempts as usize) {
        Some(word) => (*word).into(),
        None => match (attempts % 10, attempts % 100) {
            (1, last) if last != 11 => format!("{attempts}st").into(),
            (2, last) if last != 12 => format!("{attempts}nd").into(),
            (3, last) if last != 13 => format!("{attempts}rd").into(),
            _ => format!("{attempts}th").into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(state: CellState, attempts: u32, change: impl FnOnce(&mut Metrics)) -> String {
        let mut numbers = Metrics::default();
        change(&mut numbers);
        why(&Cell::new(state, attempts, Duration::ZERO), &numbers)
    }

    #[test]
    fn each_reason_has_a_sentence() {
        let reasons = [
            told(CellState::Running, 3, |numbers| numbers.done = 15),
            told(CellState::Running, 12, |_| {}),
            told(CellState::Backoff, 1, |numbers| numbers.done = 1),
            told(CellState::Done, 1, |_| {}),
            told(CellState::Waiting, 0, |numbers| numbers.paused = true),
            told(CellState::Waiting, 0, |numbers| {
                (numbers.paused, numbers.next_start) = (true, Some(Duration::from_millis(1500)));
            }),
            told(CellState::Waiting, 0, |numbers| {
                numbers.next_start = Some(Duration::from_secs(2))
            }),
            told(CellState::Waiting, 0, |numbers| (numbers.running, numbers.limit) = (4, Some(4))),
            told(CellState::Waiting, 0, |_| {}),
        ];
        let expected = [
            "Its third attempt is running; 15 records that are done have not left.",
            "Its 12th attempt is running.",
            "Its first attempt has failed, and the backoff before the next one is not over; 1 record that is done has not left.",
            "It is done, and its consumer has not taken it.",
            "The stage is paused until it is resumed.",
            "The stage is paused for another 1.5 s.",
            "A rate, or a batch that fills, lets the next attempt start in 2.0 s.",
            "It waits for one of the 4 running attempts to end.",
            "It waits for the record before it with the same key, for a permit, or for more records of its batch.",
        ];
        assert_eq!(reasons, expected);
    }

    #[test]
    fn attempts_are_counted_as_people_count() {
        let words = [0, 1, 5, 6, 11, 12, 13, 21, 22, 33, 101, 111].map(ordinal);
        let expected = [
            "next", "first", "fifth", "6th", "11th", "12th", "13th", "21st", "22nd", "33rd",
            "101st", "111th",
        ];
        assert_eq!(words, expected);
    }
}
