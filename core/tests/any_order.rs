//! The operator's public methods in any order (F4): wrong slots, old ids, a clock that goes back, results for attempts that
//! expire, limits that change, restores. Nothing panics, the numbers always agree with each other, and in the end every record has left.
#![cfg(all(feature = "alloc", feature = "checkpoint"))]

use core::time::Duration;

use inflight_core::*;

const MS: Duration = Duration::from_millis(1);
const CAPACITY: usize = 8;

/// Seeds of a run. `INFLIGHT_SEEDS` and `INFLIGHT_FIRST_SEED` choose others.
fn seeds() -> std::ops::Range<u64> {
    let chosen = |name: &str, default| {
        std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
    };
    let first: u64 = chosen("INFLIGHT_FIRST_SEED", 1);
    first..first + chosen("INFLIGHT_SEEDS", 1_000)
}

/// xorshift: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.below(from.len() as u64) as usize])
    }

    fn result(&mut self) -> Result<u32, Failure<u8>> {
        match self.below(3) {
            0 => Err(Failure::Error(self.below(20) as u8)),
            _ => Ok(1),
        }
    }
}

type Types<K, X> = (u32, u32, u8, FixedDelay, K, X);

/// An operator, and all that its caller remembers of it.
struct Caller<S: Storage, K, X: Extras<u32, u32, u8>> {
    op: Operator<Types<K, X>, S>,
    random: Random,
    /// In milliseconds; it goes back at times.
    clock: i64,
    attempts: Vec<AttemptId>,
    expired: Vec<AttemptId>,
    pushed: u64,
    emitted: u64,
    is_over: bool,
    snapshot: Option<Checkpoint>,
}

