//! A job over partitions on a runtime with threads: its future can be spawned, and its handle goes from thread to thread.

use std::convert::Infallible;
use std::task::{Context, Poll};

use inflight_core::pipeline::{MemorySink, MemorySource};
use inflight_core::{AsyncWait, AsyncWaitExt, MemoryStore};
use inflight_partitions::{Assignment, Change, Partition, Partitions};
use inflight_tokio::Tokio;

/// Assigns these partitions, and nothing more.
struct Fixed(Vec<u16>);

impl Assignment for Fixed {
    type Partition = u16;
    type Error = Infallible;

    fn poll_change(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Change<u16>, Infallible>>> {
        Poll::Ready(self.0.pop().map(|partition| Ok(Change::Assigned(partition))))
    }

    fn number(&self, partition: &u16) -> u16 {
        *partition
    }

    fn released(&mut self, _: &u16) {}

    fn finished(&mut self, _: &u16) {}

    async fn leave(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")] // P3
async fn a_job_is_spawned_and_ends_when_its_partitions_have() {
    let job = Partitions::new(Fixed(vec![0, 1, 2]));
    let handle = job.handle();
    let factor = String::from("captured");
    let run = tokio::spawn(job.run(Tokio, async move |partition: Partition<u16>| {
        let factor = factor.len() as u64;
        partition
            .pipeline(MemorySource::new(0..100_u64), MemorySink::new(), MemoryStore::new())
            .run(Tokio, |numbers, recovery| {
                numbers
                    .async_wait(AsyncWait::ordered(10), move |n: &u64| {
                        let n = *n;
                        async move { Ok::<_, ()>(n * factor) }
                    })
                    .checkpointed("numbers", 1)
                    .restore(recovery)
                    .spawn(Tokio)
            })
            .await
    }));
    run.await.expect("it does not panic").expect("it ends well");
    let view = handle.view();
    assert!(view.partitions.iter().all(|partition| partition.outputs == 100), "{view:?}");
    assert_eq!(view.partitions.len(), 3);
}
