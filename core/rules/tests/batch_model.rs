//! The operator's batches against a naive model, on random schedules (B1-B4): the model keeps lists of records and looks through them.
//!
//! `BATCH_SEED=n` runs one seed.
#![cfg(feature = "alloc")]

use std::collections::BTreeMap;
use std::time::Duration;

use inflight_core::*;
use random::Random;

#[path = "../../tests/simulation/random.rs"]
#[allow(dead_code)]
mod random;

const MS: Duration = Duration::from_millis(1);

/// A record: its number, which is its request id, and a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    number: u32,
    key: u32,
    weight: u64,
}

/// Retries errors up to twice. No two records have the same delay, so that the model knows the order in which backoffs end.
#[derive(Clone, Copy)]
struct Backoff;

fn backoff_of(record: Record, attempt: u32) -> Duration {
    (1 + record.number % 7) * MS + Duration::from_nanos(u64::from(record.number * 4 + attempt))
}

impl RetryStrategy<Record, u32, u8> for Backoff {
    fn next_delay(
        &self,
        attempt: AttemptInfo,
        record: &Record,
        result: &Result<u32, Failure<u8>>,
    ) -> Option<Duration> {
        let is_error = matches!(result, Err(Failure::Error(_)));
        (is_error && attempt.number < 3).then(|| backoff_of(*record, attempt.number))
    }
}

type Op<S> = Operator<
    (Record, u32, u8, Backoff, KeyBy<fn(&Record) -> u32>, ((), BatchSize<WeighBy<Weight>>)),
    S,
>;

type Weight = fn(&Record) -> u64;

#[derive(Clone, Copy, Debug)]
struct Setup {
    order: Order,
    capacity: usize,
    max_running: usize,
    most_records: usize,
    most_weight: u64,
    within: Duration,
    timeout: Option<Duration>,
}

impl Setup {
    fn of(random: &mut Random) -> Self {
        let orders = [Order::Ordered, Order::Unordered, Order::ByKey, Order::ByKeyOverlapping];
        Self {
            order: random.pick(&orders),
            capacity: 1 + random.below(12),
            max_running: 1 + random.below(4),
            most_records: 1 + random.below(5),
            most_weight: random.pick(&[1, 5, 20, u64::MAX]),
            within: MS * random.pick(&[0, 0, 3, 1_000]),
            timeout: random.pick(&[None, Some(9 * MS), Some(40 * MS)]),
        }
    }

    fn policy(
        self,
    ) -> AsyncWait<Backoff, KeyBy<fn(&Record) -> u32>, ((), BatchSize<WeighBy<Weight>>)> {
        let key: fn(&Record) -> u32 = |record| record.key;
        let weight: Weight = |record| record.weight;
        let policy = match self.order {
            Order::Ordered => AsyncWait::ordered(self.capacity).with_key(key),
            Order::Unordered => AsyncWait::unordered(self.capacity).with_key(key),
            Order::ByKey => AsyncWait::ordered_by_key(self.capacity, key),
            _ => AsyncWait::ordered_by_key(self.capacity, key).overlapping(),
        };
        let size = BatchSize::records(self.most_records).weight(self.most_weight, weight);
        let policy = policy.max_running(self.max_running).retry(Backoff);
        let policy = policy.batch(size.within(self.within));
        self.timeout.map_or(policy, |timeout| policy.timeout(timeout))
    }
}

/// What the model knows of a record in flight.
#[derive(Clone, Copy, Debug)]
struct Known {
    record: Record,
    /// The control elements before it.
    segment: usize,
    /// Since when it waits.
    since: Instant,
    attempt: u32,
    /// Of its latest attempt.
    id: Option<AttemptId>,
}

struct World<S: Storage> {
    op: Op<S>,
    setup: Setup,
    now: Instant,
    is_paused: bool,
    is_finished: bool,
    next: u32,
    controls: usize,
    /// The queue, in its order.
    waiting: Vec<Known>,
    /// By key, one attempt a key: records behind another one of their key without an outcome.
    held: Vec<Known>,
    backoff: Vec<(Instant, Known)>,
    /// Each with its records; `None` for one that has left it.
    running: Vec<(BatchId, Vec<Option<Known>>)>,
    /// The outcomes that are due, by record; removed as they leave.
    done: BTreeMap<u32, (Known, Result<u32, Failure<u8>>)>,
    left: Vec<Known>,
    in_flight: usize,
    /// For the messages.
    seed: u64,
}

