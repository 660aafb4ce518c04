//! A source and a sink in memory, for tests and first steps.

use alloc::vec::Vec;
use core::convert::Infallible;
use core::task::{Context, Poll};

use super::sink::TransactionalSink;
use super::source::ReplayableSource;
use crate::checkpoint::CheckpointId;
use crate::element::StreamElement;
use crate::time::Timestamp;

/// A source of values in memory. Its positions are the indices of the values, from 0. The
/// [module's page](super) has an example with it and with [`MemorySink`].
#[derive(Clone, Debug)]
pub struct MemorySource<V> {
    values: Vec<V>,
    next: u64,
}

impl<V> MemorySource<V> {
    /// Makes a source of these values, in this order.
    pub fn new(values: impl IntoIterator<Item = V>) -> Self {
        Self { values: values.into_iter().collect(), next: 0 }
    }
}

impl<V: Clone> ReplayableSource for MemorySource<V> {
    type Record = V;
    type Position = u64;
    type Error = Infallible;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), Infallible> {
        self.next = position.unwrap_or(0);
        Ok(())
    }

    fn poll_next(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<V>, Infallible>>> {
        // A position beyond the end is the end.
        let place = usize::try_from(self.next).ok();
        let value = place.and_then(|place| self.values.get(place)).cloned();
        self.next += u64::from(value.is_some());
        Poll::Ready(value.map(|value| Ok(StreamElement::value(value))))
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn acknowledger(&mut self) {}
}

/// A sink that shows its committed records. It survives a pipeline (pass `&mut sink` to it) but not the
/// process.
#[derive(Clone, Debug)]
pub struct MemorySink<T> {
    records: Vec<T>,
    /// The number of records at the front that are committed.
    committed: usize,
}

impl<T> MemorySink<T> {
    /// Makes an empty sink.
    pub const fn new() -> Self {
        Self { records: Vec::new(), committed: 0 }
    }

    /// The committed records.
    pub fn committed(&self) -> &[T] {
        &self.records[..self.committed]
    }
}

impl<T> Default for MemorySink<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> TransactionalSink<T> for MemorySink<T> {
    /// The number of records after the commit.
    type Prepared = u64;
    type Error = Infallible;

    async fn write(&mut self, record: T, _: Option<Timestamp>) -> Result<(), Infallible> {
        self.records.push(record);
        Ok(())
    }

    async fn pre_commit(&mut self, _id: CheckpointId) -> Result<u64, Infallible> {
        Ok(self.records.len() as u64)
    }

    async fn commit(&mut self, _id: CheckpointId, prepared: &u64) -> Result<(), Infallible> {
        let prepared = usize::try_from(*prepared).unwrap_or(usize::MAX);
        // Never fewer than before: the same commit may come twice (rule 3 of the trait).
        self.committed = prepared.clamp(self.committed, self.records.len());
        Ok(())
    }

    async fn abort(&mut self, _kept: Option<&u64>) -> Result<(), Infallible> {
        // With a checkpoint its commit comes first, so `committed` covers the records that are kept.
        self.records.truncate(self.committed);
        Ok(())
    }
}
