//! The suite reports each kind of wrong source, and passes the same source without the fault, because otherwise the report would prove
//! nothing.

mod refused;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inflight_core::pipeline::{Acknowledge, ReplayableSource};
use inflight_core::{Barrier, Checkpoint, CheckpointId, Status, StreamElement, Timestamp};
use inflight_pipeline_conformance::source::{Capabilities, Check, Medium, check};
use serde::{Deserialize, Serialize};

use crate::refused::Refused;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    HandsOutABarrier,
    BeginsWhereTheLastOneWas,
    EndsEarly,
    CountsWhatItHasReadAhead,
    IsOneBehind,
    IgnoresThePosition,
    CountsFromItsOpening,
    OpensAnyway,
    DeletesOneTooMany,
    DeletesWhatItHasHandedOut,
    DeletesAgain,
    RefusesARepetition,
    WakesTheFirstTask,
    WakesNobody,
    ForgetsTheHighestTime,
    ForgetsADueWatermark,
    RepeatsAWatermarkForEver,
}

/// Records with their times, in the order in which they were added.
struct Queue {
    records: Vec<i64>,
    /// The number of deleted ones.
    deleted: u64,
    is_lost: bool,
    waker: Option<Waker>,
    /// For the mistakes: the next record of any instance, and the last acknowledgement.
    reached: u64,
    acknowledged: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Position {
    next: u64,
    highest: i64,
    is_due: bool,
}

/// A watermark follows each third record: the highest time so far.
struct Source {
    queue: Rc<RefCell<Queue>>,
    mistake: Mistake,
    position: Position,
    opened_at: u64,
    /// Records that were read ahead.
    ahead: VecDeque<i64>,
    said_active: bool,
}

impl Source {
    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<i64>> {
        let mut queue = self.queue.borrow_mut();
        let read = self.position.next + self.ahead.len() as u64;
        let more = queue.records.iter().skip(read as usize).take(3 - self.ahead.len().min(3));
        self.ahead.extend(more);
        if self.mistake == Mistake::EndsEarly && self.position.next == 6 {
            return Poll::Ready(None);
        }
        if let Some(record) = self.ahead.pop_front() {
            return Poll::Ready(Some(record));
        }
        match self.mistake {
            Mistake::WakesNobody => {}
            Mistake::WakesTheFirstTask if queue.waker.is_some() => {}
            _ => queue.waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl ReplayableSource for Source {
    type Record = i64;
    type Position = Position;
    type Error = Refused;
    type Acknowledger = Acknowledger;

    async fn open(&mut self, position: Option<Position>) -> Result<(), Refused> {
        let queue = self.queue.borrow();
        self.position = match position {
            Some(position) => position,
            None if self.mistake == Mistake::BeginsWhereTheLastOneWas => {
                Position { next: queue.reached, ..Position::default() }
            }
            None => Position { next: queue.deleted, ..Position::default() },
        };
        match self.mistake {
            Mistake::IgnoresThePosition => self.position = Position::default(),
            Mistake::OpensAnyway => {}
            _ if queue.is_lost && self.position.next > 0 => return Err(Refused),
            _ => {}
        }
        self.opened_at = self.position.next;
        if self.position.next < queue.deleted { Err(Refused) } else { Ok(()) }
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<i64>, Refused>>> {
        if !std::mem::replace(&mut self.said_active, true) {
            return Poll::Ready(Some(Ok(StreamElement::Status(Status::Active))));
        }
        if std::mem::take(&mut self.position.is_due) {
            let highest = Timestamp::from_millis(self.position.highest);
            return Poll::Ready(Some(Ok(StreamElement::Watermark(highest))));
        }
        let record = match self.poll_record(cx) {
            Poll::Ready(Some(record)) => record,
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => return Poll::Pending,
        };
        self.position.next += 1;
        self.position.highest = self.position.highest.max(record);
        self.position.is_due = self.position.next.is_multiple_of(3);
        self.queue.borrow_mut().reached = self.position.next;
        if self.mistake == Mistake::HandsOutABarrier && self.position.next == 4 {
            let checkpoint = Checkpoint::new(CheckpointId(1));
            return Poll::Ready(Some(Ok(StreamElement::Barrier(Barrier::snapshot(checkpoint)))));
        }
        let timestamp = Some(Timestamp::from_millis(record));
        Poll::Ready(Some(Ok(StreamElement::Record { value: record, timestamp })))
    }

    fn position(&self) -> Position {
        let mut position = self.position;
        match self.mistake {
            Mistake::CountsWhatItHasReadAhead => position.next += self.ahead.len() as u64,
            Mistake::IsOneBehind => position.next = position.next.saturating_sub(1),
            Mistake::CountsFromItsOpening => position.next -= self.opened_at,
            Mistake::ForgetsTheHighestTime => position.highest = 0,
            Mistake::ForgetsADueWatermark => position.is_due = false,
            Mistake::RepeatsAWatermarkForEver => position.is_due = position.next.is_multiple_of(3),
            _ => {}
        }
        position
    }

    fn acknowledger(&mut self) -> Acknowledger {
        Acknowledger { queue: Rc::clone(&self.queue), mistake: self.mistake }
    }
}

struct Acknowledger {
    queue: Rc<RefCell<Queue>>,
    mistake: Mistake,
}

impl Acknowledge<Position> for Acknowledger {
    type Error = Refused;

    async fn acknowledge(&mut self, position: Position) -> Result<(), Refused> {
        let mut queue = self.queue.borrow_mut();
        let is_again = queue.acknowledged.replace(position.next) == Some(position.next);
        let end = match self.mistake {
            Mistake::DeletesOneTooMany => position.next + 1,
            Mistake::DeletesWhatItHasHandedOut => queue.reached,
            Mistake::DeletesAgain if is_again => position.next + 1,
            Mistake::RefusesARepetition if is_again => return Err(Refused),
            _ => position.next,
        };
        queue.deleted = queue.deleted.max(end);
        Ok(())
    }
}

struct Shelf {
    queue: Rc<RefCell<Queue>>,
    mistake: Mistake,
}

impl Shelf {
    fn new(mistake: Mistake) -> Self {
        let (records, waker, acknowledged) = (vec![5, 30, 10, 20, 70, 50, 40, 60], None, None);
        let queue = Queue { records, deleted: 0, is_lost: false, waker, reached: 0, acknowledged };
        Self { queue: Rc::new(RefCell::new(queue)), mistake }
    }
}

impl Medium for Shelf {
    type Source = Source;

    fn capabilities(&self) -> Capabilities {
        let patience = Duration::from_millis(20);
        Capabilities { records: 8, grows: true, loses: true, patience, ..Capabilities::default() }
    }

    fn source(&mut self) -> Source {
        self.queue.borrow_mut().waker = None;
        Source {
            queue: Rc::clone(&self.queue),
            mistake: self.mistake,
            position: Position::default(),
            opened_at: 0,
            ahead: VecDeque::new(),
            said_active: false,
        }
    }

    fn append(&mut self) {
        let mut queue = self.queue.borrow_mut();
        let time = 100 + queue.records.len() as i64;
        queue.records.push(time);
        if let Some(waker) = queue.waker.take() {
            waker.wake();
        }
    }

    fn lose(&mut self) {
        self.queue.borrow_mut().is_lost = true;
    }
}

#[test]
fn without_a_mistake_it_passes() {
    let report =
        check(|| Shelf::new(Mistake::None)).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!((report.passed.len(), report.skipped.len()), (7, 0));
}

#[test]
fn every_mistake_is_reported() {
    let mistakes = [
        (Mistake::HandsOutABarrier, Check::Barriers),
        (Mistake::BeginsWhereTheLastOneWas, Check::Whole),
        (Mistake::CountsWhatItHasReadAhead, Check::Positions),
        (Mistake::IsOneBehind, Check::Positions),
        (Mistake::IgnoresThePosition, Check::Positions),
        (Mistake::CountsFromItsOpening, Check::Positions),
        (Mistake::OpensAnyway, Check::Refused),
        (Mistake::DeletesOneTooMany, Check::Acknowledged),
        (Mistake::DeletesWhatItHasHandedOut, Check::Acknowledged),
        (Mistake::DeletesAgain, Check::Acknowledged),
        (Mistake::RefusesARepetition, Check::Acknowledged),
        (Mistake::WakesTheFirstTask, Check::Wakes),
        (Mistake::WakesNobody, Check::Wakes),
        (Mistake::ForgetsTheHighestTime, Check::Watermarks),
        (Mistake::ForgetsADueWatermark, Check::Watermarks),
        (Mistake::RepeatsAWatermarkForEver, Check::Positions),
        (Mistake::EndsEarly, Check::Whole),
    ];
    for (mistake, expected) in mistakes {
        let violation = match check(|| Shelf::new(mistake)) {
            Ok(report) => panic!("{mistake:?} passes: {report:?}"),
            Err(violation) => violation,
        };
        assert_eq!(violation.check, expected, "{mistake:?}: {violation}");
        println!("{mistake:?}: {violation}");
    }
}
