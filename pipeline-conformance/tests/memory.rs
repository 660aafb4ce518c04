//! The source and the sink of the core, which live in memory.

use std::cell::RefCell;
use std::rc::Rc;

use futures_lite::future::block_on;
use inflight_core::pipeline::{MemorySink, MemorySinkError, MemorySource, TransactionalSink};
use inflight_core::{CheckpointId, Timestamp};
use inflight_pipeline_conformance::{sink, source};

/// A sink that several lives of a job use one after the other, as a program lends its sink to one pipeline after the other.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<MemorySink<u64>>>);

type Error = MemorySinkError;

/// Nothing in memory waits, so no future is ready later than at its first poll.
impl TransactionalSink<u64> for Shared {
    type Prepared = u64;
    type Error = Error;

    async fn write(&mut self, record: u64, timestamp: Option<Timestamp>) -> Result<(), Error> {
        block_on(self.0.borrow_mut().write(record, timestamp))
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<u64, Error> {
        block_on(self.0.borrow_mut().pre_commit(id))
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &u64) -> Result<(), Error> {
        block_on(self.0.borrow_mut().commit(id, prepared))
    }

    async fn abort(&mut self, kept: Option<&u64>) -> Result<(), Error> {
        block_on(self.0.borrow_mut().abort(kept))
    }
}

impl sink::Medium for Shared {
    type Record = u64;
    type Sink = Self;

    fn capabilities(&self) -> sink::Capabilities {
        sink::Capabilities { is_ordered: true, ..sink::Capabilities::default() }
    }

    fn open(&mut self) -> Result<Self, Error> {
        Ok(self.clone())
    }

    fn record(&mut self, number: u64) -> u64 {
        number
    }

    fn read(&mut self) -> Vec<u64> {
        self.0.borrow().committed().to_vec()
    }
}

// K10
#[test]
fn the_sink_in_memory() {
    let report = sink::check(Shared::default).unwrap_or_else(|violation| panic!("{violation}"));
    // It cannot be taken away, and it is borrowed by its only owner.
    assert_eq!(report.skipped, [sink::Check::Vanished, sink::Check::Owners]);
}

// K10: a checkpoint that outlives the process is not committed over an empty sink.
#[test]
fn a_sink_whose_records_are_gone_does_not_commit_them() {
    let mut sink = MemorySink::<u64>::new();
    let lost = block_on(sink.commit(CheckpointId(1), &3));
    assert_eq!(lost, Err(MemorySinkError::Lost { prepared: 3, records: 0 }));
    assert_eq!(block_on(sink.commit(CheckpointId(1), &0)), Ok(()));
}

struct Numbers(u64);

impl source::Medium for Numbers {
    type Source = MemorySource<u64>;

    fn capabilities(&self) -> source::Capabilities {
        source::Capabilities { records: 6, ends: true, loses: true, ..Default::default() }
    }

    fn source(&mut self) -> MemorySource<u64> {
        MemorySource::new(0..self.0)
    }

    fn lose(&mut self) {
        self.0 = 0;
    }
}

// K10
#[test]
fn the_source_in_memory() {
    let report = source::check(|| Numbers(6)).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!((report.passed.len(), report.skipped), (7, vec![]));
}
