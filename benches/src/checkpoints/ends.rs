//! The ends of a job on virtual time: its source, its sink and its store.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use inflight::pipeline::{Acknowledge, ReplayableSource, TransactionalSink};
use inflight::prelude::*;
use inflight::{LoadError, LoadedInto};

use super::observed::Observed;
use crate::virtual_time::{Alarm, VirtualTime};

/// Makes each record when it is there.
pub(super) struct Source<V> {
    pub(super) next: u64,
    pub(super) end: u64,
    /// When a record is there.
    pub(super) since: fn(u64) -> Duration,
    pub(super) record: fn(u64) -> StreamElement<V>,
    pub(super) clock: VirtualTime,
    /// Until the next record is there.
    pub(super) wait: Option<Alarm>,
    pub(super) observed: Rc<RefCell<Observed>>,
}

impl<V> ReplayableSource for Source<V> {
    type Record = V;
    type Position = u64;
    type Error = Infallible;
    type Acknowledger = Acknowledger;

    async fn open(&mut self, position: Option<u64>) -> Result<(), Infallible> {
        self.next = position.unwrap_or(0);
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<V>, Infallible>>> {
        if self.next == self.end {
            return Poll::Ready(None);
        }
        let since = (self.since)(self.next);
        if self.clock.now() < since {
            let wait = self.wait.get_or_insert_with(|| self.clock.sleep_until(since));
            ready!(Pin::new(wait).poll(cx));
        }
        self.wait = None;
        self.observed.borrow_mut().taken.push(self.clock.now());
        self.next += 1;
        Poll::Ready(Some(Ok((self.record)(self.next - 1))))
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn acknowledger(&mut self) -> Acknowledger {
        Acknowledger(Rc::clone(&self.observed))
    }
}

/// Notes the positions of checkpoints.
pub(super) struct Acknowledger(Rc<RefCell<Observed>>);

impl Acknowledge<u64> for Acknowledger {
    type Error = Infallible;

    async fn acknowledge(&mut self, position: u64) -> Result<(), Infallible> {
        self.0.borrow_mut().acknowledged = position;
        Ok(())
    }
}

/// Notes the numbers of records.
pub(super) struct Sink {
    pub(super) clock: VirtualTime,
    pub(super) observed: Rc<RefCell<Observed>>,
}

impl TransactionalSink<u64> for Sink {
    /// The numbers of records that the source has handed out and that were written.
    type Prepared = (u64, u64);
    type Error = Infallible;

    async fn write(&mut self, number: u64, _: Option<Timestamp>) -> Result<(), Infallible> {
        self.observed.borrow_mut().written.push((number, self.clock.now()));
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<(u64, u64), Infallible> {
        let observed = self.observed.borrow();
        Ok((observed.taken.len() as u64, observed.written.len() as u64))
    }

    async fn commit(
        &mut self,
        _: CheckpointId,
        &(handed_out, written): &(u64, u64),
    ) -> Result<(), Infallible> {
        let mut observed = self.observed.borrow_mut();
        (observed.handed_out, observed.committed) = (handed_out, written);
        Ok(())
    }

    async fn abort(&mut self, _: Option<&(u64, u64)>) -> Result<(), Infallible> {
        Ok(())
    }
}

/// A store that takes its time and keeps nothing.
pub(super) struct Store {
    pub(super) clock: VirtualTime,
    pub(super) save: Duration,
}

impl CheckpointStore for Store {
    type Error = Infallible;

    async fn save(&mut self, _: CheckpointId, _: &[u8]) -> Result<(), Infallible> {
        self.clock.sleep(self.save).await;
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        _: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Infallible>> {
        Ok(None)
    }
}
