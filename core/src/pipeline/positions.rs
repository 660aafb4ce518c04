//! Checkpoints that keep positions only (K14): the two ends of such a pipeline, and the book of its records.
//!
//! The source's end numbers the records and hands each out with a mark. The sink's end writes down which have arrived. So a record is
//! in flight if it was handed out and has not arrived, wherever it is; and a checkpoint is the position before the oldest one, and
//! the set of those behind it that are done. After a crash the source goes back there, and passes over that set.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::iter;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use concurrent_queue::ConcurrentQueue;
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::checkpointed_source::{CheckpointedSource, Polled};
use super::done::Done;
use super::outputs::Outputs;
use super::sections::{self, Ended};
use super::source::ReplayableSource;
use crate::barrier_signal::BarrierSignal;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::element::{BarrierMode, Status, StreamElement};
use crate::operator::RequestIdRange;
use crate::time::Timestamp;
use crate::tracked::{IntoTracked, MarkEvent, Marks, Tracked};

/// Drops that wait for a barrier before a checkpoint is due because of them.
const MOST_DROPS: usize = 100_000;

/// News of the source's end, in its order.
enum Handed<P> {
    /// The next record was handed out, or passed over. The position is the one before it.
    Record { before: P, is_done: bool },
    /// A barrier was handed out, at this position. The records behind it that an earlier life has done with.
    Barrier(P, Done),
}

type HandedOut<P> = ConcurrentQueue<Handed<P>>;

/// The source's end of a pipeline that keeps positions only: tracked records, and barriers between them.
pub struct TrackedSource<S: ReplayableSource> {
    elements: CheckpointedSource<S>,
    /// The position behind the last record.
    position: S::Position,
    /// The request id of the record with the number 0.
    first_id: u64,
    marks: Arc<Marks>,
    news: Arc<HandedOut<S::Position>>,
}

impl<S: ReplayableSource> Unpin for TrackedSource<S> {}

impl<S: ReplayableSource<Position: Clone>> Stream for TrackedSource<S> {
    type Item = StreamElement<Tracked<S::Record>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let number = self.elements.number();
            let element = match ready!(self.elements.poll_element(cx)) {
                Polled::PassedOver => {
                    self.note_record(true);
                    continue;
                }
                Polled::End => return Poll::Ready(None),
                Polled::Element(element) => element,
            };
            return Poll::Ready(Some(match element {
                StreamElement::Record { value, timestamp } => {
                    self.note_record(false);
                    let request_id = self.first_id.wrapping_add(number);
                    let marks = Arc::clone(&self.marks);
                    let value = Tracked::new(value, number, request_id, marks);
                    StreamElement::Record { value, timestamp }
                }
                StreamElement::Barrier(barrier) => {
                    if barrier.mode != BarrierMode::End {
                        // Unbounded queues that are never closed take everything.
                        let (position, done) = (self.position.clone(), self.elements.done.clone());
                        let _ = self.news.push(Handed::Barrier(position, done));
                        self.marks.tell(MarkEvent::Barrier);
                    }
                    StreamElement::Barrier(barrier)
                }
                StreamElement::Watermark(timestamp) => StreamElement::Watermark(timestamp),
                StreamElement::Status(status) => StreamElement::Status(status),
            }));
        }
    }
}

impl<S: ReplayableSource> fmt::Debug for TrackedSource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrackedSource").field("elements", &self.elements).finish_non_exhaustive()
    }
}

impl<S: ReplayableSource> TrackedSource<S> {
    fn note_record(&mut self, is_done: bool) {
        let behind = self.elements.source.position();
        let before = core::mem::replace(&mut self.position, behind);
        let _ = self.news.push(Handed::Record { before, is_done });
    }
}

/// Makes the source's end, and the book for the sink's end.
pub(super) fn track<S: ReplayableSource>(
    elements: CheckpointedSource<S>,
    partition: RequestIdRange,
    signal: BarrierSignal,
) -> (TrackedSource<S>, Book<S::Position>) {
    let (marks, news) = (Arc::new(Marks::new(signal)), Arc::new(HandedOut::unbounded()));
    let book = Book {
        marks: Arc::clone(&marks),
        news: Arc::clone(&news),
        records: BTreeMap::new(),
        next: elements.number(),
        barriers: VecDeque::new(),
        drops: VecDeque::new(),
        waiting: Vec::new(),
    };
    let (position, first_id) = (elements.source.position(), partition.first_of_positions());
    (TrackedSource { elements, position, first_id, marks, news }, book)
}

