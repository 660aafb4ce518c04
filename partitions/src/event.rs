//! What a job tells of its partitions.

use std::error::Error;
use std::time::Duration;

/// News of a partition, as [`Partitions::on_event`](crate::Partitions::on_event) receives them.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a, P> {
    /// Its pipeline is being started, for the first time since it was assigned, or again.
    Started {
        /// The partition.
        partition: &'a P,
        /// The number of the start since it was assigned, from 1.
        life: u32,
    },
    /// It was revoked, or this worker leaves: its last checkpoint is committed, or its pipeline was not running. Nothing of it
    /// runs here any more.
    HandedOver {
        /// The partition.
        partition: &'a P,
    },
    /// It was revoked, or this worker leaves, and the hand-over took longer than
    /// [`hand_over_within`](crate::Partitions::hand_over_within): the pipeline was dropped. What it had not committed is done again.
    HandOverTimedOut {
        /// The partition.
        partition: &'a P,
    },
    /// Its source has ended, and everything is committed.
    Finished {
        /// The partition.
        partition: &'a P,
    },
    /// Its pipeline has failed.
    Failed {
        /// The partition.
        partition: &'a P,
        /// The pipeline's error.
        error: &'a (dyn Error + 'static),
        /// The time until it starts again; `None` if this worker does not start it again.
        retry_in: Option<Duration>,
    },
    /// Its pipeline has ended with an error that is [final](inflight_core::CheckpointStore::is_final) for its store: another worker has
    /// claimed the partition since (K15), or this life can commit nothing more for a reason that the error tells. While the engine says
    /// that the partition is this worker's, it starts again.
    Fenced {
        /// The partition.
        partition: &'a P,
        /// The pipeline's error.
        error: &'a (dyn Error + 'static),
        /// The time until it starts again; `None` if this worker does not start it again.
        retry_in: Option<Duration>,
    },
    /// Its pipeline has ended before its source, and the job had not asked for that: a stop handle of the program's own did.
    Stopped {
        /// The partition.
        partition: &'a P,
        /// The time until it starts again.
        retry_in: Duration,
    },
    /// The engine has taken it away, and its pipeline was dropped.
    Lost {
        /// The partition.
        partition: &'a P,
    },
}
