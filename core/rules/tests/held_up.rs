//! The numbers of what holds attempts up (M1): the limit, a pause, and the time until the next start.
#![cfg(feature = "alloc")]

use core::time::Duration;

use inflight_core::*;

const MS: Duration = Duration::from_millis(1);

type Op<X> = Operator<(u32, (), Duration, NoRetry, Unkeyed, X), Heap>;

/// An operator and its clock. An error is the time for which the service wants to be left alone.
struct Bench<X: Extras<u32, (), Duration>> {
    op: Op<X>,
    now: Instant,
    running: Vec<AttemptId>,
}

impl<X: Extras<u32, (), Duration>> Bench<X> {
    fn new(op: Result<Op<X>, ConfigError>) -> Self {
        Self { op: op.expect("a sound policy"), now: Instant::ZERO, running: Vec::new() }
    }

    /// Pushes records, and starts the attempts that may start.
    fn push(&mut self, records: impl IntoIterator<Item = u32>) {
        for record in records {
            assert!(self.op.push(self.now, StreamElement::value(record)).is_ok());
        }
        self.start();
    }

    fn start(&mut self) {
        while let Some(attempt) = self.op.poll_attempt(self.now) {
            self.running.push(attempt.id);
        }
    }

    /// The attempt that has started first ends.
    fn end(&mut self, result: Result<(), Duration>) {
        let id = self.running.remove(0);
        let _ = self.op.handle_completion(self.now, id, result.map_err(Failure::Error));
        self.start();
    }

    fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        assert!(self.op.handle_deadline(self.now).is_none());
        self.start();
    }

    fn limit(&self) -> Option<u64> {
        self.op.quick_metrics(self.now).limit
    }

    fn paused(&self) -> bool {
        self.op.quick_metrics(self.now).paused
    }

    fn next_start(&self) -> Option<Duration> {
        self.op.quick_metrics(self.now).next_start
    }
}

fn retry_after(failure: &Failure<Duration>) -> Option<Duration> {
    failure.error().copied()
}

#[test] // M1
fn nothing_holds_an_attempt_up() {
    let mut b = Bench::new(AsyncWait::unordered(9).build_core());
    let before = b.op.push(b.now, StreamElement::value(1)).map(|()| b.op.metrics(b.now)).unwrap();
    assert_eq!((before.limit, before.paused, before.next_start), (None, false, None));
    b.push([2, 3]);
    let metrics = b.op.metrics(b.now);
    assert_eq!((metrics.running, metrics.limit, metrics.next_start), (3, None, None));
}

#[test] // M1, C7, C8
fn the_limit_is_that_of_the_policy() {
    let mut b = Bench::new(AsyncWait::unordered(9).max_running(2).build_core());
    b.push([1, 2, 3]);
    assert_eq!((b.limit(), b.paused(), b.next_start()), (Some(2), false, None));
    b.op.set_max_running(5).unwrap();
    assert_eq!(b.limit(), Some(5));
    b.op.set_max_running(usize::MAX).unwrap();
    assert_eq!(b.limit(), None);
}

#[test] // M1, A1
fn the_limit_is_the_lower_one_of_two() {
    let policy = AsyncWait::unordered(9).limit(Aimd::between(1, 8).start(4)).max_running(6);
    let mut b = Bench::new(policy.build_core());
    assert_eq!(b.limit(), Some(4));
    b.push(1..=8);
    b.end(Err(MS));
    assert_eq!(b.limit(), Some(3), "0.7 times as many, rounded up");
    b.op.set_max_running(1).unwrap();
    assert_eq!(b.limit(), Some(1));
}

#[test] // M1, A2
fn a_pause_by_hand_has_no_end() {
    let rate = Rate::per(10 * MS, 1);
    let mut b = Bench::new(AsyncWait::unordered(9).max_running(3).rate(rate).build_core());
    b.push([1, 2]);
    assert_eq!((b.paused(), b.next_start()), (false, Some(10 * MS)));
    b.op.pause(b.now);
    assert_eq!((b.limit(), b.paused(), b.next_start()), (Some(3), true, None));
    b.op.resume(b.now);
    assert_eq!((b.limit(), b.paused(), b.next_start()), (Some(3), false, Some(10 * MS)));
}

#[test] // M1, A2: that is so without optional parts, too
fn any_operator_says_that_it_is_paused() {
    let mut b = Bench::new(AsyncWait::unordered(9).build_core());
    b.op.pause(b.now);
    b.push([1]);
    assert_eq!((b.limit(), b.paused(), b.next_start()), (None, true, None));
    b.op.resume(b.now);
    assert!(!b.paused());
}

