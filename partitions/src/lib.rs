//! A job over the partitions of a log: a pipeline for each partition that an engine assigns to this worker.
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
