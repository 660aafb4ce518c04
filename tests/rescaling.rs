//! One instance becomes three and one again, over real stages (K8).

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;

use futures::{StreamExt, stream};
use inflight::prelude::*;
use inflight::{hash_key, merge_snapshots, split_snapshot};
use serde::{Deserialize, Serialize};

const STAGE: &str = "stage";
const INSTANCES: usize = 3;
const KEYS: u32 = 7;

/// A record: its key, and its number among the records of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Record {
    key: u32,
    count: u32,
}

type Done = Outcome<Record, u64, Infallible>;

fn records(counts: std::ops::Range<u32>) -> Vec<Record> {
    counts.map(|count| Record { key: count * count % KEYS, count }).collect()
}

/// The instance of a key, by the key's hash, for the source as for the split snapshot.
fn owner(hash: u64) -> usize {
    (hash % INSTANCES as u64) as usize
}

/// Runs an instance over `input`, restored from `from`. The records for which `answers` is true are answered, with
/// their request ids; the others are in flight at the end, and in the checkpoint that is returned.
async fn run(
    from: Option<&[u8]>,
    input: Vec<Record>,
    answers: fn(Record) -> bool,
) -> (Vec<Done>, Vec<u8>) {
    let loaded = from.map(|section| {
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        checkpoint.put(STAGE, section).unwrap();
        checkpoint
    });
    // The barrier comes after all records that can be answered are.
    let later = stream::once(async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        StreamElement::Barrier(Barrier::snapshot(Checkpoint::new(CheckpointId(2))))
    });
    let elements = stream::iter(input.into_iter().map(StreamElement::value)).chain(later);
    let policy = AsyncWait::ordered_by_key(200, |record: &Record| record.key);
    let mut stage = Box::pin(elements)
        .async_wait_with(
            policy,
            with_attempt(move |record: &Record, attempt: AttemptInfo| {
                let (record, id) = (*record, attempt.request_id);
                async move {
                    if !answers(record) {
                        pending::<()>().await;
                    }
                    Ok(id)
                }
            }),
        )
        .checkpointed(STAGE, 1)
        .restore(loaded.as_ref())
        .spawn(Tokio)
        .unwrap();
    let mut done = Vec::new();
    while let Some(element) = stage.next().await {
        match element {
            StreamElement::Record { value, .. } => done.push(value),
            StreamElement::Barrier(barrier) => {
                let section = barrier.checkpoint.section(STAGE).unwrap().to_vec();
                return (done, section);
            }
            _ => {}
        }
    }
    panic!("the barrier is lost");
}

#[tokio::test(flavor = "current_thread", start_paused = true)]
async fn one_becomes_three_and_one_again() {
    let mut all = Vec::new();
    // One instance; about half of its records are in flight at the end.
    let (done, one) = run(None, records(0..60), |record| record.count % 5 != 3).await;
    assert!((5..55).contains(&done.len()), "{}", done.len());
    all.extend(done);

    // Three instances, each with its own keys, and with more input.
    let parts = split_snapshot(&one, INSTANCES, owner).unwrap();
    let mut sections = Vec::new();
    for (instance, part) in parts.iter().enumerate() {
        let input = records(60..120).into_iter().filter(|r| owner(hash_key(&r.key)) == instance);
        let (done, section) =
            run(Some(part), input.collect(), |record| record.count % 7 != 6).await;
        let is_mine = |done: &Done| owner(hash_key(&done.input.key)) == instance;
        assert!(done.iter().all(is_mine) && !done.is_empty());
        all.extend(done);
        sections.push(section);
    }

    // One instance again, and all records are answered.
    let merged = merge_snapshots(sections.iter().map(Vec::as_slice)).unwrap();
    let before = all.len();
    let (done, empty) = run(Some(&merged), records(120..150), |_| true).await;
    assert!(done.len() > 30, "something was in flight");
    all.extend(done);
    assert!(before < 120 && empty.len() < merged.len());

    // Each record once, in the order of its key, and with an id of its own.
    let mut by_key: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for done in &all {
        by_key.entry(done.input.key).or_default().push(done.input.count);
    }
    assert!(by_key.values().all(|counts| counts.is_sorted()), "{by_key:?}");
    let mut counts: Vec<_> = all.iter().map(|done| done.input.count).collect();
    counts.sort_unstable();
    assert!(counts.into_iter().eq(0..150));
    let mut ids: Vec<_> = all.iter().map(|done| done.result).collect();
    ids.sort_unstable_by_key(|id| id.ok());
    ids.dedup();
    assert_eq!(ids.len(), 150);
}
