//! The ways in which a pipeline ends, and the checkpoints that are asked for.

use futures::future::join;
use inflight::pipeline::{
    self, CheckpointedSource, Ended, MemorySource, NoCheckpoint, Pipeline, PipelineError,
};
use inflight::prelude::*;
use tokio::time::{Instant, sleep};

use crate::store::{Refused, Store};
use crate::{MS, Notes, SECOND, Sink, answer, committed, run};

type Numbers = CheckpointedSource<MemorySource<u32>>;

/// Asks for each number, and notes it. `after` has the time of each answer in milliseconds.
fn stage(
    numbers: Numbers,
    recovery: &Recovery,
    asked: Notes<u32>,
    after: fn(u32) -> Option<u32>,
) -> Result<
    impl futures::Stream<Item = StreamElement<Outcome<u32, u32, &'static str>>> + use<>,
    StartError,
> {
    numbers
        .async_wait(AsyncWait::unordered(4), move |n: &u32| {
            asked.add(*n);
            answer(*n, after(*n))
        })
        .checkpointed("stage", 1)
        .restore(recovery)
        .spawn(TokioLocal)
}

#[test] // K15: the requests in flight are not waited for, and nothing more is committed.
fn a_final_error_ends_the_job_at_once() {
    run(async {
        let (start, asked, mut sink) = (Instant::now(), Notes::new(), Sink::new());
        let store = Store::default().failing(2, Refused::Fenced);
        let noted = asked.clone();
        let job = Pipeline::new(MemorySource::new(1..=99), &mut sink, store.clone());
        let job = job.interval(100 * MS).run(TokioLocal, |numbers, recovery| {
            stage(numbers, recovery, noted, |n| Some(if n == 1 { 80_000 } else { 30 }))
        });
        assert!(matches!(job.await, Err(PipelineError::Save(Refused::Fenced))));
        assert_eq!(start.elapsed(), 200 * MS);
        assert_eq!(store.saves(start).len(), 3);
        let (written, asked_for) = (committed(&sink).len(), asked.all().len());
        assert!(written < asked_for - 4, "the output of the refused checkpoint is not committed");
        sleep(SECOND).await;
        assert_eq!(asked.all().len(), asked_for, "it asks nothing more");
    });
}

#[test] // K16, K11: a process that is killed during a drain has little to repeat.
fn checkpoints_go_on_during_a_drain() {
    run(async {
        let (start, asked, store, mut sink) =
            (Instant::now(), Notes::new(), Store::default(), Sink::new());
        let pipeline = Pipeline::new(MemorySource::new(1..=99), &mut sink, store.clone());
        let (pipeline, noted) = (pipeline.interval(100 * MS), asked.clone());
        let stop = pipeline.stop_handle();
        let job = pipeline.run(TokioLocal, |numbers, recovery| {
            stage(numbers, recovery, noted, |n| Some(n * 1_000))
        });
        let script = async {
            sleep(500 * MS).await;
            stop.drain();
        };
        assert_eq!(join(job, script).await.0.unwrap(), Ended::Stopped);
        assert_eq!((asked.all(), committed(&sink)), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
        assert_eq!(start.elapsed(), 4 * SECOND);
        let saves = store.saves(start);
        for second in 1..4 {
            let second = f64::from(second);
            let mut after =
                saves.iter().filter(|(begun, _)| (second..second + 0.2).contains(begun));
            assert!(after.next().is_some(), "none after {second} s: {saves:?}");
        }
    });
}

#[test] // K16: the next life goes on with the records in flight, and repeats nothing that was done.
fn a_hand_over_waits_for_no_request() {
    run(async {
        let (start, asked, mut store, mut sink) =
            (Instant::now(), Notes::new(), Store::default(), Sink::new());
        let pipeline = Pipeline::new(MemorySource::new(1..=8), &mut sink, store.clone());
        let (stop, noted) = (pipeline.stop_handle(), asked.clone());
        let job = pipeline.run(TokioLocal, |numbers, recovery| {
            stage(numbers, recovery, noted, |n| n.is_multiple_of(2).then_some(10))
        });
        let script = async {
            sleep(500 * MS).await;
            stop.drain();
            sleep(500 * MS).await;
            stop.hand_over();
        };
        assert_eq!(join(job, script).await.0.unwrap(), Ended::HandedOver);
        assert_eq!(start.elapsed(), SECOND);
        assert_eq!(committed(&sink), [2, 4, 6]);
        let latest = store.load_latest().await.unwrap().unwrap();
        let checkpoint = Checkpoint::from_bytes(&latest.bytes).unwrap();
        assert_eq!(pipeline::ended(&checkpoint), Some(Ended::HandedOver));

        let again = Notes::new();
        let noted = again.clone();
        let job = Pipeline::new(MemorySource::new(1..=8), &mut sink, store);
        let job =
            job.run(TokioLocal, |numbers, recovery| stage(numbers, recovery, noted, |_| Some(10)));
        assert_eq!(job.await.unwrap(), Ended::Finished);
        assert_eq!(asked.all(), [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(again.all(), [1, 3, 5, 7, 8]);
        assert_eq!(committed(&sink), [2, 4, 6, 1, 3, 5, 7, 8]);
    });
}

#[test] // K16, K11
fn a_checkpoint_that_is_asked_for_comes_at_once() {
    run(async {
        let store = Store::slow(30 * MS).failing(2, Refused::Full);
        let (start, mut sink) = (Instant::now(), Sink::new());
        let pipeline = Pipeline::new(MemorySource::new(1..=9), &mut sink, store.clone());
        let stop = pipeline.stop_handle();
        let pipeline = pipeline.min_pause(60 * SECOND);
        let job = pipeline.run(TokioLocal, |numbers, recovery| {
            stage(numbers, recovery, Notes::new(), |n| (n < 5).then_some(10))
        });
        let script = async {
            sleep(SECOND).await;
            assert_eq!(stop.checkpoint_now().await, Ok(()));
            assert_eq!(start.elapsed(), 1_030 * MS);
            assert_eq!(stop.checkpoint_now().await, Err(NoCheckpoint::Failed));
            // Two asks at a time are answered by one checkpoint; one that comes while it is saved, by the next.
            let (first, second) = (stop.checkpoint_now(), stop.checkpoint_now());
            let third = async {
                sleep(10 * MS).await;
                stop.checkpoint_now().await
            };
            assert_eq!(
                futures::future::join3(first, second, third).await,
                (Ok(()), Ok(()), Ok(()))
            );
            assert_eq!(store.saves(start).len(), 5);
            stop.hand_over();
        };
        assert_eq!(join(job, script).await.0.unwrap(), Ended::HandedOver);
        assert_eq!(committed(&sink), [1, 2, 3, 4]);
        assert_eq!(stop.checkpoint_now().await, Err(NoCheckpoint::Ended));
    });
}
