//! Bounds: a slow sink, a store that fails, a function that does not open, drops without end.

use std::cell::{Cell, RefCell};
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use inflight::pipeline::{
    self, Ended, MemorySource, MemorySourceError, Pipeline, PipelineError, ReplayableSource,
    Report, TransactionalSink,
};
use inflight::prelude::*;
use tokio::time::{Instant, sleep, timeout};

use crate::store::{Refused, Store};
use crate::{MS, SECOND, Sink, answer, committed, run};

type Done = Outcome<u32, u32, &'static str>;

/// A sink that takes its time to commit.
struct Slow<'a>(&'a mut Sink, Duration);

impl TransactionalSink<Done> for Slow<'_> {
    type Prepared = u64;
    type Error = inflight::pipeline::MemorySinkError;

    async fn write(&mut self, done: Done, at: Option<Timestamp>) -> Result<(), Self::Error> {
        self.0.write(done, at).await
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<u64, Self::Error> {
        sleep(self.1).await;
        self.0.pre_commit(id).await
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &u64) -> Result<(), Self::Error> {
        sleep(self.1).await;
        self.0.commit(id, prepared).await
    }

    async fn abort(&mut self, kept: Option<&u64>) -> Result<(), Self::Error> {
        self.0.abort(kept).await
    }
}

#[test] // K12: checkpoints that take longer than the interval leave the sink half of its time.
fn a_sink_that_commits_slowly_is_written_to_as_long() {
    run(async {
        let (start, mut sink) = (Instant::now(), Sink::new());
        let source = MemorySource::new(1..=2_000);
        let pipeline = Pipeline::new(source, Slow(&mut sink, SECOND), Store::default());
        let job = pipeline.interval(SECOND).run(TokioLocal, |numbers, recovery| {
            numbers
                .async_wait(AsyncWait::ordered(1), |n: &u32| answer(*n, Some(5)))
                .checkpointed("stage", 1)
                .restore(recovery)
                .spawn(TokioLocal)
        });
        assert_eq!(job.await.unwrap(), Ended::Finished);
        assert_eq!(committed(&sink).len(), 2_000);
        // Ten seconds of work, as long for the checkpoints beside it, and the first and the last one.
        assert!(start.elapsed() <= 30 * SECOND, "{:?}", start.elapsed());
    });
}

#[test] // K10: without an interval, and without another record
fn a_failed_checkpoint_is_followed_by_another_one() {
    run(async {
        let (mut sink, store) = (Sink::new(), Store::default().failing(1, Refused::Full));
        let pipeline = Pipeline::new(MemorySource::new(1..=3), &mut sink, store);
        let job = pipeline.every_records(3).run(TokioLocal, |numbers, recovery| {
            numbers
                .async_wait(AsyncWait::ordered(4), |n: &u32| answer(*n, (*n < 3).then_some(1)))
                .checkpointed("stage", 1)
                .restore(recovery)
                .spawn(TokioLocal)
        });
        assert!(timeout(10 * SECOND, job).await.is_err(), "the third record is stuck");
        assert_eq!(committed(&sink), [1, 2]);
    });
}

#[test] // K3: the limit counts also for a stage that is full.
fn a_drain_gets_into_a_full_stage() {
    run(async {
        let (mut sink, failed) = (Sink::new(), Cell::new(0));
        let pipeline = Pipeline::new(MemorySource::new(1..=99), &mut sink, Store::default());
        let pipeline = pipeline.interval(100 * MS).draining(Some(SECOND)).on_report(|report| {
            failed.set(failed.get() + usize::from(matches!(report, Report::Failed { .. })));
        });
        let job = pipeline.run(TokioLocal, |numbers, recovery| {
            numbers
                .async_wait(AsyncWait::ordered(10), |n: &u32| answer(*n, None))
                .checkpointed("stage", 1)
                .restore(recovery)
                .spawn(TokioLocal)
        });
        assert!(timeout(10 * SECOND, job).await.is_err());
        assert!((5..=10).contains(&failed.get()), "{}", failed.get());
    });
}

/// A function that never opens.
struct Closed;

impl AsyncFunction<u32> for Closed {
    type Output = u32;
    type Error = &'static str;
    type Future = std::future::Ready<Result<u32, &'static str>>;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Pending
    }

    fn invoke(&mut self, _: &u32, _: AttemptInfo) -> Self::Future {
        unreachable!("it is not open")
    }
}

#[test] // K11: also when more comes before the barrier than one turn takes in
fn a_function_that_never_opens_lets_barriers_through() {
    run(async {
        let (mut sink, store) = (Sink::new(), Store::default());
        let source = MemorySource::new(1..=5_000);
        let pipeline = Pipeline::new(source, &mut sink, store.clone()).interval(100 * MS);
        let job = pipeline.run(TokioLocal, |numbers, recovery| {
            let first = numbers
                .async_wait(AsyncWait::ordered(1_000), |n: &u32| answer(*n, Some(1)))
                .checkpointed("first", 1)
                .restore(recovery)
                .spawn(TokioLocal)?;
            first
                .map_records(|done| done.input)
                .async_wait_with(AsyncWait::ordered(10), Closed)
                .checkpointed("second", 1)
                .restore(recovery)
                .spawn(TokioLocal)
        });
        assert!(timeout(10 * SECOND, job).await.is_err());
        let latest = store.clone().load_latest().await.unwrap().unwrap();
        let checkpoint = Checkpoint::from_bytes(&latest.bytes).unwrap();
        assert!(pipeline::position::<u64>(&checkpoint) >= Some(1_000));
    });
}

