//! When attempts start, and how long a call may take: the operator, rule by rule, on a clock that the test sets. Over storage in place,
//! so these tests also run without the feature `alloc`.
#![cfg(feature = "checkpoint")]

mod pause;
mod pause_on;
mod rate;
mod timed_out;
mod timeouts;

use core::time::Duration;

use inflight_core::*;

const MS: Duration = Duration::from_millis(1);

/// A mistake that may say, in milliseconds, when to come again.
type Refused = Option<u64>;

/// Without a heap, a policy says that it can be paused.
type Op<R, X, K = Unkeyed> = Operator<(u32, u32, Refused, R, K, (X, Pausable)), Fixed<8>>;

struct Bench<R: RetryStrategy<u32, u32, Refused>, X: Extras<u32, u32, Refused>, K = Unkeyed> {
    op: Op<R, X, K>,
    now: Instant,
    /// Attempts that run.
    running: Vec<(AttemptId, u32, AttemptInfo)>,
}

fn bench<R, K, X>(policy: AsyncWait<R, K, X>) -> Bench<R, X, K>
where
    R: RetryStrategy<u32, u32, Refused>,
    X: Extras<u32, u32, Refused>,
{
    let op = policy.pausable().build_fixed().expect("a sound policy").checkpointed("stage", 1);
    Bench { op, now: Instant::ZERO, running: Vec::new() }
}

impl<R, X, K> Bench<R, X, K>
where
    R: RetryStrategy<u32, u32, Refused>,
    X: Extras<u32, u32, Refused>,
    K: KeySelector<u32>,
{
    /// Pushes records, and starts no attempt.
    fn push(&mut self, records: impl IntoIterator<Item = u32>) {
        for record in records {
            self.op.push(self.now, StreamElement::value(record)).expect("there is room");
        }
    }

    /// Starts what may start, and returns the records.
    fn start(&mut self) -> Vec<u32> {
        let mut started = Vec::new();
        while let Some(attempt) = self.op.poll_attempt(self.now) {
            started.push(*attempt.input);
            self.running.push((attempt.id, *attempt.input, attempt.info));
        }
        assert!(!self.op.has_attempt());
        started
    }

    fn time_left(&self, record: u32) -> Option<Duration> {
        self.running
            .iter()
            .find(|(_, input, _)| *input == record)
            .and_then(|(.., info)| info.time_left)
    }

    fn end(&mut self, record: u32, result: Result<u32, Refused>) -> Completion {
        let at = self.running.iter().position(|(_, input, _)| *input == record);
        let (id, ..) = self.running.remove(at.expect("it runs"));
        self.op.handle_completion(self.now, id, result.map_err(Failure::Error))
    }

    fn fail(&mut self, record: u32) {
        assert_eq!(self.end(record, Err(None)), Completion::Retry);
    }

    /// The clock moves by so many milliseconds, and nothing is judged.
    fn pass(&mut self, millis: u32) {
        self.now = self.now + millis * MS;
    }

    /// Judges what is due. Returns the records whose attempts or calls are over.
    fn judge(&mut self) -> Vec<(u32, bool)> {
        let mut over = Vec::new();
        while let Some(expired) = self.op.handle_deadline(self.now) {
            let is_call = matches!(expired, Expired::Call(_));
            let at = self.running.iter().position(|(id, ..)| *id == expired.id());
            let record = at.map_or(u32::MAX, |at| self.running.remove(at).1); // in backoff no attempt is running
            over.push((record, is_call));
        }
        over
    }

    /// The milliseconds until the next deadline.
    fn due_in(&self) -> Option<u128> {
        let nanos = (self.op.poll_deadline()? - self.now).as_nanos();
        assert_eq!(nanos % 1_000_000, 0);
        Some(nanos / 1_000_000)
    }

    /// The clock moves to the next deadline, which is judged, until an attempt may start.
    fn next_start(&mut self) -> (u128, Vec<u32>) {
        let from = self.now;
        loop {
            self.now = self.op.poll_deadline().expect("something is due");
            assert_eq!(self.judge(), []);
            let started = self.start();
            if !started.is_empty() {
                return ((self.now - from).as_millis(), started);
            }
        }
    }

    fn outcome(&mut self) -> Outcome<u32, u32, Refused> {
        match self.op.poll_output() {
            Some(StreamElement::Record { value, .. }) => value,
            other => panic!("an outcome expected, not {other:?}"),
        }
    }

    /// The same policy in the next process, which begins at this instant.
    fn restored_into<R2, X2, K2>(
        &mut self,
        policy: AsyncWait<R2, K2, X2>,
        pauses: Option<u32>,
    ) -> Bench<R2, X2, K2>
    where
        R2: RetryStrategy<u32, u32, Refused>,
        X2: Extras<u32, u32, Refused>,
        K2: KeySelector<u32>,
    {
        let mut checkpoint = Checkpoint::in_buffer(CheckpointId(1), vec![0; 1_000].leak());
        self.op.snapshot(self.now, &mut checkpoint).expect("it can be taken");
        let mut next = bench(policy);
        if let Some(millis) = pauses {
            next.op.pause(next.now);
            next.pass(millis);
        }
        next.op.restore(next.now, &checkpoint).expect("it can be restored");
        next
    }
}

/// One retry after another, each after so many milliseconds.
fn retry(millis: u32) -> FixedDelay {
    FixedDelay::new(millis * MS).max_retries(9)
}

fn retry_after(failure: &Failure<Refused>) -> Option<Duration> {
    let millis = (*failure.error()?)?;
    Some(Duration::from_millis(millis))
}
