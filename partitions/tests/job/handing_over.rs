//! How a partition leaves this worker, and this worker the job.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use inflight_core::pipeline::{Ended, MemorySource, MemoryTransaction, one_transaction};
use inflight_partitions::{JobError, Partition, Partitions};
use inflight_tokio::Tokio;

use crate::engine::{Engine, Gone};
use crate::worker::{Failed, Worker, pass};

#[tokio::test(start_paused = true)] // P3, K16
async fn a_revoked_partition_is_handed_over_with_its_records_in_flight_and_then_given_back() {
    let worker = Worker::new();
    worker.latency.set(Duration::from_secs(60));
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.revokes(1);
        pass(100).await; // nobody waits for a call
        let log = ["started 1: life 1", "gone 1", "handed over 1", "released 1"];
        assert_eq!(worker.engine.log(), log);
        // The next owner goes on with the records that were in flight, which were asked for with these ids before.
        let asked: Vec<_> = worker.ids.take();
        worker.latency.set(Duration::from_millis(1));
        worker.engine.assigns(1);
        pass(100).await;
        assert_eq!(*worker.ids.borrow(), asked);
        assert_eq!(worker.committed(1), (0..10).collect::<Vec<_>>());
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_without_a_pipeline_is_dropped() {
    let worker = Worker::new();
    worker.prepares_for.set(Duration::from_secs(60));
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(1).await;
        worker.engine.revokes(1);
        pass(1).await;
        let log = ["started 1: life 1", "gone 1", "handed over 1", "released 1"];
        assert_eq!(worker.engine.log(), log);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_revoked_partition_that_waits_to_start_again_is_given_back_at_once() {
    let worker = Worker::new();
    worker.fails.set(true);
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(1).await;
        worker.engine.log();
        worker.engine.revokes(1);
        pass(1_000).await;
        assert_eq!(worker.engine.log(), ["handed over 1", "released 1"]);
        assert_eq!(handle.view().partitions, []);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_not_here_are_given_back_and_lost_without_a_word() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.revokes(1);
        worker.engine.takes_away(2);
        pass(1).await;
        assert_eq!(worker.engine.log(), ["released 1"]);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // K16
async fn a_pipeline_that_is_made_while_its_partition_is_to_be_handed_over_is_handed_over() {
    let worker = Worker::new();
    let live = async |partition: Partition<u16>| {
        let (sink, store) = one_transaction(MemoryTransaction::<u64>::new());
        // A pipeline that never runs: the function has something else to do, and makes another one.
        let first = partition.pipeline(MemorySource::new(0..0_u64), sink, store);
        pass(200).await;
        drop(first);
        worker.live(partition).await
    };
    let job = worker.job().on_event(|event| worker.note(event));
    let handle = job.handle();
    let script = async {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.revokes(1);
        pass(200).await;
        let log = ["started 1: life 1", "gone 1", "handed over 1", "released 1"];
        assert_eq!(worker.engine.log(), log);
        handle.leave();
    };
    tokio::join!(job.run(Tokio, live), script).0.unwrap();
}

#[tokio::test(start_paused = true)] // K10, K16
async fn a_hand_over_that_takes_too_long_is_a_crash() {
    let worker = Worker::new();
    worker.lingers.set(true);
    let settings = |job: Partitions<_>| job.hand_over_within(Duration::from_millis(500));
    let ended = worker.run_with(settings, async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.revokes(1);
        pass(300).await;
        worker.engine.revokes(1); // twice does not prolong it
        pass(199).await;
        assert_eq!(worker.engine.log(), ["started 1: life 1"]);
        pass(2).await;
        assert_eq!(worker.engine.log(), ["gone 1", "timed out 1", "released 1"]);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // P4
async fn a_hand_over_that_takes_too_long_starts_again_if_the_partition_was_assigned_since() {
    let worker = Worker::new();
    worker.lingers.set(true);
    let settings = |job: Partitions<_>| job.hand_over_within(Duration::from_millis(500));
    let ended = worker.run_with(settings, async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.revokes(1);
        worker.engine.assigns(1);
        pass(502).await;
        let log = ["started 1: life 1", "gone 1", "timed out 1", "started 1: life 2"];
        assert_eq!(worker.engine.log(), log);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // P4
async fn a_partition_that_finishes_while_it_is_handed_over_is_given_back_too() {
    let worker = Worker::new();
    let live = async |partition: Partition<u16>| {
        let (sink, store) = one_transaction(MemoryTransaction::<u64>::new());
        let _pipeline = partition.pipeline(MemorySource::new(0..0_u64), sink, store);
        pass(200).await; // the last records come just now
        Ok::<_, Failed>(Ended::Finished)
    };
    let job = worker.job().on_event(|event| worker.note(event));
    let script = async {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.revokes(1);
        worker.engine.has_no_more();
    };
    tokio::join!(job.run(Tokio, live), script).0.unwrap();
    let log = ["started 1: life 1", "all of 1", "finished 1", "released 1", "left"];
    assert_eq!(worker.engine.log(), log);
}

#[tokio::test(start_paused = true)] // L5
async fn many_changes_at_once_are_all_heard() {
    let worker = Worker::new();
    (0..100).for_each(|partition| worker.engine.tells_owner(partition, None));
    let job = worker.job();
    let handle = job.handle();
    let mut run = pin!(job.run(Tokio, async |partition| worker.live(partition).await));
    let (waker, wakes) = counting_waker();
    let cx = &mut Context::from_waker(&waker);
    assert!(run.as_mut().poll(cx).is_pending());
    assert!(handle.view().owners.len() < 100); // partitions have their turn
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    assert!(run.as_mut().poll(cx).is_pending());
    assert_eq!(handle.view().owners.len(), 100);
}

#[tokio::test(start_paused = true)] // P4
async fn a_partition_that_is_lost_is_dropped_at_once_and_not_given_back() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.takes_away(1);
        pass(1).await;
        assert_eq!(worker.engine.log(), ["started 1: life 1", "gone 1", "lost 1"]);
        // Also in the middle of a hand-over, and while it waits to start again.
        worker.lingers.set(true);
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.revokes(1);
        pass(100).await;
        worker.engine.takes_away(1);
        pass(1).await;
        assert_eq!(worker.engine.log(), ["started 1: life 1", "gone 1", "lost 1"]);
        worker.lingers.set(false);
        worker.fails.set(true);
        worker.engine.assigns(1);
        pass(1).await;
        worker.engine.log();
        worker.engine.takes_away(1);
        pass(100_000).await;
        assert_eq!(worker.engine.log(), ["lost 1"]);
        handle.leave();
    });
    ended.await.unwrap();
    assert_eq!(worker.engine.log(), ["left"]);
}

#[tokio::test(start_paused = true)] // P4
async fn a_partition_that_is_assigned_again_while_it_is_handed_over_starts_again_and_is_not_given_back()
 {
    let worker = Worker::new();
    worker.latency.set(Duration::from_secs(60));
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.log();
        worker.engine.revokes(1);
        worker.engine.assigns(1);
        pass(100).await;
        assert_eq!(worker.engine.log(), ["gone 1", "handed over 1", "started 1: life 2"]);
        // The engine may change its mind twice.
        for change in [Engine::revokes, Engine::assigns, Engine::revokes] {
            change(&worker.engine, 1);
        }
        pass(100).await;
        assert_eq!(worker.engine.log(), ["gone 1", "handed over 1", "released 1"]);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // P4
async fn a_worker_that_leaves_gives_all_back_before_it_is_gone() {
    let worker = Worker::new();
    worker.latency.set(Duration::from_secs(60));
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        worker.engine.assigns(2);
        pass(100).await;
        worker.engine.log();
        handle.leave();
        worker.engine.assigns(3); // it takes nothing more
    });
    ended.await.unwrap();
    let mut log = worker.engine.log();
    assert_eq!(log.pop().as_deref(), Some("left"));
    log.sort();
    let each = ["gone 1", "gone 2", "handed over 1", "handed over 2"];
    assert_eq!(log[..4], each);
    assert_eq!(log[4..], ["released 1", "released 2", "released 3"]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_was_told_to_leave_before_it_runs_starts_nothing() {
    let worker = Worker::new();
    worker.engine.assigns(1);
    let job = worker.job();
    job.handle().leave();
    job.run(Tokio, async |partition| worker.live(partition).await).await.unwrap();
    assert_eq!(worker.engine.log(), ["released 1", "left"]);
}

#[tokio::test(start_paused = true)]
async fn a_handle_wakes_the_task_of_the_job() {
    let worker = Worker::new();
    let job = worker.job();
    let handle = job.handle();
    let mut run = pin!(job.run(Tokio, async |partition| worker.live(partition).await));
    let (waker, wakes) = counting_waker();
    let cx = &mut Context::from_waker(&waker);
    assert!(run.as_mut().poll(cx).is_pending());
    assert_eq!(wakes.load(Ordering::Relaxed), 0);
    handle.leave();
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    assert!(matches!(run.poll(cx), Poll::Ready(Ok(()))));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_tells_nothing_more_ends_the_job_when_all_is_handed_over() {
    let worker = Worker::new();
    worker.latency.set(Duration::from_secs(60));
    let ended = worker.run(async |_| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.log();
        worker.engine.fails();
    });
    assert!(matches!(ended.await, Err(JobError::Assignment(Gone))));
    assert_eq!(worker.engine.log(), ["gone 1", "handed over 1", "released 1"]);
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_to_end_counts() {
    let worker = Worker::new();
    worker.lingers.set(true);
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.fails();
        pass(100).await;
        handle.leave(); // while it hands over
    });
    assert!(matches!(ended.await, Err(JobError::Assignment(Gone))));
    assert!(!worker.engine.log().contains(&"left".into()));
}

#[tokio::test(start_paused = true)]
async fn a_job_ends_when_the_engine_has_no_more_and_all_partitions_have_ended() {
    let worker = Worker::new();
    worker.ends.set(true);
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        worker.engine.assigns(2);
        pass(1_000).await;
        let mut log = worker.engine.log();
        log.retain(|entry| entry.starts_with("all") || entry.starts_with("finished"));
        assert_eq!(log, ["all of 1", "finished 1", "all of 2", "finished 2"]);
        assert_eq!(handle.view().partitions.len(), 2);
        worker.engine.revokes(1); // the engine waits for an answer all the same
        pass(1).await;
        assert_eq!(worker.engine.log(), ["released 1"]);
        worker.engine.has_no_more();
    });
    ended.await.unwrap();
    assert_eq!(worker.engine.log(), ["left"]);
    assert_eq!(worker.committed(2), (0..10).collect::<Vec<_>>());
}

fn counting_waker() -> (Waker, Arc<AtomicUsize>) {
    struct Counter(Arc<AtomicUsize>);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    let wakes = Arc::new(AtomicUsize::new(0));
    (Waker::from(Arc::new(Counter(Arc::clone(&wakes)))), wakes)
}
