//! One life of an operator, from its start to its end or to a crash, driven by the fuzzer's bytes; with the
//! invariants that hold all the time.

mod calls;
mod inputs;
mod outputs;
mod saved;

use std::sync::LazyLock;

use inflight_core::{
    AttemptId, Failure, FinishPolicy, GivenKey, Instant, Operator, Outcome, Status, StreamElement,
};
use serde::{Deserialize, Serialize};

use crate::bytes::Bytes;
use crate::policy::{Built, Error, Out, Policy, Strategy};
use saved::Saved;

/// A record: neither `Clone` nor `Copy`, so that only the operator can hand it back.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Input(u32);

type Answer = Result<Out, Failure<Error>>;
type Output = StreamElement<Outcome<Input, Out, Error>>;

/// The start of a life.
pub struct Restart {
    pub policy: Policy,
    pub fixed: bool,
    pub origin: Origin,
}

/// The remains of the earlier lives.
#[derive(Default)]
pub struct Origin {
    saved: Option<Saved>,
    /// Ids of attempts that are over.
    stale: Vec<AttemptId>,
    records: u32,
    /// The watermarks so far.
    watermarks: i64,
}

/// Inputs that have not come out, as far as that is known.
#[derive(Clone, Debug)]
enum Item {
    Record(Record),
    Watermark {
        timestamp: i64,
        /// True if it may have merged with the watermark before it.
        may_have_merged: bool,
    },
    Status(Status),
    /// A draining barrier, and the time at which its checkpoint may fail.
    Barrier {
        id: u64,
        fails_at: Option<i64>,
    },
    /// The position of a failed barrier.
    Gone,
}

#[derive(Clone, Debug)]
struct Record {
    id: u32,
    key: u64,
    timestamp: Option<i64>,
    /// True if it was not behind the last watermark when it went in.
    on_time: bool,
    request_id: Option<u64>,
    attempts: u32,
    interrupted: u32,
    /// The time of its first invocation, including earlier lives.
    started: Option<i64>,
    /// True if a restore had to make it wait for its slot; its backoff then starts when it gets the slot.
    vague: bool,
    /// Time spent before this life.
    spent: i64,
    state: State,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Waiting,
    Running {
        id: AttemptId,
        since: i64,
    },
    Backoff,
    Done {
        answer: Answer,
        elapsed: Option<i64>,
    },
    /// True if it is to leave without an outcome.
    Dropped,
}

impl State {
    fn is_over(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Dropped)
    }

    fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    fn is_done(&self) -> bool {
        matches!(self, Self::Done { .. })
    }
}

impl Item {
    fn is_control(&self) -> bool {
        !matches!(self, Self::Record(_))
    }

    fn record(&self) -> Option<&Record> {
        match self {
            Self::Record(record) => Some(record),
            _ => None,
        }
    }

    /// True if it leaves without an element in the output.
    fn is_silent(&self) -> bool {
        matches!(self, Self::Gone | Self::Record(Record { state: State::Dropped, .. }))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Open,
    Finishing,
    LastAttempts,
    ShutDown,
}

/// The observed counts, to be compared with the operator's metrics.
#[derive(Default)]
struct Counts {
    records_in: u64,
    emitted: u64,
    failed: u64,
    timed_out: u64,
    attempts: u64,
    retried: u64,
    late: u64,
    dropped_or_will_be: u64,
}

pub struct Life<'a, 'b, S: Built> {
    op: Operator<(Input, Out, Error, Strategy, GivenKey, ()), S>,
    policy: Policy,
    capacity: usize,
    max_running: usize,
    bytes: &'a mut Bytes<'b>,
    origin: Origin,
    /// The number of stale ids from earlier lives.
    inherited: usize,
    items: Vec<Item>,
    clock: i64,
    phase: Phase,
    /// Calls that have timed out, without a decision about them yet.
    undecided: Vec<(AttemptId, u32)>,
    /// True if a restore brought more records than there are slots.
    overfull: bool,
    watermark_in: Option<i64>,
    watermark_out: Option<i64>,
    barriers: u64,
    counts: Counts,
}

/// True if the script is to be printed, to investigate a failure.
fn tells() -> bool {
    static TELLS: LazyLock<bool> = LazyLock::new(|| std::env::var_os("FUZZ_TELL").is_some());
    *TELLS
}

/// Beyond this the clock's arithmetic saturates, so that durations are wrong.
const FAR: i64 = i64::MAX / 8;

impl<'a, 'b, S: Built> Life<'a, 'b, S> {
    /// Starts an operator; from a snapshot if there is one.
    pub fn start(restart: Restart, bytes: &'a mut Bytes<'b>) -> Self {
        let Restart { policy, origin, .. } = restart;
        let mut life = Self {
            op: policy.build(policy.checkpointing()),
            policy,
            capacity: policy.capacity,
            max_running: policy.max_running.unwrap_or(usize::MAX),
            bytes,
            inherited: origin.stale.len(),
            origin,
            items: Vec::new(),
            clock: 0,
            phase: Phase::Open,
            undecided: Vec::new(),
            overfull: false,
            watermark_in: None,
            watermark_out: None,
            barriers: 0,
            counts: Counts::default(),
        };
        if let Some(saved) = life.origin.saved.clone() {
            match life.bytes.byte() {
                250..253 => life.finish(),
                253.. => life.shut_down(),
                _ => {}
            }
            life.restore(saved);
        }
        life
    }

