//! What can never work is refused at the start; what changes between two lives keeps its request ids apart (K17).

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::slice::from_ref;

use futures::StreamExt;
use futures::stream::LocalBoxStream;
use inflight::CheckpointError;
use inflight::pipeline::{
    CheckpointedSource, Ended, MemorySinkError, MemorySource, MemorySourceError, Pipeline,
    PipelineError,
};
use inflight::prelude::*;
use tokio::time::timeout;

use crate::store::{Refused, Store};
use crate::{MS, Notes, Sink, answer, committed, run};

type Outcomes = LocalBoxStream<'static, StreamElement<Outcome<u32, u32, &'static str>>>;
type Numbers = CheckpointedSource<MemorySource<u32>>;

fn source() -> MemorySource<u32> {
    MemorySource::new(1..=6)
}

/// A stage of one attempt a record; it notes its requests. Odd numbers get no answer if it `is_stuck`.
fn ask(
    requests: &Notes<(u32, u64)>,
    is_stuck: bool,
) -> impl AsyncFunction<u32, Output = u32, Error = &'static str, Future: 'static> + use<> {
    let requests = requests.clone();
    with_attempt(move |n: &u32, attempt: AttemptInfo| {
        requests.add((*n, attempt.request_id));
        answer(*n, (!is_stuck || n.is_multiple_of(2)).then_some(1))
    })
}

