//! An open source, read as a pipeline reads it.

use std::task::Poll;

use futures_lite::future::block_on;
use inflight_core::pipeline::{Acknowledge, ReplayableSource};
use inflight_core::{StreamElement, Timestamp};

use super::{Capabilities, Medium, Record};
use crate::drive::Task;
use crate::{Verdict, stored, told};

/// A position as a checkpoint keeps it.
pub(crate) type Position = Vec<u8>;

/// An element of a source. Statuses are left out, because they tell how busy a source is at the moment.
#[derive(Debug, PartialEq)]
pub(crate) enum Item<R> {
    Record(R, Option<Timestamp>),
    Watermark(Timestamp),
    Barrier,
}

/// All elements of a medium, and the position before and after each of them.
pub(crate) struct Contents<R> {
    pub(crate) items: Vec<Item<R>>,
    pub(crate) positions: Vec<Position>,
}

pub(crate) struct Reader<M: Medium> {
    source: M::Source,
    acknowledger: <M::Source as ReplayableSource>::Acknowledger,
    can: Capabilities,
    /// It polls with another task each time, and waits for the latest one only.
    pub(crate) changes_tasks: bool,
}

impl<M: Medium> Reader<M> {
    pub(crate) fn open(medium: &mut M, position: Option<&Position>) -> Verdict<Self> {
        let refused = match position {
            Some(_) => "it could not be opened at its own position",
            None => "it could not be opened",
        };
        Self::try_open(medium, position)?.map_err(told(refused))
    }

    pub(crate) fn try_open(
        medium: &mut M,
        position: Option<&Position>,
    ) -> Verdict<Result<Self, <M::Source as ReplayableSource>::Error>> {
        let position = position.map(|bytes| stored::from_bytes(bytes)).transpose()?;
        let (mut source, can) = (medium.source(), medium.capabilities());
        Ok(block_on(source.open(position)).map(|()| {
            let acknowledger = source.acknowledger();
            Self { source, acknowledger, can, changes_tasks: false }
        }))
    }

    pub(crate) fn position(&self) -> Verdict<Position> {
        stored::to_bytes(&self.source.position())
    }

    pub(crate) fn acknowledge(&mut self, position: &Position) -> Verdict {
        let acknowledged = block_on(self.acknowledger.acknowledge(stored::from_bytes(position)?));
        acknowledged.map_err(told("an acknowledgement failed"))
    }

    /// The next element; `None` at the end.
    pub(crate) fn next(&mut self) -> Verdict<Option<Item<Record<M>>>> {
        let mut task = Task::new();
        loop {
            let mut polled = self.poll(&task)?;
            if polled.is_pending() && self.changes_tasks {
                task = Task::new(); // the latest
                polled = self.poll(&task)?;
            }
            match polled {
                Poll::Ready(next) => return Ok(next),
                Poll::Pending => self.wait(&task)?,
            }
        }
    }

    /// The next element of a source that was pending when this task polled it.
    pub(crate) fn next_after_wake(&mut self, task: &Task) -> Verdict<Option<Item<Record<M>>>> {
        loop {
            self.wait(task)?;
            if let Poll::Ready(next) = self.poll(task)? {
                return Ok(next);
            }
        }
    }

    pub(crate) fn poll(&mut self, task: &Task) -> Verdict<Poll<Option<Item<Record<M>>>>> {
        loop {
            let Poll::Ready(next) = self.source.poll_next(&mut task.context()) else {
                return Ok(Poll::Pending);
            };
            return Ok(Poll::Ready(match next.transpose().map_err(told("it fails"))? {
                None => None,
                Some(StreamElement::Record { value, timestamp }) => {
                    Some(Item::Record(value, timestamp))
                }
                Some(StreamElement::Watermark(time)) => Some(Item::Watermark(time)),
                Some(StreamElement::Barrier(_)) => Some(Item::Barrier),
                Some(StreamElement::Status(_)) => continue,
            }));
        }
    }

    fn wait(&self, task: &Task) -> Verdict {
        match task.wait(self.can.patience) {
            true => Ok(()),
            false => Err("it is pending, and has not woken the task of the latest poll".into()),
        }
    }

    /// Everything up to the last of so many records, and to the end if there is one.
    pub(crate) fn contents(&mut self, records: usize) -> Verdict<Contents<Record<M>>> {
        let mut contents = Contents { items: Vec::new(), positions: vec![self.position()?] };
        while self.can.ends || contents.records() < records {
            let Some(item) = self.next()? else { break };
            contents.items.push(item);
            contents.positions.push(self.position()?);
            if contents.records() > records {
                return Err(format!("it hands out more than {records} records"));
            }
        }
        match contents.records() {
            all if all == records => Ok(contents),
            few => Err(format!("it ends after {few} records of {records}")),
        }
    }
}

impl<R> Contents<R> {
    pub(crate) fn records(&self) -> usize {
        count(&self.items)
    }

    /// The number of records after so many elements.
    pub(crate) fn left(&self, after: usize) -> usize {
        count(&self.items[after..])
    }
}

fn count<R>(items: &[Item<R>]) -> usize {
    items.iter().filter(|item| matches!(item, Item::Record(..))).count()
}