/// The records that were handed out and are not done.
pub(super) struct Book<P> {
    marks: Arc<Marks>,
    news: Arc<HandedOut<P>>,
    /// By their numbers.
    records: BTreeMap<u64, Record<P>>,
    /// The number of the next record.
    next: u64,
    /// Barriers that have not arrived: the number of records before each, its position, and the records behind it that are done.
    barriers: VecDeque<(u64, P, Done)>,
    /// Drops that no barrier has confirmed, and the barriers that will.
    drops: VecDeque<MarkEvent>,
    /// Records that wait for nothing but a barrier since the last look: copies of them have arrived, and the others were dropped.
    waiting: Vec<u64>,
}

struct Record<P> {
    /// The source's position before it.
    before: P,
    /// Copies that have neither arrived nor been dropped for certain.
    copies: u32,
    /// Those of them that were dropped, which a barrier has to confirm.
    dropped: u32,
    /// Copies have arrived.
    has_arrived: bool,
}

impl<P> Record<P> {
    /// Whether no copy is on its way any more. So its outputs keep their place before all that comes out from now on.
    fn has_come(&self) -> bool {
        self.has_arrived && self.copies == self.dropped
    }
}

impl<P> Book<P> {
    /// A copy of a record has arrived. Returns true if no other copy is on its way.
    fn arrive(&mut self, number: u64) -> bool {
        // Another copy of a record that is done comes from its request's output, and waits for nothing.
        let Some(record) = self.records.get_mut(&number) else { return true };
        record.copies = record.copies.saturating_sub(1);
        record.has_arrived = true;
        record.has_come()
    }

    /// A record's outputs may be written if no copy of it is left. It is done then.
    fn take_done(&mut self, number: u64) -> bool {
        let is_done = self.records.get(&number).is_none_or(|record| record.copies == 0);
        if is_done {
            self.records.remove(&number);
        }
        is_done
    }

    /// A barrier has arrived: the drops before it count. A record of which nothing is left but outputs stays until they are taken.
    fn confirm_drops(&mut self) {
        while let Some(MarkEvent::Dropped(number)) = self.drops.pop_front() {
            let Some(record) = self.records.get_mut(&number) else { continue };
            record.copies = record.copies.saturating_sub(1);
            record.dropped = record.dropped.saturating_sub(1);
            if record.copies == 0 && !record.has_arrived {
                self.records.remove(&number);
            }
        }
    }

    /// Puts into the checkpoint of the barrier that has arrived: the position of the source, the number of the first record behind it, and
    /// the records from there on that are done.
    fn put_position(&mut self, checkpoint: &mut Checkpoint) -> Result<(), CheckpointError>
    where
        P: Clone + serde::Serialize,
    {
        // The source's end has told of the barrier before it handed it out.
        let barrier = self.barriers.pop_front().ok_or(CheckpointError::Serialize)?;
        let (end, position, rest) = barrier;
        let before = self.records.range(..end).map(|(number, _)| *number);
        let base = before.clone().next().unwrap_or(end);
        let done = Done::all_but(before, base, end, &rest);
        let position = self.records.get(&base).map_or(position, |record| record.before.clone());
        sections::put_position(checkpoint, &position, base, &done)
    }

    /// Reads the news of the source's end and of the marks.
    fn read(&mut self) {
        self.read_source();
        while let Some(event) = self.marks.next() {
            // The source's end has told of a record before its mark could tell anything.
            self.read_source();
            match event {
                MarkEvent::Copied(number) => {
                    if let Some(record) = self.records.get_mut(&number) {
                        record.copies += 1;
                    }
                }
                MarkEvent::Dropped(number) => {
                    self.drops.push_back(event);
                    if let Some(record) = self.records.get_mut(&number) {
                        record.dropped += 1;
                        self.waiting.extend(record.has_come().then_some(number));
                    }
                }
                MarkEvent::Barrier => self.drops.push_back(event),
            }
        }
    }

    fn read_source(&mut self) {
        while let Ok(handed) = self.news.pop() {
            match handed {
                Handed::Record { before, is_done } => {
                    if !is_done {
                        let (copies, dropped, has_arrived) = (1, 0, false);
                        let record = Record { before, copies, dropped, has_arrived };
                        self.records.insert(self.next, record);
                    }
                    self.next += 1;
                }
                Handed::Barrier(position, rest) => {
                    self.barriers.push_back((self.next, position, rest));
                }
            }
        }
    }
}

