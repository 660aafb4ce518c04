//! What a running partition tells the job: its numbers, and how it is stopped.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use inflight_core::pipeline::StopHandle;
use inflight_core::{CheckpointId, Timestamp};

use crate::view::{PartitionState, PartitionView};

/// The numbers of one partition since it was assigned. The ends of its pipeline write them, perhaps on other threads.
#[derive(Debug)]
pub(crate) struct Watch {
    number: u16,
    state: AtomicU8,
    /// How often it was started.
    lives: AtomicU32,
    lag: AtomicU64,
    records: AtomicU64,
    outputs: AtomicU64,
    /// The watermark of the committed output, in milliseconds.
    watermark: AtomicI64,
    is_idle: AtomicBool,
    checkpoint: AtomicU64,
    failed_checkpoints: AtomicU64,
    is_fenced: AtomicBool,
    stop: Mutex<Stop>,
}

/// How the life of a partition is stopped.
#[derive(Debug, Default)]
struct Stop {
    /// Of the latest pipeline.
    handle: Option<StopHandle>,
    /// A pipeline that is made from now on is handed over too.
    is_to_hand_over: bool,
}

/// No number: not known, or not yet.
const NONE: u64 = u64::MAX;

impl Watch {
    pub(crate) fn new(number: u16) -> Self {
        Self {
            number,
            state: AtomicU8::new(PartitionState::Running as u8),
            lives: AtomicU32::new(0),
            lag: AtomicU64::new(NONE),
            records: AtomicU64::new(0),
            outputs: AtomicU64::new(0),
            watermark: AtomicI64::new(i64::MIN),
            is_idle: AtomicBool::new(false),
            checkpoint: AtomicU64::new(NONE),
            failed_checkpoints: AtomicU64::new(0),
            is_fenced: AtomicBool::new(false),
            stop: Mutex::default(),
        }
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn set_state(&self, state: PartitionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Begins a life, and returns its number since the partition was assigned, from 1.
    pub(crate) fn begin_life(&self) -> u32 {
        self.set_state(PartitionState::Running);
        *self.stop() = Stop::default();
        self.is_fenced.store(false, Ordering::Relaxed);
        self.is_idle.store(false, Ordering::Relaxed);
        self.lives.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    pub(crate) fn set_stop(&self, handle: StopHandle) {
        let mut stop = self.stop();
        if stop.is_to_hand_over {
            handle.hand_over();
        }
        stop.handle = Some(handle);
    }

    /// Asks the pipeline to hand over. Returns false if there is no pipeline yet.
    pub(crate) fn hand_over(&self) -> bool {
        let mut stop = self.stop();
        stop.is_to_hand_over = true;
        stop.handle.as_ref().map(StopHandle::hand_over).is_some()
    }

    /// Nothing panics while it is locked, so it is never poisoned.
    fn stop(&self) -> MutexGuard<'_, Stop> {
        self.stop.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_lag(&self, lag: Option<u64>) {
        self.lag.store(lag.unwrap_or(NONE), Ordering::Relaxed);
    }

    pub(crate) fn note_record(&self) {
        self.records.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_output(&self) {
        self.outputs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_idle(&self, is_idle: bool) {
        self.is_idle.store(is_idle, Ordering::Relaxed);
    }

    /// The output up to this watermark is committed. It never goes back, not even when the pipeline starts again.
    pub(crate) fn note_watermark(&self, watermark: Timestamp) {
        self.watermark.fetch_max(watermark.as_millis(), Ordering::Relaxed);
    }

    pub(crate) fn note_checkpoint(&self, id: CheckpointId) {
        self.checkpoint.store(id.0, Ordering::Relaxed);
    }

    pub(crate) fn note_saved(&self, id: CheckpointId) {
        self.note_checkpoint(id);
        self.failed_checkpoints.store(0, Ordering::Relaxed);
    }

    pub(crate) fn note_failed_checkpoint(&self) {
        self.failed_checkpoints.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn note_fenced(&self) {
        self.is_fenced.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_fenced(&self) -> bool {
        self.is_fenced.load(Ordering::Relaxed)
    }

    pub(crate) fn view<P>(&self, partition: P) -> PartitionView<P> {
        let known =
            |number: &AtomicU64| Some(number.load(Ordering::Relaxed)).filter(|n| *n != NONE);
        let watermark = Timestamp::from_millis(self.watermark.load(Ordering::Relaxed));
        PartitionView {
            partition,
            number: self.number,
            state: PartitionState::from_number(self.state.load(Ordering::Relaxed)),
            lives: self.lives.load(Ordering::Relaxed),
            lag: known(&self.lag),
            watermark: Some(watermark).filter(|watermark| *watermark > Timestamp::MIN),
            is_idle: self.is_idle.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
            outputs: self.outputs.load(Ordering::Relaxed),
            checkpoint: known(&self.checkpoint).map(CheckpointId),
            failed_checkpoints: self.failed_checkpoints.load(Ordering::Relaxed),
        }
    }
}
