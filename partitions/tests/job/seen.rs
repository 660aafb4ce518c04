//! A job as its handle shows it, and what its partitions share.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use inflight_core::{CheckpointId, Permits, Timestamp};
use inflight_partitions::PartitionState;

use crate::worker::{Worker, pass};

#[tokio::test(start_paused = true)] // P3
async fn a_view_has_the_lag_the_watermark_and_the_owners_of_a_job() {
    let worker = Worker::new();
    worker.there.set(100);
    worker.latency.set(Duration::from_millis(10));
    let ended = worker.run(async |handle| {
        assert_eq!((handle.view().lag, handle.view().watermark), (Some(0), None));
        worker.engine.assigns(1);
        worker.engine.tells_owner(1, Some("this one"));
        worker.engine.tells_owner(2, Some("another one"));
        worker.engine.tells_owner(3, None);
        pass(45).await;
        let view = handle.view();
        let [partition] = &view.partitions[..] else { panic!("{view:?}") };
        assert_eq!((partition.partition, partition.number, partition.lives), (1, 1, 1));
        assert_eq!(partition.state, PartitionState::Running);
        let (records, outputs) = (partition.records, partition.outputs);
        assert!(outputs < records && records < 100, "{view:?}");
        assert_eq!(partition.lag, Some(100 - records));
        assert_eq!(view.lag, partition.lag);
        // The watermark is that of the committed output.
        let committed = worker.committed(1).len() as i64;
        assert!(committed > 0 && committed < outputs as i64, "{view:?}");
        assert_eq!(view.watermark, Some(Timestamp::from_millis(committed - 1)));
        assert!(partition.checkpoint > Some(CheckpointId(0)));
        let owners: Vec<_> = view.owners.into_iter().collect();
        let [this, another] = ["this one", "another one"].map(|name| Some(name.to_owned()));
        assert_eq!(owners, [(1, this), (2, another), (3, None)]);

        // A partition that has no watermark yet holds up that of the job.
        worker.prepares_for.set(Duration::from_millis(50));
        worker.engine.assigns(2);
        pass(20).await;
        assert_eq!((handle.view().lag, handle.view().watermark), (None, None));
        pass(1_000).await;
        let view = handle.view();
        assert_eq!((view.lag, view.watermark), (Some(0), Some(Timestamp::from_millis(99))));
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn finished_partitions_hold_up_no_watermark_and_have_no_lag() {
    let worker = Worker::new();
    worker.ends.set(true);
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        pass(100).await;
        let view = handle.view();
        assert_eq!(view.partitions[0].state, PartitionState::Finished);
        assert_eq!((view.lag, view.watermark), (Some(0), None));
        handle.leave();
    });
    ended.await.unwrap();
}

#[tokio::test(start_paused = true)] // C9
async fn one_pool_of_permits_bounds_all_partitions() {
    for (permits, most) in [(7, 7), (1_000, 30)] {
        let worker = Worker::new();
        let mut worker = Rc::into_inner(worker).unwrap();
        worker.permits = Permits::new(permits).unwrap();
        let worker = Rc::new(worker);
        let ended = worker.run(async |handle| {
            for partition in 1..=3 {
                worker.engine.assigns(partition);
            }
            pass(1_000).await;
            handle.leave();
        });
        ended.await.unwrap();
        assert_eq!(worker.most_running.get(), most);
        for partition in 1..=3 {
            assert_eq!(worker.committed(partition), (0..10).collect::<Vec<_>>());
        }
    }
}

#[tokio::test(start_paused = true)] // K17
async fn two_partitions_never_give_out_the_same_request_id() {
    let worker = Worker::new();
    let ended = worker.run(async |handle| {
        worker.engine.assigns(1);
        worker.engine.assigns(2);
        pass(1_000).await;
        handle.leave();
    });
    ended.await.unwrap();
    let ids: BTreeSet<_> = worker.ids.borrow().iter().map(|(_, id)| *id).collect();
    assert_eq!((ids.len(), worker.ids.borrow().len()), (20, 20));
}