/// The stages of these names, in a chain. The last one is stuck, if asked for.
fn chain(
    numbers: Numbers,
    recovery: &Recovery,
    names: &[&'static str],
    requests: &[Notes<(u32, u64)>],
    is_stuck: bool,
) -> Result<Outcomes, StartError> {
    let mut numbers = numbers.boxed_local();
    let mut outcomes = None;
    for (at, (name, requests)) in names.iter().zip(requests).enumerate() {
        let is_last = at + 1 == names.len();
        let stage = numbers
            .async_wait_with(AsyncWait::unordered(4), ask(requests, is_stuck && is_last))
            .checkpointed(name, 1)
            .restore(recovery)
            .spawn(TokioLocal)?;
        (numbers, outcomes) = match is_last {
            true => (futures::stream::empty().boxed_local(), Some(stage.boxed_local())),
            false => (stage.map_records(|done| done.input).boxed_local(), None),
        };
    }
    Ok(outcomes.expect("there is a stage"))
}

#[test] // K17: and nothing is taken from the source.
fn what_can_never_work_is_refused_at_the_start() {
    type Case = fn(Numbers, &Recovery, &Notes<(u32, u64)>) -> Result<Outcomes, StartError>;
    type Refusal = PipelineError<MemorySourceError, MemorySinkError, Refused>;
    let cases: [(&str, Case, fn(Refusal) -> bool); 5] = [
        (
            "two stages of one name",
            |numbers, recovery, requests| {
                let requests = [requests.clone(), requests.clone()];
                chain(numbers, recovery, &["a", "a"], &requests, false)
            },
            |error| matches!(error, PipelineError::Start(StartError::NameTaken { name }) if name == "a"),
        ),
        (
            "the pipeline's own name",
            |numbers, recovery, requests| {
                chain(numbers, recovery, &["pipeline.sink"], from_ref(requests), false)
            },
            |error| matches!(error, PipelineError::Start(StartError::NameTaken { .. })),
        ),
        (
            "a stage that takes no snapshots",
            |numbers, _, requests| {
                let stage = numbers.async_wait_with(AsyncWait::ordered(2), ask(requests, false));
                Ok(stage.spawn(TokioLocal)?.boxed_local())
            },
            |error| matches!(error, PipelineError::Checkpoint(CheckpointError::NotCheckpointed)),
        ),
        (
            "a stage that is not restored",
            |numbers, _, requests| {
                let stage = numbers.async_wait_with(AsyncWait::ordered(2), ask(requests, false));
                Ok(stage.checkpointed("a", 1).spawn(TokioLocal)?.boxed_local())
            },
            |error| matches!(error, PipelineError::NotConnected { stage } if stage == "a"),
        ),
        (
            "two stages of one name, of which one is not restored",
            |numbers, recovery, requests| {
                let first = chain(numbers, recovery, &["a"], from_ref(requests), false)?;
                let stage = first
                    .map_records(|done| done.input)
                    .async_wait_with(AsyncWait::ordered(2), ask(requests, false));
                Ok(stage.checkpointed("a", 1).spawn(TokioLocal)?.boxed_local())
            },
            |error| matches!(error, PipelineError::Checkpoint(CheckpointError::NameTaken)),
        ),
    ];
    for (case, build, is_expected) in cases {
        run(async {
            let (requests, store, mut sink) = (Notes::new(), Store::default(), Sink::new());
            let job = Pipeline::new(source(), &mut sink, store.clone());
            let ended =
                job.run(TokioLocal, |numbers, recovery| build(numbers, recovery, &requests));
            let error = ended.await.expect_err(case);
            let text = error.to_string();
            assert!(is_expected(error), "{case}: {text}");
            assert_eq!(requests.all(), [], "{case}");
            assert!(store.saves(tokio::time::Instant::now()).is_empty(), "{case}");
        });
    }
}

#[test] // K17, K14
fn a_stage_of_the_other_mode_is_refused() {
    run(async {
        let job = Pipeline::new(source(), Sink::new(), Store::default());
        let ended = job.run_positions_only(TokioLocal, |numbers, recovery| {
            numbers
                .map_records(|n| *n)
                .async_wait_with(AsyncWait::ordered(2), ask(&Notes::new(), false))
                .checkpointed("a", 1)
                .restore(recovery)
                .spawn(TokioLocal)
                .map(|outcomes| outcomes.map_records(inflight::Tracked::detached))
        });
        let error = ended.await.unwrap_err();
        assert!(matches!(error, PipelineError::Start(StartError::OtherMode)), "{error}");
    });
}

#[test] // K17: whatever restarts, no id is given to two records, nor by two stages.
fn a_new_stage_starts_empty_and_has_ids_of_its_own() {
    run(async {
        let (store, mut sink) = (Store::default(), Sink::new());
        let requests: Vec<_> = (0..2).map(|_| Notes::new()).collect();
        // The first life is killed with odd numbers in flight; the second one has one stage more, and is killed as well.
        for (names, is_stuck) in [(&["a"][..], true), (&["a", "b"], true), (&["a", "b"], false)] {
            let job = Pipeline::new(source(), &mut sink, store.clone()).interval(10 * MS);
            let job = job.run(TokioLocal, |numbers, recovery| {
                chain(numbers, recovery, names, &requests, is_stuck)
            });
            let ended = timeout(1_000 * MS, job).await;
            assert_eq!(ended.map(Result::unwrap).ok(), (!is_stuck).then_some(Ended::Finished));
        }
        let mut done = committed(&sink);
        done.sort_unstable();
        assert_eq!(done, [1, 2, 3, 4, 5, 6]);
        let of_stage =
            |stage: usize| requests[stage].all().into_iter().map(move |(n, id)| ((stage, n), id));
        assert_one_owner_each(of_stage(0).chain(of_stage(1)));
    });
}

#[test] // K17: in another life, records come to a later stage in another order.
fn a_later_stage_gives_no_id_to_two_records() {
    run(async {
        let (store, requests) = (Store::default(), Notes::new());
        // Each life is killed after its first checkpoint, with nothing in flight in it.
        for is_reversed in [false, true, false] {
            let job = Pipeline::new(source(), Sink::new(), store.clone());
            let job = job.run(TokioLocal, |numbers, recovery| {
                let first = numbers
                    .async_wait(AsyncWait::unordered(6), move |n: &u32| {
                        answer(*n, Some(if is_reversed { 10 - *n } else { *n }))
                    })
                    .checkpointed("a", 1)
                    .restore(recovery)
                    .spawn(TokioLocal)?;
                first
                    .map_records(|done| done.input)
                    .async_wait_with(AsyncWait::unordered(6), ask(&requests, true))
                    .checkpointed("b", 1)
                    .restore(recovery)
                    .spawn(TokioLocal)
            });
            assert!(timeout(1_000 * MS, job).await.is_err());
        }
        assert_eq!(requests.all().len(), 18);
        assert_one_owner_each(requests.all());
    });
}

/// Checks that no request id has two owners.
fn assert_one_owner_each<O: PartialEq + Copy + Debug>(ids: impl IntoIterator<Item = (O, u64)>) {
    let mut owners = BTreeMap::new();
    for (owner, id) in ids {
        assert_eq!(*owners.entry(id).or_insert(owner), owner, "{id:x}");
    }
}

#[test] // K17
fn partitions_have_ids_of_their_own() {
    run(async {
        let mut ids = Vec::new();
        for partition in [0, 1, 1_023] {
            let requests = Notes::new();
            let job = Pipeline::new(source(), Sink::new(), Store::default()).partition(partition);
            let ended = job.run(TokioLocal, |numbers, recovery| {
                chain(numbers, recovery, &["a"], from_ref(&requests), false)
            });
            assert_eq!(ended.await.unwrap(), Ended::Finished);
            ids.extend(requests.all().into_iter().map(|(_, id)| (partition, id)));
        }
        // 10 bits of the partition, 8 of the stage, 46 of the record.
        let expected = [0, 1, 1_023].map(|partition: u16| {
            (0..6_u64).map(move |record| (partition, u64::from(partition) << 54 | record))
        });
        assert!(ids.into_iter().eq(expected.into_iter().flatten()));

        let job = Pipeline::new(source(), Sink::new(), Store::default()).partition(1_024);
        let ended = job.run(TokioLocal, |numbers, recovery| {
            chain(numbers, recovery, &["a"], &[Notes::new()], false)
        });
        assert!(matches!(ended.await, Err(PipelineError::Partition { number: 1_024 })));
    });
}

#[test] // K17: the ids of a later stage, over lives that end before their first checkpoint is saved.
fn restored_records_are_not_asked_before_the_first_checkpoint_is_saved() {
    run(async {
        let (store, requests) = (Store::slow(5_000 * MS), Notes::new());
        for (life, ends) in [(0_u32, 12_000), (1, 1_000), (2, 1_000), (3, 9_000)] {
            let job = Pipeline::new(source(), Sink::new(), store.clone()).interval(5_500 * MS);
            let job = job.run(TokioLocal, |numbers, recovery| {
                let first = numbers
                    .async_wait(AsyncWait::unordered(6), move |n: &u32| {
                        // Records that were in flight come to the later stage in another order in each life.
                        answer(*n, [None, Some(*n), Some(10 - *n), Some(*n)][life as usize])
                    })
                    .checkpointed("a", 1)
                    .restore(recovery)
                    .spawn(TokioLocal)?;
                first
                    .map_records(|done| done.input)
                    .async_wait_with(AsyncWait::unordered(6), ask(&requests, true))
                    .checkpointed("b", 1)
                    .restore(recovery)
                    .spawn(TokioLocal)
            });
            assert!(timeout(ends * MS, job).await.is_err());
        }
        assert!(!requests.all().is_empty());
        assert_one_owner_each(requests.all());
    });
}
