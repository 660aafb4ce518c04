//! A checkpoint waits for no request, no record waits for a checkpoint, and everything that changes makes one due.

use std::time::Duration;

use inflight::pipeline::{CheckpointedSource, Ended, MemorySource, Pipeline};
use inflight::prelude::*;
use tokio::time::{Instant, timeout};

use crate::store::Store;
use crate::{MS, Notes, SECOND, Sink, answer, committed, run};

#[test] // K11, K13: a request never answers, both stages are full, and nothing changes any more.
fn a_full_chain_commits_a_checkpoint_at_once() {
    macro_rules! on {
        ($way:ident) => {{
            let (start, store) = (Instant::now(), Store::default());
            let (mut sink, source) = (Sink::new(), MemorySource::new(1..=100));
            let pipeline =
                Pipeline::new(source, &mut sink, store.clone()).interval(100 * MS).run(
                    TokioLocal,
                    |numbers, recovery| {
                        // Every fifth record is stuck in the second stage, which is full in the end, and so is the first.
                        let first = numbers
                            .async_wait(AsyncWait::ordered(2), |n: &u32| answer(*n, Some(10)))
                            .checkpointed("first", 1)
                            .restore(recovery)
                            .$way(TokioLocal)?;
                        first
                            .map_records(|done| done.input)
                            .async_wait(AsyncWait::unordered(2), |n: &u32| {
                                answer(*n, (*n % 5 != 0).then_some(1))
                            })
                            .checkpointed("second", 1)
                            .restore(recovery)
                            .$way(TokioLocal)
                    },
                );
            assert!(timeout(60 * SECOND, pipeline).await.is_err(), "it is stuck");
            let saves = store.saves(start);
            assert!(saves.iter().all(|(begun, _)| *begun <= 0.2), "{saves:?}");
            let mut done = committed(&sink);
            done.sort_unstable();
            assert_eq!(done, [1, 2, 3, 4, 6, 7, 8, 9]);
        }};
    }
    run(async {
        on!(spawn);
        on!(in_place);
    });
}

fn one_a_time(
    numbers: CheckpointedSource<MemorySource<u32>>,
    recovery: &Recovery,
    takes: u32,
) -> Result<
    impl futures::Stream<Item = StreamElement<Outcome<u32, u32, &'static str>>> + use<>,
    StartError,
> {
    numbers
        .async_wait(AsyncWait::ordered(1), move |n: &u32| answer(*n, Some(takes)))
        .checkpointed("stage", 1)
        .restore(recovery)
        .spawn(TokioLocal)
}

#[test] // K12: 10 s of work take 10 s, and the last save.
fn a_slow_store_makes_checkpoints_rarer_and_nothing_else() {
    for pause in [Duration::ZERO, 500 * MS] {
        run(async {
            let (start, store) = (Instant::now(), Store::slow(2 * SECOND));
            let (mut sink, source) = (Sink::new(), MemorySource::new(1..=2_000));
            let pipeline = Pipeline::new(source, &mut sink, store.clone());
            let pipeline = pipeline.interval(SECOND).min_pause(pause);
            let ended =
                pipeline.run(TokioLocal, |numbers, recovery| one_a_time(numbers, recovery, 5));
            assert_eq!(ended.await.unwrap(), Ended::Finished);
            assert_eq!(committed(&sink).len(), 2_000);
            // The first checkpoint, the work, a save that is under way at its end, and the last checkpoint.
            assert!(start.elapsed() <= 16 * SECOND, "{:?}", start.elapsed());
            let saves = store.saves(start);
            let pauses = saves.windows(2).map(|saves| saves[1].0 - saves[0].1);
            // The last one, which ends the pipeline, waits for no pause.
            let least = pauses.rev().skip(1).fold(f64::MAX, f64::min);
            assert!(least >= pause.as_secs_f64(), "{saves:?}");
        });
    }
}

#[test] // K13, K1: a source that is quiet, and a record in retries
fn attempts_alone_make_a_checkpoint_due() {
    run(async {
        let (store, attempts) = (Store::default(), Notes::new());
        let mut sink = Sink::new();
        for life in 1..=5_usize {
            let (start, attempts) = (Instant::now(), attempts.clone());
            let source = MemorySource::new([7]);
            let (before, noted) = (store.saves(start).len(), attempts.clone());
            let policy = AsyncWait::ordered(2).retry(FixedDelay::new(SECOND).max_retries(99));
            let job = Pipeline::new(source, &mut sink, store.clone()).interval(100 * MS).run(
                TokioLocal,
                |numbers, recovery| {
                    let refuse = with_attempt(move |_: &u32, attempt: AttemptInfo| {
                        noted.add((attempt.request_id, attempt.number));
                        async { Err::<u32, _>("busy") }
                    });
                    numbers
                        .async_wait_with(policy, refuse)
                        .checkpointed("stage", 1)
                        .restore(recovery)
                        .spawn(TokioLocal)
                },
            );
            // Killed before the call is over.
            assert!(timeout(3_500 * MS, job).await.is_err());
            assert!(store.saves(start).len() - before >= 4, "life {life}: one for each attempt");
        }
        // No attempt of a life is made again in the next one.
        let expected = (1..=attempts.all().len() as u32).map(|number| (0, number));
        assert!(attempts.all().into_iter().eq(expected), "{:?}", attempts.all());
        assert!(attempts.all().len() >= 15);
    });
}
