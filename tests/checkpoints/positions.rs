//! Checkpoints that keep positions only.

use futures::stream::LocalBoxStream;
use futures::{Stream, StreamExt};
use inflight::Tracked;
use inflight::pipeline::{
    self, Ended, MemorySink, MemorySource, Pipeline, PipelineError, TrackedSource,
};
use inflight::prelude::*;
use tokio::time::timeout;

use crate::store::Store;
use crate::{MS, Notes, answer, run};

/// A record that cannot be serialised.
#[derive(Clone, Debug, PartialEq)]
struct Reading(u32);

type Done = Outcome<Reading, u32, &'static str>;

fn readings() -> MemorySource<Reading> {
    MemorySource::new((1..=20).map(Reading))
}

/// Asks for each reading, and notes the request. `is_stuck` tells the readings that get no answer.
fn stage(
    readings: TrackedSource<MemorySource<Reading>>,
    recovery: &Recovery,
    policy: AsyncWait,
    is_stuck: fn(u32) -> bool,
    requests: Notes<(u32, u64)>,
) -> Result<
    impl Stream<Item = StreamElement<Outcome<Tracked<Reading>, u32, &'static str>>> + use<>,
    StartError,
> {
    let ask = with_attempt(move |reading: &Tracked<Reading>, attempt: AttemptInfo| {
        requests.add((reading.0, attempt.request_id));
        answer(reading.0, (!is_stuck(reading.0)).then_some(10))
    });
    readings.async_wait_with(policy, ask).positions_only(recovery).spawn(TokioLocal)
}

/// The readings of the committed outcomes, from that one on, in ascending order.
fn committed(sink: &MemorySink<Done>, from: usize) -> Vec<u32> {
    let mut readings: Vec<_> = sink.committed()[from..].iter().map(|done| done.input.0).collect();
    readings.sort_unstable();
    readings
}

#[test] // K14: in any order, also behind a record that is stuck
fn a_crash_asks_again_exactly_for_what_was_not_done() {
    run(async {
        let (store, requests, mut sink) = (Store::default(), Notes::new(), MemorySink::new());
        let noted = requests.clone();
        let first = Pipeline::new(readings(), &mut sink, store.clone())
            .interval(100 * MS)
            .run_positions_only(TokioLocal, |readings, recovery| {
                stage(readings, recovery, AsyncWait::unordered(4), |n| n.is_multiple_of(5), noted)
            });
        assert!(timeout(1_000 * MS, first).await.is_err());
        let before = requests.all();
        assert_eq!(before.len(), 20);
        assert!(committed(&sink, 0).into_iter().eq((1..=20).filter(|n| n % 5 != 0)));

        let (requests, mut store) = (Notes::new(), store);
        let noted = requests.clone();
        let second = Pipeline::new(readings(), &mut sink, store.clone()).run_positions_only(
            TokioLocal,
            |readings, recovery| {
                stage(readings, recovery, AsyncWait::unordered(4), |_| false, noted)
            },
        );
        assert_eq!(second.await.unwrap(), Ended::Finished);
        let again = requests.all();
        assert!(again.iter().map(|(n, _)| *n).eq([5, 10, 15, 20]), "{again:?}");
        assert!(
            again.iter().all(|request| before.contains(request)),
            "other request ids: {again:?}"
        );
        assert_eq!(committed(&sink, 16), [5, 10, 15, 20]);

        let latest = store.load_latest().await.unwrap().unwrap();
        let checkpoint = Checkpoint::from_bytes(&latest.bytes).unwrap();
        assert_eq!(pipeline::position::<u64>(&checkpoint), Some(20));
    });
}

#[test] // K14: an ordered stage's checkpoint is one position.
fn an_ordered_checkpoint_is_one_position() {
    run(async {
        let (mut store, mut sink) = (Store::default(), MemorySink::<Done>::new());
        let job = Pipeline::new(readings(), &mut sink, store.clone()).interval(100 * MS);
        let job = job.run_positions_only(TokioLocal, |readings, recovery| {
            stage(readings, recovery, AsyncWait::ordered(8), |n| n == 10, Notes::new())
        });
        assert!(timeout(1_000 * MS, job).await.is_err());
        assert!(committed(&sink, 0).into_iter().eq(1..=9));
        let latest = store.load_latest().await.unwrap().unwrap();
        let checkpoint = Checkpoint::from_bytes(&latest.bytes).unwrap();
        assert_eq!(pipeline::position::<u64>(&checkpoint), Some(9));
        assert_eq!(checkpoint.section("pipeline.done"), None);
    });
}

