//! A job seen and steered from elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use futures_util::task::AtomicWaker;
use inflight_core::{CheckpointId, Timestamp};

use crate::watch::Watch;

/// Looks at a job over partitions, and ends it, from any thread: returned by [`Partitions::handle`](crate::Partitions::handle).
pub struct JobHandle<P>(pub(crate) Arc<Shared<P>>);

impl<P> JobHandle<P> {
    /// Makes this worker leave: it hands over all its partitions, gives each of them back, and only then tells the engine that it has
    /// gone. The job's future then ends with `Ok`. Asked twice it does nothing more.
    pub fn leave(&self) {
        self.0.is_leaving.store(true, Ordering::Release);
        self.0.waker.wake();
    }
}

impl<P: Clone + Ord> JobHandle<P> {
    /// The job as this worker sees it now.
    pub fn view(&self) -> JobView<P> {
        let watches = self.0.watches();
        let partitions = watches.iter().map(|(partition, watch)| watch.view(partition.clone()));
        let partitions: Vec<_> = partitions.collect();
        drop(watches);
        JobView {
            lag: lag(&partitions),
            watermark: watermark(&partitions),
            partitions,
            owners: self.0.owners().clone(),
        }
    }
}

impl<P> Clone for JobHandle<P> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<P> fmt::Debug for JobHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobHandle")
            .field("is_leaving", &self.0.is_leaving())
            .finish_non_exhaustive()
    }
}

/// A job over partitions at one moment, as this worker sees it. The numbers are approximate: the partitions go on while they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct JobView<P> {
    /// The partitions of this worker, in the order of their names, and those that have finished here.
    pub partitions: Vec<PartitionView<P>>,
    /// The number of records known to wait in the partitions of this worker; `None` if one of them does not know.
    pub lag: Option<u64>,
    /// The least watermark of this worker's partitions, without those that are idle or finished; `None` if one of them has none, or
    /// nothing is left.
    pub watermark: Option<Timestamp>,
    /// Who has which partition of the whole job, as far as the engine tells; `None` if nobody has.
    pub owners: BTreeMap<P, Option<String>>,
}

/// A partition of this worker at one moment. The counts begin when it is assigned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionView<P> {
    /// The partition.
    pub partition: P,
    /// Its number in the job.
    pub number: u16,
    /// What it does.
    pub state: PartitionState,
    /// How often its pipeline was started.
    pub lives: u32,
    /// The number of records behind the source's position, as the source
    /// [told](inflight_core::pipeline::ReplayableSource::lag) when it was polled, or when a checkpoint began.
    pub lag: Option<u64>,
    /// The watermark of the committed output: no record at or before it is missing there.
    pub watermark: Option<Timestamp>,
    /// The sink was told that nothing may come for a while.
    pub is_idle: bool,
    /// The number of records that the source has handed out, including those that came again after a failure.
    pub records: u64,
    /// The number of outputs that the sink was given, including those that came again after a failure.
    pub outputs: u64,
    /// The latest checkpoint that was saved or loaded.
    pub checkpoint: Option<CheckpointId>,
    /// The number of checkpoints in a row that could not be saved. A pipeline goes on after such an error, since it may pass; a partition
    /// whose number grows commits nothing. A [report](inflight_core::pipeline::Pipeline::on_report) has the error.
    pub failed_checkpoints: u64,
}

/// What a partition of this worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PartitionState {
    /// Its pipeline runs.
    Running,
    /// Its pipeline takes its last checkpoint here.
    HandingOver,
    /// Its pipeline has failed, and waits for its next start.
    WaitingToRestart,
    /// Its source has ended, and everything is committed.
    Finished,
}

impl PartitionState {
    pub(crate) fn from_number(number: u8) -> Self {
        let all = [Self::Running, Self::HandingOver, Self::WaitingToRestart];
        all.into_iter().find(|state| *state as u8 == number).unwrap_or(Self::Finished)
    }
}

fn lag<P>(partitions: &[PartitionView<P>]) -> Option<u64> {
    let live = partitions.iter().filter(|view| view.state != PartitionState::Finished);
    live.map(|view| view.lag).try_fold(0_u64, |sum, lag| Some(sum.saturating_add(lag?)))
}

fn watermark<P>(partitions: &[PartitionView<P>]) -> Option<Timestamp> {
    let is_live =
        |view: &&PartitionView<P>| view.state != PartitionState::Finished && !view.is_idle;
    // `None` is the least of all.
    partitions.iter().filter(is_live).map(|view| view.watermark).min().flatten()
}

/// What the job and its handles share.
pub(crate) struct Shared<P> {
    is_leaving: AtomicBool,
    /// The job's task.
    waker: AtomicWaker,
    watches: Mutex<BTreeMap<P, Arc<Watch>>>,
    owners: Mutex<BTreeMap<P, Option<String>>>,
}

impl<P> Shared<P> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            is_leaving: AtomicBool::new(false),
            waker: AtomicWaker::new(),
            watches: Mutex::default(),
            owners: Mutex::default(),
        })
    }

    pub(crate) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Nothing panics while it is locked but an order of names that panics, which leaves the map whole.
    pub(crate) fn watches(&self) -> MutexGuard<'_, BTreeMap<P, Arc<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn owners(&self) -> MutexGuard<'_, BTreeMap<P, Option<String>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