impl<S: Storage, K: KeySelector<u32>, X: Extras<u32, u32, u8>> Caller<S, K, X> {
    fn new(op: Operator<Types<K, X>, S>, seed: u64, from: Option<&Checkpoint>) -> Self {
        let mut caller = Self {
            op,
            random: Random::new(seed),
            clock: 0,
            attempts: Vec::new(),
            expired: Vec::new(),
            pushed: 0,
            emitted: 0,
            is_over: false,
            snapshot: None,
        };
        if let Some(checkpoint) = from
            && caller.op.restore(Instant::ZERO, checkpoint).is_ok()
        {
            while caller.op.has_backlog() && caller.op.room(Instant::ZERO) > 0 {}
            caller.pushed = u64::MAX / 2; // not known, and not checked
        }
        caller
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.clock.max(0) * 1_000_000)
    }

    fn run(mut self) -> Option<Checkpoint> {
        for _ in 0..300 {
            self.clock += self.random.pick(&[0, 0, 1, 3, -5]).unwrap_or(0);
            self.step();
            self.is_over |= self.op.has_failed();
            self.check();
        }
        self.drain();
        self.snapshot
    }

    fn step(&mut self) {
        let now = self.now();
        match self.random.below(20) {
            0..=2 => {
                let record = StreamElement::value(self.random.below(5) as u32);
                self.pushed += u64::from(self.op.push(now, record).is_ok());
            }
            3..=5 => self.push_start(now),
            6 => self.push_control(now),
            7 => self.poll_attempt(now),
            8 => {
                if let Some(id) = self.random.pick(&self.attempts) {
                    let _ = self.op.handle_completion(now, id, self.random.result());
                }
            }
            9 => self.complete_slot(now),
            10 => self.expire(now),
            11 => self.handle_deadlines(now),
            12 => self.resolve_timeout(),
            13 => self.take_output(),
            14 => {
                let _ = self.op.set_capacity(self.random.below(CAPACITY as u64 + 1) as usize);
                let _ = self.op.set_max_running(self.random.below(4) as usize);
            }
            15 => {
                let undelivered = self.random.pick(&[0, 0, 1, 3, usize::MAX]).unwrap_or(0);
                self.op.set_undelivered(undelivered);
            }
            16 => self.op.forget_vacant(),
            17 => self.end(now),
            18 => self.pause(now),
            _ => {
                let mut checkpoint = Checkpoint::new(CheckpointId(9));
                if self.op.snapshot(now, &mut checkpoint).is_ok() {
                    self.snapshot = Some(checkpoint);
                }
                let _ = self.op.head_slot().map(|slot| self.op.attempt_in(slot));
            }
        }
    }

    /// C2, C4: as much as `room` has promised is taken in, and never more than the capacity.
    fn push_start(&mut self, now: Instant) {
        let room = self.op.room(now);
        let record = StreamElement::value(self.random.below(5) as u32);
        match self.op.push_start(now, record) {
            Ok(attempt) => {
                self.attempts.extend(attempt.map(|attempt| attempt.id));
                self.pushed += 1;
                assert!(self.op.in_flight() <= self.op.capacity());
            }
            Err(PushError::Full(_)) => assert_eq!(room, 0),
            Err(PushError::Finished(_)) => assert!(self.is_over && room == 0),
        }
    }

    fn push_control(&mut self, now: Instant) {
        let checkpoint = Checkpoint::new(CheckpointId(1));
        let control = match self.random.below(4) {
            0 => StreamElement::Watermark(Timestamp::from_millis(self.clock)),
            1 => StreamElement::Status(Status::Idle),
            2 => StreamElement::Barrier(Barrier::snapshot(checkpoint)),
            _ => StreamElement::Barrier(Barrier::drain(checkpoint).within(2 * MS)),
        };
        let room = self.op.room(now);
        let pushed = self.op.push_start(now, control);
        assert!(room == 0 || matches!(pushed, Ok(None)));
    }

    fn poll_attempt(&mut self, now: Instant) {
        let has_attempt = self.op.has_attempt();
        let attempt = self.op.poll_attempt(now).map(|attempt| attempt.id);
        assert!(attempt.is_some() || !has_attempt);
        if let Some(id) = attempt {
            assert_eq!(self.op.attempt_in(id.slot()), Some(id));
            self.attempts.push(id);
        }
    }

    fn complete_slot(&mut self, now: Instant) {
        let slot = self.random.below(CAPACITY as u64 + 1) as usize;
        let is_running = self.op.attempt_in(slot).is_some();
        let completion = self.op.handle_completion_in(now, slot, self.random.result());
        assert_eq!(is_running, completion != Completion::Late);
        assert_eq!(completion == Completion::Final, is_running && self.op.has_failed());
    }

    fn expire(&mut self, now: Instant) {
        let offset = self.random.below(9) as i64 - 6;
        let delivered = Instant::from_nanos((self.clock + offset).max(0) * 1_000_000);
        let mut answers = Random::new(self.random.below(u64::MAX));
        let mut look = |op: &mut Operator<Types<K, X>, S>, id| {
            if answers.below(3) == 0 {
                let _ = op.handle_completion(now, id, answers.result());
            }
        };
        for round in 0.. {
            let Some(expired) = self.op.expire(now, delivered, &mut look) else { break };
            self.expired.push(expired.id());
            assert!(round < 100, "it comes to an end");
        }
    }

    fn handle_deadlines(&mut self, now: Instant) {
        while let Some(expired) = self.op.handle_deadline(now) {
            self.expired.push(expired.id());
        }
        assert!(self.op.poll_deadline().is_none_or(|deadline| deadline > self.op.now()));
    }

    fn resolve_timeout(&mut self) {
        let Some(id) = self.random.pick(&self.expired) else { return };
        let action = match self.random.below(4) {
            0 => TimeoutAction::Fail,
            3 => TimeoutAction::FailWith(self.random.below(20) as u8),
            1 => TimeoutAction::Drop,
            _ => TimeoutAction::Output(3),
        };
        self.op.resolve_timeout(id, |_| action);
    }

    /// A2
    fn pause(&mut self, now: Instant) {
        let running = self.op.running();
        match self.random.below(5) {
            0 | 1 => self.op.pause(now),
            _ => self.op.resume(now),
        }
        if self.op.is_paused() {
            assert!(!self.op.has_attempt() && self.op.poll_attempt(now).is_none());
        }
        assert_eq!(self.op.running(), running);
    }

    fn take_output(&mut self) {
        let is_record = match self.random.below(2) {
            0 => self.op.poll_output().is_some_and(|element| element.is_record()),
            _ => self.op.poll_record().is_some(),
        };
        self.emitted += u64::from(is_record);
    }

    fn end(&mut self, now: Instant) {
        match self.random.below(50) {
            0 => self.op.finish(now),
            1 => self.op.shut_down(now),
            _ => return,
        }
        self.is_over = true;
    }

    /// M1
    fn check(&self) {
        let numbers = self.op.metrics(self.now());
        let stages = numbers.running + numbers.in_backoff + numbers.done + numbers.waiting();
        assert_eq!(numbers.in_flight, stages);
        let running = (0..2 * CAPACITY).filter(|slot| self.op.attempt_in(*slot).is_some());
        assert_eq!(numbers.running as usize, running.count());
        assert_eq!(numbers.in_flight + numbers.emitted + numbers.dropped, numbers.records_in);
        assert!(numbers.records_in <= self.pushed);
        assert_eq!(numbers.emitted, self.emitted);
    }

    /// E2: after the end of the input everything comes out.
    fn drain(&mut self) {
        self.op.set_undelivered(0);
        let _ = (self.op.set_capacity(CAPACITY), self.op.set_max_running(CAPACITY));
        self.clock = self.clock.max(0) + 1_000;
        self.op.resume(self.now());
        self.op.finish(self.now());
        for _ in 0..200 {
            self.clock += 10;
            let now = self.now();
            while let Some(id) = self.op.poll_attempt(now).map(|attempt| attempt.id) {
                let _ = self.op.handle_completion(now, id, Ok(1));
            }
            for slot in 0..2 * CAPACITY {
                let _ = self.op.handle_completion_in(now, slot, Ok(2));
            }
            while self.op.handle_deadline(now).is_some() {}
            while let Some(element) = self.op.poll_output() {
                self.emitted += u64::from(element.is_record());
            }
        }
        let numbers = self.op.metrics(self.now());
        assert!(self.op.is_empty(), "{:?}", self.op);
        assert_eq!((numbers.in_flight, numbers.emitted), (0, self.emitted));
        if !self.op.has_failed() && self.pushed < u64::MAX / 2 {
            assert_eq!(numbers.emitted + numbers.dropped, self.pushed);
        }
    }
}