impl<S: Storage> World<S> {
    fn push(&mut self, random: &mut Random) {
        let weight = random.pick(&[0, 1, 1, 2, 6, 30]);
        let record = Record { number: self.next, key: random.below(4) as u32, weight };
        let pushed = self.op.push(self.now, StreamElement::value(record));
        let has_room = !self.is_finished && self.in_flight < self.setup.capacity;
        assert_eq!(pushed.is_ok(), has_room, "seed {}", self.seed);
        if pushed.is_err() {
            return;
        }
        self.next += 1;
        self.in_flight += 1;
        let known = Known { record, segment: self.controls, since: self.now, attempt: 0, id: None };
        let is_held = self.setup.order == Order::ByKey && self.has_call(record.key);
        if is_held { self.held.push(known) } else { self.waiting.push(known) }
    }

    /// Whether a record of this key has no outcome.
    fn has_call(&self, key: u32) -> bool {
        let running = self.running.iter().flat_map(|(_, members)| members.iter().flatten());
        let backoff = self.backoff.iter().map(|(_, known)| known);
        let all = self.waiting.iter().chain(&self.held).chain(running).chain(backoff);
        all.into_iter().any(|known| known.record.key == key)
    }

    fn control(&mut self) {
        let watermark = StreamElement::Watermark(Timestamp::from_millis(self.now.as_nanos()));
        if self.op.push(self.now, watermark).is_ok() {
            self.controls += 1;
        }
    }

    /// The records of the next batch, and whether nothing more can join it.
    fn forming(&self) -> (usize, bool) {
        let mut weight = 0_u64;
        for (count, known) in self.waiting.iter().enumerate() {
            let is_full = count == self.setup.most_records || weight >= self.setup.most_weight;
            let together = weight.saturating_add(known.record.weight);
            if count > 0 && (is_full || together > self.setup.most_weight) {
                return (count, true);
            }
            weight = together;
        }
        let count = self.waiting.len();
        (count, count == self.setup.most_records || weight >= self.setup.most_weight)
    }

    /// Whether a batch is due, apart from what bounds running batches.
    fn is_due(&self) -> bool {
        let Some(first) = self.waiting.first() else { return false };
        self.forming().1
            || self.waiting.iter().any(|known| known.segment < self.controls)
            || self.is_finished
            || self.is_stuck()
            || first.since + self.setup.within <= self.now
    }

    /// Whether no record is taken in before a batch has gone.
    fn is_stuck(&self) -> bool {
        let runs = self.running.iter().any(|(_, members)| members.iter().any(Option::is_some));
        self.in_flight >= self.setup.capacity && !runs && !self.op.has_output()
    }

    fn may_run(&self) -> bool {
        !self.is_paused && self.running.len() < self.setup.max_running
    }

    /// Starts one batch, if one is due.
    fn start(&mut self) -> bool {
        let (count, _) = self.forming();
        let is_due = self.is_due() && self.may_run();
        assert_eq!(self.op.has_batch(), is_due, "seed {}, {:?}", self.seed, self.setup);
        let Some(batch) = self.op.poll_batch(self.now) else {
            assert!(!is_due);
            return false;
        };
        let mut members: Vec<_> = self.waiting.drain(..count).collect();
        let records: Vec<_> = batch.iter().map(|one| (*one.input, one.info.number)).collect();
        for (known, one) in members.iter_mut().zip(batch) {
            (known.attempt, known.id) = (known.attempt + 1, Some(one.id));
        }
        let expected: Vec<_> = members.iter().map(|known| (known.record, known.attempt)).collect();
        assert_eq!(records, expected, "seed {}, {:?}", self.seed, self.setup);
        if self.setup.order == Order::ByKey {
            let mut keys: Vec<_> = members.iter().map(|known| known.record.key).collect();
            keys.sort_unstable();
            keys.dedup();
            assert_eq!(keys.len(), members.len(), "seed {}", self.seed);
        }
        self.running.push((batch.id(), members.into_iter().map(Some).collect()));
        true
    }

    /// A call has this outcome.
    fn end(&mut self, known: Known, result: Result<u32, Failure<u8>>) {
        self.done.insert(known.record.number, (known, result));
        let next = self.held.iter().position(|held| held.record.key == known.record.key);
        if let Some(next) = next {
            let next = self.held.remove(next);
            self.waiting.push(next);
        }
    }

