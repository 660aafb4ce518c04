//! A source of numbers, with some watermarks. It keeps only the numbers that were not acknowledged.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use inflight_core::pipeline::{Acknowledge, ReplayableSource};
use inflight_core::{StreamElement, Timestamp};
use serde::{Deserialize, Serialize};

use crate::plan::Flaw;
use crate::process::Process;
use crate::world::Refused;

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Position {
    pub(crate) next: u64,
    /// True if a watermark comes before the next record.
    mark: bool,
}

pub(crate) struct Source {
    pub(crate) process: Rc<Process>,
    pub(crate) position: Position,
    pub(crate) wait: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl ReplayableSource for Source {
    type Record = u32;
    type Position = Position;
    type Error = Refused;
    type Acknowledger = Acknowledger;

    async fn open(&mut self, position: Option<Position>) -> Result<(), Refused> {
        let Some(position) = position else { return Ok(()) };
        self.process.step().await;
        if self.process.world.fails(self.process.world.plan.others_fail) {
            return Err(Refused::For("it cannot go there now"));
        }
        let media = &mut *self.process.world.media.borrow_mut();
        let is_there = position.next >= media.acknowledged;
        self.process.world.promise(is_there, "acknowledged records are not read again");
        self.position = position;
        let again = media.sought.replace(position.next) == Some(position.next);
        if again && self.process.world.plan.flaw == Flaw::GoesOnBehindAnEarlierSeek {
            self.position.next = (position.next + 1).min(self.process.world.plan.records.into());
        }
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u32>, Refused>>> {
        if let Some(wait) = &mut self.wait {
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.wait = None;
        } else if self.process.world.one_in(3) {
            let nanos = 1 + self.process.world.below(4_000_000) as i64;
            self.wait = Some(Box::pin(self.process.runtime.sleep(nanos)));
            return self.poll_next(cx);
        }
        self.process.world.has_recovered(1);
        if !self.process.goes_on(Some(cx)) {
            return Poll::Pending;
        }
        if self.process.world.fails(self.process.world.plan.others_fail) {
            return Poll::Ready(Some(Err(Refused::For("it cannot go on now"))));
        }
        let Position { next, mark } = &mut self.position;
        if std::mem::take(mark) {
            let mark = Timestamp::from_millis(*next as i64 - 1);
            return Poll::Ready(Some(Ok(StreamElement::Watermark(mark))));
        }
        if *next == u64::from(self.process.world.plan.records) {
            return Poll::Ready(None);
        }
        let record = StreamElement::record(*next as u32, Timestamp::from_millis(*next as i64));
        *next += 1;
        *mark = next.is_multiple_of(4) && self.process.plan().has_watermarks;
        self.process.handed_out.set(*next);
        Poll::Ready(Some(Ok(record)))
    }

    fn position(&self) -> Position {
        let Position { next, mark } = self.position;
        let records = u64::from(self.process.plan().records);
        match self.process.plan().flaw {
            Flaw::TellsAPositionTooFar if next < records => Position { next: next + 1, mark },
            _ => self.position,
        }
    }

    fn acknowledger(&mut self) -> Acknowledger {
        Acknowledger { process: Rc::clone(&self.process) }
    }
}

pub(crate) struct Acknowledger {
    process: Rc<Process>,
}

impl Acknowledge<Position> for Acknowledger {
    type Error = Refused;

    async fn acknowledge(&mut self, position: Position) -> Result<(), Refused> {
        self.process.step().await;
        if self.process.world.fails(self.process.world.plan.others_fail) {
            return Err(Refused::For("it is not there"));
        }
        let acknowledged = &mut self.process.world.media.borrow_mut().acknowledged;
        *acknowledged = position.next.max(*acknowledged);
        Ok(())
    }
}