#[test] // F4, C4, E2, M1
fn no_order_of_calls_breaks_an_operator() {
    for seed in seeds() {
        let found = std::panic::catch_unwind(|| {
            lives(AsyncWait::ordered(4), seed);
            lives(AsyncWait::unordered(4), seed);
            lives(AsyncWait::ordered_by_key(4, |value: &u32| *value), seed);
        });
        assert!(found.is_ok(), "INFLIGHT_FIRST_SEED={seed}");
    }
}

/// Two lives, the second from the first one's snapshot, on the heap and in place.
fn lives<K: KeySelector<u32> + Copy>(policy: AsyncWait<NoRetry, K>, seed: u64) {
    let policy = policy.retry(FixedDelay::new(MS).max_retries(2));
    let own = |record: &u32| record.is_multiple_of(2).then_some(*record * 2 * MS);
    let pause = |failure: &Failure<u8>| Some(u32::from(*failure.error()?) % 4 * MS);
    lives_with(policy, seed);
    lives_with(policy.rate(Rate::per(5 * MS, 4).burst(2)).pause_on(pause).timeout_by(own), seed);
    lives_with(policy.rate_by(Rate::per(MS, 2), |record: &u32| (*record).into()), seed);
}

fn lives_with<K, X>(policy: AsyncWait<FixedDelay, K, X>, seed: u64)
where
    K: KeySelector<u32> + Copy,
    X: Extras<u32, u32, u8> + Copy,
{
    let policy = policy.timeout(5 * MS).attempt_timeout(3 * MS).max_capacity(CAPACITY);
    let policy = if seed.is_multiple_of(2) { policy.max_running(2) } else { policy };
    let how = || Checkpointing::new("stage", 1).keeping_results();
    let fatal =
        |failure: &Failure<u8>| matches!(failure, Failure::Error(7) | Failure::AttemptTimedOut);

    let on_the_heap = || {
        let op = policy.build_core::<u32, u32, u8>().expect("it makes sense");
        let op = op.checkpointed_with(how());
        if seed.is_multiple_of(5) { op.fail_fast(fatal) } else { op }
    };
    let snapshot = Caller::new(on_the_heap(), seed, None).run();
    Caller::new(on_the_heap(), seed + 77, snapshot.as_ref()).run();

    let in_place = || {
        let op = policy.build_fixed::<u32, u32, u8, CAPACITY>().expect("it makes sense");
        op.checkpointed_with(how())
    };
    let snapshot = Caller::new(in_place(), seed, None).run();
    Caller::new(in_place(), seed + 99, snapshot.as_ref()).run();
}