    fn end_attempt(&mut self, known: Known, result: Result<u32, Failure<u8>>) {
        match result {
            Err(Failure::Error(_)) if known.attempt < 3 => {
                let until = self.now + backoff_of(known.record, known.attempt);
                self.backoff.push((until, known));
            }
            result => self.end(known, result),
        }
    }

    fn complete(&mut self, random: &mut Random) {
        if self.running.is_empty() {
            return;
        }
        let (id, members) = self.running.remove(random.below(self.running.len()));
        assert_eq!(self.op.batch_in(id.number()), Some(id), "seed {}", self.seed);
        let answers: Vec<Result<u32, u8>> = members
            .iter()
            .map(|_| if random.one_in(4) { Err(1) } else { Ok(random.below(100) as u32) })
            .collect();
        let results: Vec<_> = match random.below(10) {
            0 => {
                let _ = self.op.handle_batch_failure(self.now, id, Failure::Error(9));
                vec![Err(Failure::Error(9)); members.len()]
            }
            1 => {
                let wrong = vec![Ok(7); members.len() + 1];
                let _ = self.op.handle_batch_completion(self.now, id, wrong);
                vec![Err(Failure::WrongAnswers); members.len()]
            }
            _ => {
                let results = answers.iter().map(|answer| answer.map_err(Failure::Error));
                let results: Vec<_> = results.collect();
                let _ = self.op.handle_batch_completion(self.now, id, results.clone());
                results
            }
        };
        for (known, result) in members.into_iter().zip(results) {
            if let Some(known) = known {
                self.end_attempt(known, result);
            }
        }
        let late = self.op.handle_batch_completion(self.now, id, [Ok(1)]);
        assert_eq!(late, Completion::Late, "seed {}", self.seed);
    }

    /// Moves to the next deadline of the operator, or by a little.
    fn advance(&mut self, random: &mut Random) {
        let by = self.now + random.below(4) as u32 * MS;
        loop {
            let deadline = self.op.poll_deadline().filter(|at| *at <= by);
            self.now = deadline.unwrap_or(by).max(self.now);
            self.op.advance(self.now);
            self.expire();
            if deadline.is_none() {
                return;
            }
            while random.one_in(2) && self.start() {}
            assert!(self.op.poll_deadline() != deadline, "seed {}: {deadline:?}", self.seed);
        }
    }

    fn expire(&mut self) {
        loop {
            let expired = self.op.handle_deadline(self.now);
            // The backoff that was over before this.
            let expires = |id| matches!(expired, Some(Expired::Call(call)) if Some(call) == id);
            loop {
                let over = self.backoff.iter().enumerate();
                let over = over.filter(|(_, (at, one))| *at <= self.now && !expires(one.id));
                let Some((at, _)) = over.min_by_key(|(_, (at, _))| *at) else { break };
                let (_, mut known) = self.backoff.remove(at);
                known.since = self.now;
                self.waiting.push(known);
            }
            let Some(expired) = expired else { return };
            let Expired::Call(id) = expired else { panic!("there is no attempt timeout") };
            self.time_out(id);
        }
    }

    /// A call has timed out, in a batch or in backoff.
    fn time_out(&mut self, id: AttemptId) {
        let abandoned = self.op.take_abandoned_batch();
        if let Some(at) = self.backoff.iter().position(|(_, known)| known.id == Some(id)) {
            assert_eq!(abandoned, None);
            let (_, known) = self.backoff.remove(at);
            return self.end(known, Err(Failure::TimedOut));
        }
        let mut ended = None;
        for (batch, members) in &mut self.running {
            let member = members.iter_mut().find(|one| one.is_some_and(|one| one.id == Some(id)));
            if let Some(member) = member {
                let known = member.take().expect("it was found");
                let is_empty = members.iter().all(Option::is_none);
                ended = Some((known, is_empty.then_some(*batch)));
            }
        }
        let (known, empty) = ended.unwrap_or_else(|| panic!("seed {}: who is it?", self.seed));
        assert_eq!(abandoned, empty, "seed {}", self.seed);
        self.running.retain(|(batch, _)| Some(*batch) != empty);
        self.end(known, Err(Failure::TimedOut));
    }

