//! A source and a sink in memory, for tests and first steps.

use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
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
    type Error = MemorySourceError;
    type Acknowledger = ();

    /// Goes to a position.
    ///
    /// # Errors
    ///
    /// [`MemorySourceError::TooFew`] if there are fewer values than were handed out before that position.
    async fn open(&mut self, position: Option<u64>) -> Result<(), MemorySourceError> {
        let (position, values) = (position.unwrap_or(0), self.values.len() as u64);
        if position > values {
            return Err(MemorySourceError::TooFew { position, values });
        }
        self.next = position;
        Ok(())
    }

    fn poll_next(
        &mut self,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<V>, MemorySourceError>>> {
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
    type Error = MemorySinkError;

    async fn write(&mut self, record: T, _: Option<Timestamp>) -> Result<(), MemorySinkError> {
        self.records.push(record);
        Ok(())
    }

    async fn pre_commit(&mut self, _id: CheckpointId) -> Result<u64, MemorySinkError> {
        Ok(self.records.len() as u64)
    }

    /// Commits the records.
    ///
    /// # Errors
    ///
    /// [`MemorySinkError::Lost`].
    async fn commit(&mut self, _id: CheckpointId, prepared: &u64) -> Result<(), MemorySinkError> {
        let (prepared, records) = (*prepared, self.records.len() as u64);
        if prepared > records {
            return Err(MemorySinkError::Lost { prepared, records });
        }
        // Never fewer than before: the same commit may come twice (rule 3 of the trait). It fits, because it is a length.
        self.committed = self.committed.max(prepared as usize);
        Ok(())
    }

    /// Removes the records that are not committed.
    ///
    /// # Errors
    ///
    /// [`MemorySinkError::NotEmpty`].
    async fn abort(&mut self, kept: Option<&u64>) -> Result<(), MemorySinkError> {
        if kept.is_none() && self.committed > 0 {
            return Err(MemorySinkError::NotEmpty { records: self.committed as u64 });
        }
        // With a checkpoint its commit comes first, so `committed` covers the records that are kept.
        self.records.truncate(self.committed);
        Ok(())
    }
}

/// The reason why a [`MemorySource`] did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemorySourceError {
    /// More values were handed out before the checkpoint than there are, so these are not the same values.
    TooFew {
        /// The number of values that were handed out.
        position: u64,
        /// The number of values.
        values: u64,
    },
}

impl fmt::Display for MemorySourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::TooFew { position, values } = self;
        write!(f, "{position} values were handed out before the checkpoint, and there are {values}")
    }
}

impl Error for MemorySourceError {}

/// The reason why a [`MemorySink`] refused a commit or an abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MemorySinkError {
    /// A new job begins, and the sink holds committed records of another one.
    NotEmpty {
        /// The number of committed records.
        records: u64,
    },
    /// Records that a checkpoint describes are not in the sink: they were written by another process, or into another sink.
    Lost {
        /// The number of records that the checkpoint describes.
        prepared: u64,
        /// The number of records in the sink.
        records: u64,
    },
}

impl fmt::Display for MemorySinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty { records } => write!(
                f,
                "the sink holds {records} committed records, and no checkpoint describes them: use a new sink, or the checkpoints \
                 of that job"
            ),
            Self::Lost { prepared, records } => write!(
                f,
                "the checkpoint describes {prepared} records, and the sink has {records}: a sink in memory does not survive its process"
            ),
        }
    }
}

impl Error for MemorySinkError {}
