//! The assignment.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::FutureExt;
use inflight::FileStore;
use inflight::pipeline::{Ended, MemorySink, Pipeline, ReplayableSource};
use inflight::prelude::*;
use inflight_kinesis::graph::Graph;
use inflight_kinesis::shards::{Shards, ShardsError, folder};
use inflight_partitions::{Assignment, Change};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fake::{kinesis, names, refused};

fn name(number: u64) -> String {
    format!("shardId-{number:012}")
}

fn shard(number: u64, parent: Option<u64>) -> Value {
    json!({
        "ShardId": name(number),
        "ParentShardId": parent.map(name),
        "HashKeyRange": { "StartingHashKey": "0", "EndingHashKey": "1" },
        "SequenceNumberRange": { "StartingSequenceNumber": "0" },
    })
}

/// 0 was split into 1 and 2.
fn split() -> (u16, Value) {
    (200, json!({ "Shards": [shard(0, None), shard(1, Some(0)), shard(2, Some(0))] }))
}

async fn next(shards: &mut Shards) -> Result<Change<String>, ShardsError> {
    let next = std::future::poll_fn(|cx| shards.poll_change(cx));
    let next = tokio::time::timeout(Duration::from_secs(600), next).await;
    next.expect("a change within ten minutes").expect("it goes on")
}

async fn assigned(shards: &mut Shards) -> String {
    match next(shards).await.unwrap() {
        Change::Assigned(shard) => shard,
        other => panic!("{other:?}"),
    }
}

/// A waker that notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A source that ends at once, or never.
struct Empty {
    ends: bool,
}

impl ReplayableSource for Empty {
    type Record = u64;
    type Position = ();
    type Error = Infallible;
    type Acknowledger = ();

    async fn open(&mut self, _: Option<()>) -> Result<(), Infallible> {
        Ok(())
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u64>, Infallible>>> {
        if self.ends { Poll::Ready(None) } else { Poll::Pending }
    }

    fn position(&self) {}

    fn acknowledger(&mut self) {}
}

/// Leaves the checkpoint of a pipeline that has finished its shard, or was stopped before.
async fn checkpoint(state: &Path, shard: &str, is_finished: bool) {
    let store = FileStore::open(folder(state, shard)).unwrap();
    let mut sink = MemorySink::new();
    let pipeline = Pipeline::new(Empty { ends: is_finished }, &mut sink, store);
    let stop = pipeline.stop_handle();
    if !is_finished {
        stop.hand_over();
    }
    let ended = pipeline.run(Tokio, |records, recovery| {
        let records =
            records.async_wait(AsyncWait::ordered(1), |_: &u64| async { Ok::<_, ()>(()) });
        records.checkpointed("ask", 1).restore(recovery).in_place(Tokio)
    });
    let ended = ended.await.unwrap();
    assert_eq!(ended == Ended::Finished, is_finished);
}

#[tokio::test(start_paused = true)]
async fn children_begin_as_soon_as_their_parent_is_finished() {
    let state = tempfile::tempdir().unwrap();
    let (client, _) = kinesis(|_, _, _| split());
    let mut shards = Shards::new(client, "input", state.path(), Graph::default());
    assert_eq!(assigned(&mut shards).await, name(0));
    let early = tokio::time::timeout(Duration::from_secs(60), next(&mut shards)).await;
    assert!(early.is_err(), "the parent is not finished: {early:?}");

    // L6: it wakes the task that waits.
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    assert!(shards.poll_change(&mut Context::from_waker(&waker)).is_pending());
    let finished = Instant::now();
    shards.finished(&name(0));
    assert!(woken.0.load(Ordering::Relaxed));
    assert_eq!([assigned(&mut shards).await, assigned(&mut shards).await], [name(1), name(2)]);
    assert_eq!(finished.elapsed(), Duration::ZERO);
}

// K10: it holds in the next life of the process.
#[tokio::test] // a paused clock would not wait for the threads that read files
async fn a_shard_that_an_earlier_life_has_finished_does_not_begin_again() {
    let state = tempfile::tempdir().unwrap();
    checkpoint(state.path(), &name(0), true).await;
    checkpoint(state.path(), &name(1), false).await;
    let (client, _) = kinesis(|_, _, _| split());
    let mut shards = Shards::new(client, "input", state.path(), Graph::default());
    let both = async { [assigned(&mut shards).await, assigned(&mut shards).await] };
    // So long only when it fails.
    let both = tokio::time::timeout(Duration::from_secs(20), both).await;
    assert_eq!(both.expect("both children"), [name(1), name(2)]);
}

#[tokio::test(start_paused = true)]
async fn shards_of_all_pages_begin_also_when_kinesis_is_busy_for_long() {
    const BUSY: usize = 40; // longer than a single call is tried
    let state = tempfile::tempdir().unwrap();
    let (client, calls) = kinesis(|call, _, _| match call {
        0 => (200, json!({ "Shards": [shard(0, None)], "NextToken": "more" })),
        call if call <= BUSY => refused("LimitExceededException"),
        _ => (200, json!({ "Shards": [shard(1, None)] })),
    });
    let mut shards = Shards::new(client, "input", state.path(), Graph::default());
    assert_eq!([assigned(&mut shards).await, assigned(&mut shards).await], [name(0), name(1)]);
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), BUSY + 2);
    assert_eq!(calls[BUSY + 1].1, json!({ "NextToken": "more" }));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_exist_ends_the_assignment() {
    let state = tempfile::tempdir().unwrap();
    let (client, calls) = kinesis(|_, _, _| refused("ResourceNotFoundException"));
    let mut shards = Shards::new(client, "input", state.path(), Graph::default());
    let error = next(&mut shards).await.unwrap_err();
    assert!(matches!(&error, ShardsError::Call(error) if !error.passes()), "{error}");
    assert_eq!(names(&calls), ["ListShards"]);
    assert!(shards.leave().now_or_never().is_some());
}
