//! A job over the partitions of a log: a pipeline for each partition that an engine assigns to this worker.
//!
//! A job that shall use many machines reads a log with partitions (topics of Kafka, streams of NATS, shards of Kinesis). Each partition
//! is a [`Pipeline`](inflight_core::pipeline::Pipeline) of its own: position, records in flight, output and fence of one partition are
//! committed together, so a partition can move between workers at any moment (P3). Who has which partition is the decision of an
//! engine that exists already, a consumer group for instance (P4). This crate joins the two:
//!
//! * [`Assignment`] is the engine's side: which partitions are this worker's.
//! * [`Partitions`] is the job: it starts a pipeline for each, hands it over when it is revoked, drops it when it is lost, and starts it
//!   again after an error.
//! * [`JobHandle`] looks at the job ([`JobView`]), and makes this worker leave.
//!
//! It runs on any runtime, as one future that spawns nothing.
//!
//! ```
//! use std::collections::VecDeque;
//! use std::convert::Infallible;
//! use std::task::{Context, Poll};
//! use std::time::Duration;
//!
//! use inflight_core::pipeline::{MemorySource, MemoryTransaction, one_transaction};
//! use inflight_core::{AsyncWait, AsyncWaitExt, Permits};
//! use inflight_partitions::{Assignment, Change, Event, Partition, Partitions};
//! use inflight_tokio::Tokio;
//!
//! /// An engine in memory, which gives all partitions to this worker.
//! struct All(VecDeque<u16>);
//!
//! impl Assignment for All {
//!     type Partition = u16;
//!     type Error = Infallible;
//!
//!     fn poll_change(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Change<u16>, Infallible>>> {
//!         Poll::Ready(self.0.pop_front().map(|partition| Ok(Change::Assigned(partition))))
//!     }
//!     fn number(&self, partition: &u16) -> u16 { *partition }
//!     fn released(&mut self, _: &u16) {}
//!     fn finished(&mut self, _: &u16) {}
//!     async fn leave(&mut self) -> Result<(), Infallible> { Ok(()) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let log = [MemoryTransaction::new(), MemoryTransaction::new()]; // a real one takes output and checkpoint of a partition together
//! let permits = Permits::new(100)?; // for all partitions together (C9)
//!
//! let job = Partitions::new(All(VecDeque::from([0, 1]))).on_event(|event| {
//!     if let Event::Failed { partition, error, retry_in } = event {
//!         eprintln!("partition {partition}: {error}; again in {retry_in:?}");
//!     }
//! });
//! let handle = job.handle(); // for a status page, and for the signal that ends the process: `handle.leave()`
//! job.run(Tokio, async |partition: Partition<u16>| {
//!     let (sink, store) = one_transaction(log[usize::from(*partition.id())].another_owner());
//!     partition
//!         .pipeline(MemorySource::new(1..=10_u64), sink, store)
//!         .interval(Duration::from_secs(1))
//!         .run(Tokio, |numbers, recovery| {
//!             numbers
//!                 .async_wait(AsyncWait::ordered(10), |n: &u64| {
//!                     let n = *n;
//!                     async move { Ok::<_, ()>(n * n) } // a real one asks a service
//!                 })
//!                 .permits(&permits)
//!                 .checkpointed("squares", 1)
//!                 .restore(recovery)
//!                 .in_place(Tokio) // or `.spawn(..)`
//!         })
//!         .await
//! })
//! .await?;
//!
//! assert_eq!(log[1].committed()[9].value.result, Ok(100));
//! assert!(handle.view().partitions.iter().all(|partition| partition.outputs == 10));
//! # Ok(())
//! # }
//! ```
//!
//! # What a job promises
//!
//! Every pipeline keeps its own promises, in each life and from one worker to the next: records in flight are asked for again with the same
//! request ids (K10, K17), and each record's outcome is in the output once, if the store fences and commits output and checkpoint in one
//! [transaction](inflight_core::pipeline::Transaction).
//!
//! | the engine | the job |
//! | --- | --- |
//! | [assigns](Change::Assigned) a partition | starts its pipeline, which claims the partition; one that is here already is left alone |
//! | [revokes](Change::Revoked) it | hands it over (K16), or drops it when that takes too long; then gives it back |
//! | has [taken it away](Change::Lost) | drops it at once |
//! | assigns it again before it was given back | starts it again when it is handed over, and does not give it back |
//! | tells nothing more, or fails | goes on until all partitions have ended; or hands over all, and ends with the error |
//!
//! A pipeline that fails starts again after a while, for as long as the engine says that the partition is this worker's. That goes for
//! a pipeline that was fenced too (K15): one rule, because only the engine knows. Two workers that both believe that a partition is theirs
//! fence each other, ever more slowly, until the engine has made up its mind; nothing is lost or doubled meanwhile.
//!
//! A worker that leaves hands over its partitions **before** it stops being seen alive. In the other order the engine gives them to
//! others, which fence it in the middle of its work; that does no damage, and is work done twice.
#![forbid(unsafe_code)]

mod assignment;
mod error;
mod event;
mod job;
mod life;
mod partition;
mod running;
mod view;
mod watch;
mod watched;

pub use assignment::{Assignment, Change};
pub use error::JobError;
pub use event::Event;
pub use job::Partitions;
pub use partition::Partition;
pub use view::{JobHandle, JobView, PartitionState, PartitionView};
pub use watched::{Watched, WatchedSink, WatchedStore};