#[test] // K14: a record that an adapter drops is done; the outputs of one that it multiplies come together.
fn adapters_that_drop_and_multiply_records_lose_and_double_nothing() {
    run(async {
        let (store, mut sink) = (Store::default(), MemorySink::<Done>::new());
        let asked = Notes::new();
        for life in 1..=2 {
            let noted = asked.clone();
            let source = MemorySource::new([Reading(2), Reading(3), Reading(0)]);
            let job = Pipeline::new(source, &mut sink, store.clone()).interval(100 * MS);
            let job = job.run_positions_only(TokioLocal, |readings, recovery| {
                let parts = readings.flat_map_records(|reading: Tracked<Reading>| {
                    (0..reading.0).map(move |part| {
                        Tracked::map(reading.clone(), |Reading(n)| Reading(10 * n + part))
                    })
                });
                // In the first life the last part of the second reading gets no answer.
                stage_over(parts, recovery, move |part| {
                    noted.add(part);
                    (life == 2 || part != 32).then_some(10)
                })
            });
            assert_eq!(timeout(1_000 * MS, job).await.is_err(), life == 1);
            let parts: Vec<_> = committed(&sink, 0);
            assert_eq!(parts, [&[20, 21][..], &[20, 21, 30, 31, 32]][life - 1]);
        }
        assert_eq!(asked.all(), [20, 21, 30, 31, 32, 30, 31, 32]);
    });
}

fn stage_over(
    parts: impl Stream<Item = StreamElement<Tracked<Reading>>> + 'static,
    recovery: &Recovery,
    after: impl Fn(u32) -> Option<u32> + 'static,
) -> Result<
    LocalBoxStream<'static, StreamElement<Outcome<Tracked<Reading>, u32, &'static str>>>,
    StartError,
> {
    parts
        .async_wait(AsyncWait::unordered(8), move |part: &Tracked<Reading>| {
            answer(part.0, after(part.0))
        })
        .positions_only(recovery)
        .spawn(TokioLocal)
        .map(StreamExt::boxed_local)
}

#[test] // K14, O1: a function may copy the record into its request.
fn a_copy_in_a_request_holds_nothing_up() {
    run(async {
        let (mut sink, copies) = (MemorySink::<Done>::new(), Notes::new());
        let pipeline = Pipeline::new(readings(), &mut sink, Store::default()).interval(1_000 * MS);
        let job = pipeline.run_positions_only(TokioLocal, |readings, recovery| {
            readings
                .async_wait(AsyncWait::ordered(4), move |reading: &Tracked<Reading>| {
                    let (copy, copies) = (reading.clone(), copies.clone());
                    async move {
                        tokio::time::sleep((30 - copy.0) * MS).await;
                        copies.add(copy.0);
                        Ok(10 * copy.0)
                    }
                })
                .positions_only(recovery)
                .spawn(TokioLocal)
        });
        assert_eq!(job.await.unwrap(), Ended::Finished);
        let order: Vec<_> = sink.committed().iter().map(|done| done.input.0).collect();
        assert!(order.is_sorted(), "{order:?}");
    });
}

#[test] // K14: only the source makes records that count.
fn a_record_without_a_mark_is_refused() {
    run(async {
        let mut sink = MemorySink::<Done>::new();
        let pipeline = Pipeline::new(readings(), &mut sink, Store::default());
        let job = pipeline.run_positions_only(TokioLocal, |readings, recovery| {
            let stage = readings
                .async_wait(AsyncWait::ordered(4), |reading: &Tracked<Reading>| {
                    std::future::ready(Ok(reading.0))
                })
                .positions_only(recovery)
                .spawn(TokioLocal)?;
            Ok(stage.map_records(|done| Outcome {
                input: Tracked::detached((*done.input).clone()),
                ..done
            }))
        });
        let ended = job.await;
        assert!(matches!(ended, Err(PipelineError::Checkpoint(CheckpointError::Untracked))));
        assert!(sink.committed().is_empty());
    });
}