pin_project! {
    /// The end of the stages of a pipeline that keeps positions only.
    pub(super) struct TrackedOutputs<St, T, P> {
        #[pin]
        stages: St,
        book: Book<P>,
        // Outputs of records that are not done, by the numbers of the records.
        outputs: BTreeMap<u64, Vec<Output<T>>>,
        // Records of which no copy is on its way, and control elements, in the order in which they leave.
        queue: VecDeque<Next>,
        // Outputs of a record that is done.
        ready: VecDeque<Output<T>>,
    }
}

type Output<T> = (T, Option<Timestamp>);

/// What leaves next.
enum Next {
    /// The outputs of a record, as soon as it is done.
    Record(u64),
    Watermark(Timestamp),
    Status(Status),
}

impl<St, T, P> TrackedOutputs<St, T, P> {
    pub(super) fn new(stages: St, book: Book<P>) -> Self {
        let (outputs, queue, ready) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Self { stages, book, outputs, queue, ready }
    }

    /// Reads the news, and queues the outputs of records that have come by a drop.
    fn read(self: Pin<&mut Self>) {
        let this = self.project();
        this.book.read();
        this.queue.extend(this.book.waiting.drain(..).map(Next::Record));
    }

    /// The next element that may leave. Nothing passes a record that waits for a barrier: order and watermarks hold.
    fn next(self: Pin<&mut Self>) -> Option<StreamElement<T>> {
        let this = self.project();
        loop {
            if let Some((value, timestamp)) = this.ready.pop_front() {
                return Some(StreamElement::Record { value, timestamp });
            }
            if let Next::Record(number) = this.queue.front()?
                && !this.book.take_done(*number)
            {
                return None;
            }
            match this.queue.pop_front()? {
                Next::Record(number) => {
                    this.ready.extend(this.outputs.remove(&number).into_iter().flatten());
                }
                Next::Watermark(timestamp) => return Some(StreamElement::Watermark(timestamp)),
                Next::Status(status) => return Some(StreamElement::Status(status)),
            }
        }
    }
}

impl<St, T, P, U> Outputs for TrackedOutputs<St, T, P>
where
    St: Stream<Item = StreamElement<U>>,
    U: IntoTracked<Value = T>,
    P: Clone + serde::Serialize,
{
    type Value = T;

    fn poll_next(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<T>, CheckpointError>>> {
        loop {
            if let Some(element) = self.as_mut().next() {
                return Poll::Ready(Some(Ok(element)));
            }
            let element = ready!(self.as_mut().project().stages.poll_next(cx));
            self.as_mut().read();
            let this = self.as_mut().project();
            match element {
                Some(StreamElement::Record { value, timestamp }) => {
                    let (number, value) = Tracked::arrive(value.into_tracked());
                    let Some(number) = number else {
                        return Poll::Ready(Some(Err(CheckpointError::Untracked)));
                    };
                    this.outputs.entry(number).or_default().push((value, timestamp));
                    if this.book.arrive(number) {
                        this.queue.push_back(Next::Record(number));
                    }
                }
                Some(StreamElement::Watermark(timestamp)) => {
                    this.queue.push_back(Next::Watermark(timestamp));
                }
                Some(StreamElement::Status(status)) => this.queue.push_back(Next::Status(status)),
                Some(StreamElement::Barrier(barrier)) => {
                    return Poll::Ready(Some(Ok(StreamElement::Barrier(barrier))));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn wants_checkpoint(mut self: Pin<&mut Self>) -> bool {
        self.as_mut().read();
        self.book.drops.len() > MOST_DROPS
    }

    fn complete(mut self: Pin<&mut Self>, checkpoint: &mut Checkpoint) -> Vec<StreamElement<T>> {
        self.as_mut().read();
        self.as_mut().project().book.confirm_drops();
        let waiting = iter::from_fn(|| self.as_mut().next()).collect();
        let book = self.project().book;
        if let Err(reason) = book.put_position(checkpoint) {
            checkpoint.fail(reason);
        }
        // All stages are empty then, so its copies are elsewhere: in a cache, or in a task of its own.
        let ended = sections::ended(checkpoint);
        if ended.is_some_and(|ended| ended != Ended::HandedOver) && !book.records.is_empty() {
            checkpoint.fail(CheckpointError::NotDone);
        }
        waiting
    }
}