#[test] // M1, A2
fn the_pause_of_a_failure_has_an_end() {
    let policy = AsyncWait::unordered(9).max_running(2).pause_on(retry_after);
    let mut b = Bench::new(policy.build_core());
    b.push([1, 2]);
    b.end(Err(30 * MS));
    assert_eq!((b.limit(), b.paused(), b.next_start()), (Some(2), true, None), "none waits");
    b.push([3]);
    assert_eq!((b.paused(), b.next_start()), (true, Some(30 * MS)));
    b.pass(10 * MS);
    assert_eq!((b.paused(), b.next_start()), (true, Some(20 * MS)));
    assert_eq!(b.op.metrics(b.now + 5 * MS).next_start, Some(15 * MS), "as of then");
    let after = b.op.metrics(b.now + 20 * MS);
    assert_eq!((after.paused, after.next_start), (false, None), "it is over then");
    b.op.pause(b.now);
    assert!(b.op.metrics(b.now + 20 * MS).paused);
    assert_eq!((b.paused(), b.next_start()), (true, None), "by hand as well");
    b.op.resume(b.now);
    assert_eq!((b.paused(), b.next_start()), (true, Some(20 * MS)));
    b.op.set_max_running(1).unwrap();
    assert_eq!((b.paused(), b.next_start()), (true, None), "the limit holds it up as well");
    b.pass(20 * MS);
    assert_eq!((b.paused(), b.next_start()), (false, None));
}

#[test] // M1, A2
fn a_rate_holds_up_the_next_start() {
    let rate = Rate::per(10 * MS, 1);
    let policy = AsyncWait::unordered(9).rate_by(rate, |weight: &u32| u64::from(*weight));
    let mut b = Bench::new(policy.build_core());
    b.push([3]);
    assert_eq!(b.next_start(), None, "none waits");
    b.push([1, 1]);
    assert_eq!((b.paused(), b.next_start()), (false, Some(30 * MS)), "3 has to be paid for");
    b.pass(29 * MS);
    assert_eq!(b.next_start(), Some(MS));
    assert_eq!(b.op.metrics(b.now + MS).next_start, None, "it may start then");
    assert_eq!(b.op.quick_metrics(Instant::ZERO).next_start, Some(MS), "time never goes back (F4)");
    b.op.set_max_running(1).unwrap();
    assert_eq!((b.limit(), b.next_start()), (Some(1), None), "the limit holds it up as well");
    b.op.set_max_running(2).unwrap();
    b.pass(MS);
    assert_eq!((b.running.len(), b.next_start()), (2, None), "the limit");
    b.end(Ok(()));
    assert_eq!((b.running.len(), b.next_start()), (1, Some(10 * MS)));
    b.pass(10 * MS);
    assert_eq!((b.running.len(), b.next_start()), (2, None), "none waits");
}

#[test] // M1, A2
fn an_attempt_waits_for_the_later_one_of_a_pause_and_a_rate() {
    for (pause, next) in [(4 * MS, 10 * MS), (40 * MS, 40 * MS)] {
        let policy = AsyncWait::unordered(9).rate(Rate::per(10 * MS, 1)).pause_on(retry_after);
        let mut b = Bench::new(policy.build_core());
        b.push([1, 2]);
        b.end(Err(pause));
        assert_eq!((b.paused(), b.next_start()), (true, Some(next)));
        b.pass(pause);
        assert_eq!((b.paused(), b.running.len()), (false, usize::from(pause == next)));
        assert_eq!(b.next_start(), (pause < next).then(|| next - pause));
    }
}

#[test] // M1, A2, B1, B4: the limit is one of batches
fn a_batch_waits_for_records_for_a_rate_and_for_a_pause() {
    let policy = AsyncWait::unordered(9).batch(BatchSize::records(2).within(5 * MS));
    let policy = policy.max_running(1).rate(Rate::per(20 * MS, 1)).pause_on(retry_after);
    let mut op = policy.build_core::<u32, (), Duration>().unwrap();
    let mut now = Instant::ZERO;
    let push = |op: &mut Operator<_, _>, now| op.push(now, StreamElement::value(1)).unwrap();
    let holds = |op: &Operator<_, _>, now| {
        let Metrics { limit, paused, next_start, .. } = op.quick_metrics(now);
        (limit, paused, next_start)
    };
    push(&mut op, now);
    assert_eq!(holds(&op, now), (Some(1), false, Some(5 * MS)), "it fills");
    now = now + 2 * MS;
    assert_eq!(holds(&op, now), (Some(1), false, Some(3 * MS)));
    push(&mut op, now);
    assert_eq!(holds(&op, now), (Some(1), false, None), "it is full");
    let first = op.poll_batch(now).unwrap().id();
    push(&mut op, now);
    push(&mut op, now);
    assert_eq!(holds(&op, now), (Some(1), false, None), "the limit");
    let _ = op.handle_batch_failure(now, first, Failure::Error(10 * MS));
    assert_eq!(holds(&op, now), (Some(1), true, Some(20 * MS)), "the rate, after the pause");
    now = now + 10 * MS;
    assert_eq!(holds(&op, now), (Some(1), false, Some(10 * MS)));
    op.pause(now);
    assert_eq!(holds(&op, now), (Some(1), true, None));
}

#[test] // M1, B1, B4: a batch of two is one request
fn a_batch_that_fills_holds_an_attempt_up_without_any_other_part() {
    let size = BatchSize::records(2).within(5 * MS);
    let policy = AsyncWait::unordered(9).max_running(2).batch(size);
    let mut op = policy.build_core::<u32, (), Duration>().unwrap();
    let now = Instant::ZERO;
    for record in 1..=3 {
        op.push(now, StreamElement::value(record)).unwrap();
        let _ = op.poll_batch(now);
    }
    let metrics = op.quick_metrics(now);
    assert_eq!((metrics.running, metrics.waiting(), metrics.limit), (2, 1, Some(2)));
    assert_eq!(metrics.next_start, Some(5 * MS));
}
