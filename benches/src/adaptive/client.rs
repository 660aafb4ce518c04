//! A client of the service in virtual time: records, a limit of running requests, and retries with backoff.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use inflight::{LimitStrategy, Sample, Verdict};

use super::history::History;
use super::service::{OUTAGE, REFUSAL, Random, Reply, SLOTS, Service};

/// The records that a client takes in at once, with those in backoff.
const WINDOW: usize = 400;
/// A refused record is tried again after this time, then after twice as long each time.
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

/// In the order in which they happen when they are due at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The number of the service's slots changes.
    Slots(usize),
    /// The service has answered.
    Answered(u64),
    /// A refusal has arrived.
    Refused(u64),
    /// A record's backoff is over.
    Again(u64),
    /// A stream's next record.
    Record,
}

struct Record {
    /// The start of the attempt that runs, or has run.
    start: Duration,
    refusals: u32,
}

pub(super) struct Client<L> {
    limit: L,
    load: Load,
    service: Service,
    random: Random,
    now: Duration,
    events: BinaryHeap<Reverse<(Duration, Event)>>,
    records: HashMap<u64, Record>,
    next_id: u64,
    /// Records of a stream that have not been taken in.
    lag: usize,
    /// Records that may start.
    queue: VecDeque<u64>,
    running: usize,
    history: History,
}

impl<L: LimitStrategy> Client<L> {
    pub(super) fn new(limit: L, load: Load, seed: u64) -> Self {
        let events = BinaryHeap::from([
            Reverse((OUTAGE.0, Event::Slots(SLOTS / 2))),
            Reverse((OUTAGE.1, Event::Slots(SLOTS))),
            Reverse((Duration::ZERO, Event::Record)),
        ]);
        let (service, random) = (Service::new(seed), Random(!seed));
        let (records, queue, history) = Default::default();
        let (now, next_id, lag, running) = (Duration::ZERO, 0, 0, 0);
        Self {
            limit,
            load,
            service,
            random,
            now,
            events,
            records,
            next_id,
            lag,
            queue,
            running,
            history,
        }
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> History {
        while let Some(Reverse((at, event))) = self.events.pop().filter(|next| next.0.0 < END) {
            self.now = at;
            self.handle(event);
            while let Some((id, work)) = self.service.next() {
                self.later(work, Event::Answered(id));
            }
            self.take_in();
            self.start();
            self.history.limit(at, self.limit.limit());
        }
        self.history
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Slots(slots) => self.service.set_slots(slots),
            Event::Answered(id) => {
                self.service.answered();
                let record = self.records.remove(&id).expect("it is in flight");
                let latency = self.now - record.start;
                self.history.answer(self.now, latency);
                self.ended(latency, Verdict::Answered);
            }
            Event::Refused(id) => {
                let record = self.records.get_mut(&id).expect("it is in flight");
                record.refusals += 1;
                let backoff = BACKOFF * (1 << (record.refusals - 1).min(10));
                let latency = self.now - record.start;
                let jitter = 0.5 + 0.5 * self.random.share();
                self.later(backoff.min(LONGEST_BACKOFF).mul_f64(jitter), Event::Again(id));
                self.history.refusal(self.now);
                self.ended(latency, Verdict::Overloaded);
            }
            Event::Again(id) => self.queue.push_back(id),
            Event::Record => {
                if let Load::Stream(rate) = self.load {
                    self.lag += 1;
                    self.history.offer(self.now);
                    let gap = Duration::from_secs_f64(2.0 * self.random.share() / f64::from(rate));
                    self.later(gap, Event::Record);
                }
            }
        }
    }

    fn ended(&mut self, latency: Duration, verdict: Verdict) {
        self.limit.observe(Sample::new(latency, verdict, self.running));
        self.running -= 1;
    }

    fn take_in(&mut self) {
        while self.records.len() < WINDOW && (self.lag > 0 || self.load == Load::Backlog) {
            self.lag = self.lag.saturating_sub(1);
            self.records.insert(self.next_id, Record { start: self.now, refusals: 0 });
            self.queue.push_back(self.next_id);
            self.next_id += 1;
        }
    }

    fn start(&mut self) {
        while self.running < self.limit.limit()
            && let Some(id) = self.queue.pop_front()
        {
            self.running += 1;
            self.records.get_mut(&id).expect("it is in flight").start = self.now;
            match self.service.request(id) {
                Reply::Works(work) => self.later(work, Event::Answered(id)),
                Reply::Waits => {}
                Reply::Refuses => self.later(REFUSAL, Event::Refused(id)),
            }
        }
    }

    fn later(&mut self, time: Duration, event: Event) {
        self.events.push(Reverse((self.now + time, event)));
    }
}