#[test] // K14: drops are bounded by checkpoints, also where nothing ever comes to the sink.
fn drops_alone_make_a_checkpoint_due() {
    run(async {
        let (start, store) = (Instant::now(), Store::default());
        let (mut sink, source) = (Sink::new(), MemorySource::new(1..=250_000));
        let job = Pipeline::new(source, &mut sink, store.clone()).run_positions_only(
            TokioLocal,
            |numbers, recovery| {
                numbers
                    .filter_records(|_| false)
                    .async_wait(AsyncWait::ordered(4), |n: &Tracked<u32>| answer(**n, Some(1)))
                    .positions_only(recovery)
                    .in_place(TokioLocal)
            },
        );
        assert_eq!(job.await.unwrap(), Ended::Finished);
        assert!(store.saves(start).len() >= 3, "{:?}", store.saves(start));
    });
}

#[test] // K14: a job is not finished while a copy of a record is kept somewhere.
fn a_copy_that_is_kept_is_an_error_at_the_end() {
    run(async {
        let (mut sink, kept) = (Sink::new(), Rc::new(RefCell::new(Vec::new())));
        let pipeline = Pipeline::new(MemorySource::new(1..=3), &mut sink, Store::default());
        let job = pipeline.run_positions_only(TokioLocal, |numbers, recovery| {
            let cache = Rc::clone(&kept);
            numbers
                .map_records(move |n| {
                    cache.borrow_mut().push(n.clone());
                    n
                })
                .async_wait(AsyncWait::ordered(4), |n: &Tracked<u32>| answer(**n, Some(1)))
                .positions_only(recovery)
                .in_place(TokioLocal)
        });
        let ended = job.await;
        assert!(matches!(ended, Err(PipelineError::Checkpoint(CheckpointError::NotDone))));
        assert_eq!(kept.borrow().len(), 3);
    });
}

#[test] // K13: with positions only a restore loses no attempt.
fn attempts_make_no_checkpoint_due_where_none_are_kept() {
    run(async {
        let (start, store, mut sink) = (Instant::now(), Store::default(), Sink::new());
        let pipeline = Pipeline::new(MemorySource::new([7]), &mut sink, store.clone());
        let policy = AsyncWait::ordered(2).retry(FixedDelay::new(SECOND).max_retries(999));
        let job =
            pipeline.interval(100 * MS).run_positions_only(TokioLocal, |numbers, recovery| {
                let refuse = |_: &Tracked<u32>| async { Err::<u32, _>("busy") };
                numbers.async_wait(policy, refuse).positions_only(recovery).spawn(TokioLocal)
            });
        assert!(timeout(100 * SECOND, job).await.is_err());
        // The first one, and one that covers the record.
        assert_eq!(store.saves(start).len(), 2, "{:?}", store.saves(start));
    });
}

/// Counts how often it is polled in one poll of the pipeline.
struct Counted {
    source: MemorySource<u32>,
    turn: Rc<Cell<u64>>,
    seen: u64,
    polls: u32,
    most: Rc<Cell<u32>>,
}

impl ReplayableSource for Counted {
    type Record = u32;
    type Position = u64;
    type Error = MemorySourceError;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), MemorySourceError> {
        self.source.open(position).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u32>, MemorySourceError>>> {
        self.polls = if self.seen == self.turn.get() { self.polls + 1 } else { 1 };
        self.seen = self.turn.get();
        self.most.set(self.most.get().max(self.polls));
        self.source.poll_next(cx)
    }

    fn position(&self) -> u64 {
        self.source.position()
    }

    fn acknowledger(&mut self) {}
}

#[test] // L5
fn passing_over_records_that_are_done_gives_way() {
    run(async {
        let (store, mut sink) = (Store::default(), Sink::new());
        let mut most = 0;
        for life in [1, 2] {
            let (turn, peak) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
            let source = Counted {
                source: MemorySource::new(1..=20_000),
                turn: Rc::clone(&turn),
                seen: 0,
                polls: 0,
                most: Rc::clone(&peak),
            };
            let pipeline = Pipeline::new(source, &mut sink, store.clone()).interval(10 * MS);
            let job = pipeline.run_positions_only(TokioLocal, |numbers, recovery| {
                numbers
                    .async_wait(AsyncWait::unordered(4), move |n: &Tracked<u32>| {
                        // The first record is stuck in the first life, and all others are done.
                        answer(**n, (**n > 1 || life == 2).then_some(0))
                    })
                    .positions_only(recovery)
                    .in_place(TokioLocal)
            });
            let mut job = pin!(job);
            let counted = poll_fn(|cx| {
                turn.set(turn.get() + 1);
                job.as_mut().poll(cx)
            });
            let ended = timeout(300 * SECOND, counted).await;
            assert_eq!(ended.is_ok(), life == 2);
            most = peak.get();
        }
        assert!(most <= 4 * 1_024, "{most} at once");
        assert_eq!(committed(&sink).len(), 20_000);
    });
}