    /// Takes the outputs that may leave.
    fn take(&mut self) {
        while let Some(element) = self.op.poll_output() {
            let StreamElement::Record { value, .. } = element else { continue };
            self.in_flight -= 1;
            let known = self.done.remove(&value.input.number);
            let (known, result) = known.unwrap_or_else(|| panic!("seed {}: {value:?}", self.seed));
            assert_eq!(
                (value.result, value.attempts),
                (result, known.attempt),
                "seed {}",
                self.seed
            );
            self.left.push(known);
        }
    }

    fn check(&self) {
        let metrics = self.op.metrics(self.now);
        let live: usize =
            self.running.iter().map(|(_, members)| members.iter().flatten().count()).sum();
        let waiting = self.waiting.len() + self.held.len();
        let expected = (self.running.len(), live, waiting, self.backoff.len(), self.done.len());
        let found = (
            self.op.running_requests(),
            metrics.running as usize,
            metrics.waiting() as usize,
            metrics.in_backoff as usize,
            metrics.done as usize,
        );
        assert_eq!(found, expected, "seed {}, {:?}", self.seed, self.setup);
        assert!(self.running.len() <= self.setup.max_running);
        // No batch is forgotten: it starts when somebody asks, or the operator says when it will.
        let waits = !self.waiting.is_empty() && self.may_run() && !self.op.has_batch();
        assert!(!waits || self.op.poll_deadline().is_some(), "seed {}", self.seed);
    }

    /// The order of the outcomes (O1-O3), and that each record has had one.
    fn check_end(&self) {
        assert!(self.op.is_empty() && self.left.len() == self.next as usize);
        let in_order = |left: &[Known]| {
            assert!(left.is_sorted_by_key(|known| known.record.number), "seed {}", self.seed);
        };
        assert!(self.left.is_sorted_by_key(|known| known.segment), "seed {}", self.seed);
        match self.setup.order {
            Order::Ordered => in_order(&self.left),
            Order::Unordered => {}
            _ => (0..4).for_each(|key| {
                let of_key = self.left.iter().filter(|known| known.record.key == key);
                in_order(&of_key.copied().collect::<Vec<_>>());
            }),
        }
    }

    fn run(&mut self, random: &mut Random) {
        for _ in 0..300 {
            match random.below(16) {
                0..6 => self.push(random),
                6 => self.control(),
                7..9 => _ = self.start(),
                9..12 => self.complete(random),
                12..14 => self.advance(random),
                14 if random.one_in(3) => {
                    self.is_paused = !self.is_paused && self.setup.timeout.is_none();
                    if self.is_paused { self.op.pause(self.now) } else { self.op.resume(self.now) }
                }
                _ => self.take(),
            }
            self.check();
        }
        self.op.finish(self.now);
        self.is_finished = true;
        self.is_paused = false;
        self.op.resume(self.now);
        for _ in 0..10_000 {
            while self.start() {}
            self.complete(random);
            self.take();
            self.check();
            if self.op.is_empty() {
                return;
            }
            self.advance(random);
        }
        panic!("seed {}: it does not end", self.seed);
    }
}

fn run<S: Storage>(op: Op<S>, setup: Setup, seed: u64, random: &mut Random) {
    let mut world = World {
        op,
        setup,
        now: Instant::ZERO,
        is_paused: false,
        is_finished: false,
        next: 0,
        controls: 0,
        waiting: Vec::new(),
        held: Vec::new(),
        backoff: Vec::new(),
        running: Vec::new(),
        done: BTreeMap::new(),
        left: Vec::new(),
        in_flight: 0,
        seed,
    };
    world.run(random);
    world.check_end();
}

#[test] // B1-B4, O1-O4, T3, T5, E2
fn batches_agree_with_a_naive_model() {
    let one = std::env::var("BATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds: Vec<u64> = one.map_or((0..3_000).collect(), |seed| vec![seed]);
    for seed in seeds {
        let mut random = Random::new(seed);
        let setup = Setup::of(&mut random);
        if random.one_in(2) {
            run(setup.policy().build_core().expect("it makes sense"), setup, seed, &mut random);
        } else {
            let op = setup.policy().build_fixed::<_, _, _, 12>();
            run(op.expect("it makes sense"), setup, seed, &mut random);
        }
    }
}
