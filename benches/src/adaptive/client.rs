//! A client of the service: an operator in an event loop, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use inflight::{
    AdaptiveLimit, AsyncWait, Completion, ExponentialBackoff, Failure, Heap, Instant,
    LimitStrategy, Operator, StreamElement, Unkeyed,
};

use super::history::History;
use super::service::{OUTAGE, REFUSAL, Random, Reply, SLOTS, Service};

/// The records in flight, with those in backoff.
const WINDOW: usize = 400;
/// A refused record is tried again after up to this time, then after twice as long each time.
const BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(2);
/// The end of the simulation.
pub(super) const END: Duration = Duration::from_secs(180);

/// Where the records come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Load {
    /// There is always another one: a job that reads a backlog.
    Backlog,
    /// So many a second, at random intervals.
    Stream(u32),
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Backlog => f.write_str("backlog"),
            Self::Stream(rate) => write!(f, "{rate} /s"),
        }
    }
}

/// In the order in which they happen when they are due at one instant. A request has the number of its record's slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The number of requests that the service works on at once changes.
    Capacity(usize),
    /// The service has answered.
    Answered(usize),
    /// A refusal has arrived.
    Refused(usize),
    /// A stream's next record.
    Record,
}

pub(super) struct Client<L: LimitStrategy> {
    operator: Operator<((), (), (), ExponentialBackoff, Unkeyed, ((), AdaptiveLimit<L>)), Heap>,
    load: Load,
    service: Service,
    random: Random,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    /// The start of the latest attempt in each slot.
    starts: Vec<Duration>,
    /// Records of a stream that have not been taken in.
    lag: usize,
    history: History,
}

impl<L: LimitStrategy> Client<L> {
    pub(super) fn new(limit: L, load: Load, seed: u64) -> Result<Self> {
        let backoff = ExponentialBackoff::new(BACKOFF).max_delay(LONGEST_BACKOFF).jitter(0.5, seed);
        let policy = AsyncWait::unordered(WINDOW).limit(limit);
        let operator = policy.retry(backoff.max_retries(u32::MAX)).build_core()?;
        let events = BinaryHeap::from([
            Reverse((OUTAGE.0, Event::Capacity(SLOTS / 2))),
            Reverse((OUTAGE.1, Event::Capacity(SLOTS))),
            Reverse((Duration::ZERO, Event::Record)),
        ]);
        let (service, random, starts) =
            (Service::new(seed), Random(!seed), vec![Duration::ZERO; WINDOW]);
        let (now, lag, history) = (Duration::ZERO, 0, History::default());
        Ok(Self { operator, load, service, random, now, events, starts, lag, history })
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> Result<History> {
        loop {
            let event = self.events.peek().map_or(END, |next| next.0.0);
            let deadline = self.operator.poll_deadline().map_or(END, |at| at - Instant::ZERO);
            self.now = event.min(deadline);
            if self.now >= END {
                return Ok(self.history);
            }
            if event <= self.now
                && let Some(Reverse((_, event))) = self.events.pop()
            {
                self.handle(event)?;
            }
            while self.operator.handle_deadline(self.instant()).is_some() {}
            while self.operator.poll_output().is_some() {}
            self.take_in();
            self.start();
            self.history.limit(self.now, self.operator.running_limit());
        }
    }

    fn handle(&mut self, event: Event) -> Result<()> {
        match event {
            Event::Capacity(slots) => self.service.set_slots(slots),
            Event::Answered(slot) => {
                self.service.answered();
                self.history.answer(self.now, self.latency(slot));
                self.ended(slot, Ok(()))?;
            }
            Event::Refused(slot) => {
                self.history.refusal(self.now);
                self.ended(slot, Err(Failure::Error(())))?;
            }
            Event::Record => {
                if let Load::Stream(rate) = self.load {
                    self.lag += 1;
                    self.history.offer(self.now);
                    let gap = Duration::from_secs_f64(2.0 * self.random.share() / f64::from(rate));
                    self.later(gap, Event::Record);
                }
            }
        }
        while let Some((slot, work)) = self.service.next() {
            self.later(work, Event::Answered(slot));
        }
        Ok(())
    }

    fn ended(&mut self, slot: usize, result: Result<(), Failure<()>>) -> Result<()> {
        let completion = self.operator.handle_completion_in(self.instant(), slot, result);
        ensure!(completion != Completion::Late, "no request is late");
        Ok(())
    }

    fn take_in(&mut self) {
        while self.lag > 0 || self.load == Load::Backlog {
            if self.operator.push(self.instant(), StreamElement::value(())).is_err() {
                return; // full
            }
            self.lag = self.lag.saturating_sub(1);
        }
    }

    fn start(&mut self) {
        while let Some(attempt) = self.operator.poll_attempt(self.instant()) {
            let slot = attempt.id.slot();
            self.starts[slot] = self.now;
            match self.service.request(slot) {
                Reply::Works(work) => self.later(work, Event::Answered(slot)),
                Reply::Waits => {}
                Reply::Refuses => self.later(REFUSAL, Event::Refused(slot)),
            }
        }
    }

    fn latency(&self, slot: usize) -> Duration {
        self.now - self.starts[slot]
    }

    fn instant(&self) -> Instant {
        Instant::ZERO + self.now
    }

    fn later(&mut self, time: Duration, event: Event) {
        self.events.push(Reverse((self.now + time, event)));
    }
}
