//! Ordered output with one attempt at a time for each key (O7), on random schedules, over both kinds of storage.
#![cfg(feature = "alloc")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use inflight_core::{
    AsyncWait, AttemptId, Call, Checkpoint, CheckpointId, Completion, Failure, FixedDelay, Instant,
    KeySelector, Operator, Storage, StreamElement,
};

const MS: Duration = Duration::from_millis(1);
const CAPACITY: usize = 12;

/// A record's number; its key is the number modulo 4.
fn key(number: &u32) -> u32 {
    number % 4
}

macro_rules! policy {
    () => {
        AsyncWait::ordered(CAPACITY)
            .with_key(key as fn(&u32) -> u32)
            .retry(FixedDelay::new(3 * MS).max_retries(2))
            .timeout(20 * MS)
            .one_attempt_per_key()
    };
}

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// What an observer can tell of the operator.
#[derive(Default)]
struct Watch {
    running: BTreeMap<u32, AttemptId>,
    /// In backoff.
    waiting: BTreeSet<u32>,
    done: BTreeSet<u32>,
    pushed: u32,
    out: u32,
}

impl Watch {
    /// O7: the records that run are the first ones of their keys that are not done, but for those in backoff.
    fn check(&self) {
        let mut expected = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for number in (self.out..self.pushed).filter(|number| !self.done.contains(number)) {
            if keys.insert(key(&number)) && !self.waiting.contains(&number) {
                expected.insert(number);
            }
        }
        assert!(
            self.running.keys().eq(&expected),
            "{:?} run, not {expected:?}",
            self.running.keys()
        );
    }
}

fn start<C: Call<Input = u32>, S: Storage>(
    op: &mut Operator<C, S>,
    now: Instant,
    watch: &mut Watch,
) {
    while let Some(attempt) = op.poll_attempt(now) {
        let (id, number) = (attempt.id, *attempt.input);
        watch.waiting.remove(&number);
        assert!(watch.running.insert(number, id).is_none());
    }
}

fn life<C, S>(mut new: impl FnMut() -> Operator<C, S>, seed: u64)
where
    C: Call<Input = u32, Output = u32, Error = (), Key: KeySelector<u32>>,
    S: Storage,
{
    let (mut random, mut watch, mut millis) = (Random(seed | 1), Watch::default(), 0);
    let mut op = new();
    for _ in 0..400 {
        let now = Instant::ZERO + millis * MS;
        match random.below(10) {
            0..=2 => {
                let pushed = op.push(now, StreamElement::value(watch.pushed)).is_ok();
                watch.pushed += u32::from(pushed);
            }
            3..=6 if !watch.running.is_empty() => {
                let at = random.below(watch.running.len() as u64) as usize;
                let number = *watch.running.keys().nth(at).expect("it is below the length");
                let id = watch.running.remove(&number).expect("it runs");
                let result =
                    if random.below(3) == 0 { Err(Failure::Error(())) } else { Ok(number) };
                match op.handle_completion(now, id, result) {
                    Completion::Retry => assert!(watch.waiting.insert(number)),
                    _ => assert!(watch.done.insert(number)),
                }
            }
            7 => millis += random.below(9) as u32,
            8 if random.below(4) == 0 => {
                let mut checkpoint = Checkpoint::new(CheckpointId(1));
                op.snapshot(now, &mut checkpoint).expect("a snapshot");
                op = new();
                op.restore(now, &checkpoint).expect("a restore");
                watch.running.clear();
                watch.done.clear(); // they are called again
                // Those in backoff stay so.
                watch.waiting.retain(|number| *number >= watch.out);
            }
            _ => {
                while let Some(StreamElement::Record { value, .. }) = op.poll_output() {
                    assert_eq!(value.input, watch.out, "in order");
                    watch.out += 1;
                    watch.done.remove(&value.input);
                }
            }
        }
        let now = Instant::ZERO + millis * MS;
        while let Some(expired) = op.handle_deadline(now) {
            let id = expired.id();
            let running = watch.running.iter().find(|(_, running)| **running == id);
            let number = running.map(|(number, _)| *number);
            let number = number.or_else(|| {
                // In backoff: the call's record says which.
                let mut found = None;
                op.resolve_timeout(id, |call| {
                    found = Some(*call.input);
                    inflight_core::TimeoutAction::Fail
                });
                found
            });
            let number = number.expect("a record that is not done");
            watch.running.remove(&number);
            watch.waiting.remove(&number);
            assert!(watch.done.insert(number));
        }
        start(&mut op, now, &mut watch);
        watch.check();
    }
    assert!(watch.out > 0);
}

#[test] // O7, O1, K5, R3, T1
fn one_attempt_of_a_key_runs_at_a_time_and_all_leave_in_order() {
    for seed in 1..300 {
        println!("seed {seed}");
        life(|| policy!().build_core().expect("it makes sense").checkpointed("keys", 1), seed);
        life(
            || {
                let op = policy!().build_fixed::<u32, u32, (), CAPACITY>();
                op.expect("it makes sense").checkpointed("keys", 1)
            },
            seed,
        );
    }
}

#[test] // O7, O3: an unordered policy becomes one by key, and one by key stays as it is
fn other_orders_become_by_key() {
    use inflight_core::Order;
    let policy = AsyncWait::unordered(4).with_key(key as fn(&u32) -> u32).one_attempt_per_key();
    assert_eq!(policy.order(), Order::ByKey);
    let policy = AsyncWait::ordered_by_key(4, key as fn(&u32) -> u32).one_attempt_per_key();
    assert_eq!(policy.order(), Order::ByKey);
    let mut op = policy.build_core::<u32, u32, ()>().expect("it makes sense");
    let now = Instant::ZERO;
    for number in [0, 4, 1] {
        op.push(now, StreamElement::value(number)).expect("there is room");
    }
    let mut watch = Watch::default();
    start(&mut op, now, &mut watch);
    assert!(watch.running.keys().eq(&[0, 1]));
    let _ = op.handle_completion(now, watch.running[&1], Ok(1));
    let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    assert_eq!(value.input, 1, "keys do not wait for each other");
}
