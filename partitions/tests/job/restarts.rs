//! How a partition starts, and starts again.

use std::time::Duration;

use inflight_core::pipeline::Transaction;
use inflight_core::{ConfigError, ExponentialBackoff, FixedDelay};
use inflight_partitions::{JobError, PartitionState};
use inflight_tokio::Tokio;

use crate::worker::{LONGEST, Worker, pass};

fn delays(log: &[String]) -> Vec<u64> {
    let delays = log.iter().filter_map(|entry| entry.split_once("again in ")?.1.parse().ok());
    delays.collect()
}

#[tokio::test(start_paused = true)] // P3
async fn a_partition_that_is_assigned_twice_starts_once() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        worker.engine.assigns(1);
        pass(100).await;
        worker.engine.assigns(1);
        pass(100).await;
        assert_eq!(worker.engine.log(), ["started 1: life 1"]);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_fails_starts_again_later_each_time() {
    let worker = Worker::new();
    worker.fails.set(true);
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(1).await;
        let log = worker.engine.log();
        assert_eq!(log[0], "started 1: life 1");
        assert_eq!(log[1], "gone 1");
        assert!(log[2].starts_with("failed 1: opening the source: broken: again in "), "{log:?}");
        let first = delays(&log)[0];
        assert!((50..=100).contains(&first), "{first}");
        assert_eq!(handle.view().partitions[0].state, PartitionState::WaitingToRestart);
        worker.engine.assigns(1); // it is assigned already
        pass(first - 2).await;
        assert_eq!(worker.engine.log(), [""; 0]);
        pass(3).await;
        assert_eq!(worker.engine.log()[0], "started 1: life 2");
        pass(300_000).await;
        let delays = delays(&worker.engine.log());
        assert!(delays.iter().all(|delay| *delay <= 30_000), "{delays:?}");
        assert!(delays.len() < 30, "{delays:?}");
        assert!(delays[5..].iter().all(|delay| *delay > 1_000), "{delays:?}");
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_failures_of_a_pipeline_that_has_run_for_a_minute_count_anew() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        for (runs_for, next_delay) in [(58_000, 101..=3_200), (61_000, 50..=100)] {
            worker.fails.set(true);
            pass(300).await; // it has failed at its start at least once
            worker.fails.set(false);
            pass(1_000).await; // it runs
            pass(runs_for).await;
            worker.engine.log();
            worker.database(1).claim().await.unwrap();
            let stop = worker.stop.borrow().clone().unwrap();
            let _ = stop.checkpoint_now().await; // it finds out that it is fenced
            pass(1).await;
            let delays = delays(&worker.engine.log());
            let [delay] = delays[..] else { panic!("{delays:?}") };
            assert!(next_delay.contains(&delay), "after {runs_for} ms: {delay}");
        }
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // K15, P4
async fn a_partition_that_is_fenced_starts_again_while_the_engine_says_that_it_is_ours() {
    let worker = Worker::new();
    worker.latency.set(Duration::from_millis(50));
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(20).await;
        worker.database(1).claim().await.unwrap(); // another worker, which does nothing with it
        pass(1_000).await;
        let log = worker.engine.log();
        assert_eq!(log[..2], ["started 1: life 1", "gone 1"]);
        assert!(log[2].starts_with("fenced 1: again in "), "{log:?}");
        assert_eq!(log[3..], ["started 1: life 2"]);
        assert_eq!(worker.committed(1), (0..10).collect::<Vec<_>>());
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // K15
async fn a_life_after_a_fence_that_fails_for_another_reason_is_not_fenced() {
    let worker = Worker::new();
    worker.latency.set(Duration::from_millis(50));
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(20).await;
        worker.database(1).claim().await.unwrap();
        worker.fails.set(true); // from the next life on
        pass(200).await;
        let log = worker.engine.log();
        assert!(log[2].starts_with("fenced 1: "), "{log:?}");
        assert!(log[5].starts_with("failed 1: "), "{log:?}");
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // K15
async fn a_partition_that_is_fenced_during_its_hand_over_is_given_back() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(20).await;
        worker.database(1).claim().await.unwrap();
        worker.engine.revokes(1);
        pass(100).await;
        let log = ["started 1: life 1", "gone 1", "fenced 1: not again", "released 1"];
        assert_eq!(worker.engine.log(), log);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_somebody_else_has_stopped_starts_again() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        worker.stop.borrow().as_ref().unwrap().drain();
        pass(999).await;
        let log = ["started 1: life 1", "gone 1", "stopped 1: again in 1000"];
        assert_eq!(worker.engine.log(), log);
        pass(2).await;
        assert_eq!(worker.engine.log(), ["started 1: life 2"]);
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_strategy_that_gives_a_partition_up_ends_the_job() {
    let worker = Worker::new();
    let job = worker.job().restart_after(FixedDelay::new(Duration::from_secs(1)).max_retries(2));
    let job = job.on_event(|event| worker.note(event));
    worker.engine.assigns(1);
    let run = job.run(Tokio, async |partition| worker.live(partition).await);
    let script = async {
        pass(100).await;
        worker.engine.assigns(2); // before it breaks: it is handed over
        worker.fails.set(true);
        worker.stop.borrow().as_ref().unwrap().drain();
        pass(100_000).await;
    };
    let both = async { tokio::join!(run, script) };
    let (ended, ()) = tokio::time::timeout(LONGEST, both).await.expect("the job ends");
    let Err(JobError::Partition { partition, error }) = ended else { panic!("{ended:?}") };
    assert_eq!((&*partition, &*error.to_string()), ("2", "opening the source: broken"));
    let log = worker.engine.log();
    assert_eq!(delays(&log), [1_000, 1_000, 1_000, 1_000, 1_000]);
    assert_eq!(log.last().unwrap(), "left");
    assert!(log.contains(&"released 1".into()) && log.contains(&"released 2".into()), "{log:?}");
}

#[tokio::test(start_paused = true)] // K17
async fn a_strategy_that_makes_no_sense_is_refused() {
    let worker = Worker::new();
    let strategy = ExponentialBackoff::new(Duration::from_secs(1)).factor(0.5);
    let job = worker.job().restart_after(strategy);
    worker.engine.has_no_more();
    let ended = job.run(Tokio, async |partition| worker.live(partition).await).await;
    assert!(matches!(ended, Err(JobError::Config(ConfigError::BackoffFactor))), "{ended:?}");
}

#[tokio::test(start_paused = true)] // K17
async fn a_partition_with_too_high_a_number_ends_the_job() {
    let worker = Worker::new();
    worker.engine.assigns(1);
    worker.engine.assigns(1_024);
    let run = worker.job().run(Tokio, async |partition| worker.live(partition).await);
    let ended = tokio::time::timeout(LONGEST, run).await.expect("the job ends");
    let Err(JobError::Partition { partition, error }) = ended else { panic!("{ended:?}") };
    assert_eq!(partition, "1024");
    assert_eq!(error.to_string(), "number 1024: a job has at most 1024 partitions");
    let log = worker.engine.log();
    assert!(log.contains(&"released 1024".into()) && log.contains(&"released 1".into()), "{log:?}");
    assert_eq!(log.last().unwrap(), "left");
}

#[tokio::test(start_paused = true)] // K17
async fn two_partitions_with_one_number_end_the_job() {
    let worker = Worker::new();
    worker.engine.assigns(1);
    worker.engine.assigns(2_001);
    let ended = worker.run(async |_| {}).await;
    let Err(JobError::Partition { partition, error }) = ended else { panic!("{ended:?}") };
    assert_eq!(partition, "2001");
    assert_eq!(error.to_string(), "number 1: partition 1 has it too");
    let log = worker.engine.log();
    assert!(log.contains(&"released 2001".into()) && log.contains(&"released 1".into()), "{log:?}");
}