    /// Follows the script, and then drives the remaining records to the end. Or it crashes, and another life
    /// begins.
    pub fn run(mut self) -> Option<Restart> {
        while !self.bytes.is_empty() {
            let restart = self.step();
            if tells() {
                eprintln!("    at {}: {:?}, {:?}", self.clock, self.op, self.items);
            }
            if restart.is_some() {
                return restart;
            }
            self.check();
        }
        self.drive();
        None
    }

    fn step(&mut self) -> Option<Restart> {
        let what = self.bytes.byte() % 32;
        if tells() {
            eprintln!("step {what}");
        }
        match what {
            0..6 => self.push_record(),
            6 | 7 => self.push_watermark(),
            8 => self.push_status(),
            9 => self.push_drain(),
            10 => self.push_snapshot(),
            11..14 => _ = self.poll_attempt(),
            14 => while self.poll_attempt() {},
            15..19 => self.complete(),
            19 => self.complete_stale(),
            20 => _ = self.handle_deadline(),
            21 => while self.handle_deadline() {},
            22 => self.resolve(),
            23 | 24 => _ = self.poll_output(),
            25 => while self.poll_output() {},
            26 => self.set_capacity(),
            27 => self.set_max_running(),
            28 => self.snapshot(),
            29 => return self.crash(),
            30 => match self.bytes.byte() {
                0..32 => self.finish(),
                32..48 => self.shut_down(),
                _ => {}
            },
            _ => {
                // Does all steps at once, like a driver.
                while self.handle_deadline() {}
                while self.poll_attempt() {}
                while self.poll_output() {}
            }
        }
        None
    }

    /// The time to pass in. It advances, or it is earlier than the latest.
    fn now(&mut self) -> Instant {
        let deadline = self.op.poll_deadline().map(Instant::as_nanos);
        let said = match self.bytes.byte() {
            0..160 => self.clock,
            step @ 160..210 => self.clock.saturating_add(i64::from(step) - 160),
            210..220 => deadline.map_or(self.clock, |deadline| deadline.saturating_sub(1)),
            220..240 => deadline.unwrap_or(self.clock),
            240..245 => deadline.map_or(self.clock, |deadline| deadline.saturating_add(1)),
            step @ 245..254 => self.clock.saturating_sub(1 << (step - 245)),
            254 => i64::MIN,
            255 => self.clock.saturating_add(self.bytes.number() as i64),
        };
        self.clock = self.clock.max(said);
        Instant::from_nanos(said)
    }

    fn set_capacity(&mut self) {
        let capacity = self.bytes.below(S::MOST + 3);
        let set = self.op.set_capacity(capacity);
        assert_eq!(set.is_ok(), capacity > 0 && capacity <= self.policy.max_capacity);
        if set.is_ok() {
            self.capacity = capacity;
        }
        assert_eq!(self.op.capacity(), self.capacity);
    }

    fn set_max_running(&mut self) {
        let attempts = self.bytes.below(S::MOST);
        let set = self.op.set_max_running(attempts);
        assert_eq!(set.is_ok(), attempts > 0);
        if set.is_ok() {
            self.max_running = attempts;
        }
    }

    fn finish(&mut self) {
        let now = self.now();
        self.op.finish(now);
        if self.phase == Phase::Open {
            self.phase = match self.policy.finish {
                FinishPolicy::AllRetries => Phase::Finishing,
                FinishPolicy::LastAttempt => Phase::LastAttempts,
            };
        }
    }

    fn shut_down(&mut self) {
        let now = self.now();
        self.op.shut_down(now);
        self.phase = Phase::ShutDown;
        for at in 0..self.items.len() {
            if self.items[at].record().is_some_and(|record| !record.state.is_over()) {
                self.done(at, Err(Failure::ShutDown));
                let answer = Err(Failure::ShutDown);
                self.record(at).state = State::Done { answer, elapsed: None };
            }
        }
    }

    fn records(&self) -> impl Iterator<Item = &Record> {
        self.items.iter().filter_map(Item::record)
    }

    fn record(&mut self, at: usize) -> &mut Record {
        match &mut self.items[at] {
            Item::Record(record) => record,
            other => panic!("{other:?} is no record"),
        }
    }

    fn find(&self, id: u32) -> Option<usize> {
        self.items.iter().position(|item| item.record().is_some_and(|record| record.id == id))
    }

    /// The number of restored records without a slot.
    fn backlog(&self) -> u64 {
        let seen = self.records().filter(|record| record.state != State::Dropped).count() as u64;
        let dropped = self.op.metrics(Instant::ZERO).dropped;
        let still_inside = self.counts.dropped_or_will_be - dropped;
        (seen + still_inside)
            .checked_sub(self.op.in_flight() as u64)
            .expect("more is inside than was put in")
    }

    /// Calls that have failed, whether their outcome has left or waits; and those of them that timed out.
    fn failures(&self) -> [u64; 2] {
        let inside = self.records().filter_map(|record| match &record.state {
            State::Done { answer: Err(failure), .. } => Some(failure),
            _ => None,
        });
        inside.fold([self.counts.failed, self.counts.timed_out], |[failed, timed_out], failure| {
            [failed + 1, timed_out + u64::from(failure.is_timeout())]
        })
    }

    fn check(&mut self) {
        let metrics = self.op.metrics(Instant::from_nanos(self.clock));
        let count = |wanted: fn(&State) -> bool| {
            self.records().filter(|record| wanted(&record.state)).count() as u64
        };
        let backlog = self.backlog();
        assert!(backlog == 0 || self.overfull, "{backlog}");
        assert!(self.op.in_flight() <= self.policy.max_capacity);
        assert_eq!(metrics.in_flight, self.op.in_flight() as u64);
        assert_eq!(metrics.capacity, self.capacity as u64);
        assert_eq!(metrics.records_in, metrics.in_flight + metrics.emitted + metrics.dropped);
        assert_eq!(metrics.records_in, self.counts.records_in - backlog);
        assert_eq!(metrics.emitted, self.counts.emitted);
        let [failed, timed_out] = self.failures();
        assert!(metrics.failed <= failed && metrics.timed_out <= timed_out);
        if backlog == 0 {
            assert_eq!([metrics.failed, metrics.timed_out], [failed, timed_out]);
        }
        assert_eq!(metrics.attempts, self.counts.attempts);
        assert_eq!(metrics.retried, self.counts.retried);
        assert_eq!(metrics.late_completions, self.counts.late);
        assert_eq!(metrics.running, self.op.running() as u64);
        assert_eq!(metrics.running, count(State::is_running));
        assert_eq!(metrics.ordering_delay.count(), metrics.emitted + metrics.dropped);
        assert_eq!(metrics.oldest.is_some(), metrics.in_flight > 0);
        assert!(metrics.running + metrics.in_backoff + metrics.done <= metrics.in_flight);
        assert!(metrics.dropped <= self.counts.dropped_or_will_be);
        if backlog == 0 {
            let still_inside = self.counts.dropped_or_will_be - metrics.dropped;
            assert_eq!(metrics.done, count(State::is_done) + still_inside);
            let in_backoff = count(|state| *state == State::Backoff);
            // Records that got their slot only after the end of the input wait to be invoked at once.
            let vague = |record: &&Record| record.vague && record.state == State::Backoff;
            let may_wait = match self.phase {
                Phase::LastAttempts => self.records().filter(vague).count() as u64,
                _ => 0,
            };
            assert!((in_backoff - may_wait..=in_backoff).contains(&metrics.in_backoff));
        }
        if self.op.is_empty() {
            let mut left = self.items.iter().filter(|item| !self.may_have_left(item));
            assert!(left.next().is_none(), "lost: {:?}", self.items);
        } else {
            assert!(!self.items.is_empty() || self.overfull, "something else is inside");
        }
    }

    /// Drives the operator to its end.
    fn drive(&mut self) {
        let mut rounds = 64 + 64 * self.items.len();
        loop {
            rounds = rounds.checked_sub(1).expect("it comes to an end");
            while self.poll_attempt() {}
            let has_output = self.op.has_output();
            self.poll_output();
            self.check();
            if has_output {
                continue; // without an output, something was forgotten
            }
            if self.op.is_empty() {
                break;
            }
            let running = self.running().next();
            if let Some((_, id, _)) = running {
                self.hand_in(Instant::ZERO, id, Ok(0));
                continue;
            }
            let Some(deadline) = self.op.poll_deadline() else {
                panic!("{:?} stands still; inside: {:?}", self.op, self.items);
            };
            self.clock = self.clock.max(deadline.as_nanos());
            while self.handle_deadline() {}
        }
        assert_eq!((self.op.in_flight(), self.op.running()), (0, 0));
        assert_eq!(self.op.poll_deadline(), None);
        let metrics = self.op.metrics(Instant::ZERO);
        assert_eq!(metrics.records_in, metrics.emitted + metrics.dropped);
        assert_eq!(metrics.dropped, self.counts.dropped_or_will_be);
    }
}
