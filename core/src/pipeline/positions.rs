//! Checkpoints that keep positions only (K14): the two ends of such a pipeline, and the book of its records.
//!
//! The source's end numbers the records and hands each out with a mark. The sink's end writes down which have arrived. So a record is
//! in flight if it was handed out and has not arrived, wherever it is; and a checkpoint is the position before the oldest one, and
//! the set of those behind it that are done. After a crash the source goes back there, and passes over that set.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use concurrent_queue::ConcurrentQueue;
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::checkpointed_source::{CheckpointedSource, Polled};
use super::done::Done;
use super::outputs::Outputs;
use super::sections::{self, DONE, NUMBER, SOURCE};
use super::source::ReplayableSource;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::element::{BarrierMode, StreamElement};
use crate::operator::RequestIdRange;
use crate::time::Timestamp;
use crate::tracked::{IntoTracked, MarkEvent, Marks, Tracked};

/// Drops that wait for a barrier before a checkpoint is due because of them.
const MOST_DROPS: usize = 100_000;

/// News of the source's end, in its order.
enum Handed<P> {
    /// The next record was handed out, or passed over. The position is the one before it.
    Record { before: P, is_done: bool },
    /// A barrier was handed out, at this position.
    Barrier(P),
}

type News<P> = ConcurrentQueue<Handed<P>>;

/// The source's end of a pipeline that keeps positions only: tracked records, and barriers between them.
pub struct TrackedSource<S: ReplayableSource> {
    elements: CheckpointedSource<S>,
    /// The position behind the last record.
    position: S::Position,
    /// The request id of the record with the number 0.
    first_id: u64,
    marks: Arc<Marks>,
    news: Arc<News<S::Position>>,
}

impl<S: ReplayableSource> Unpin for TrackedSource<S> {}

impl<S: ReplayableSource> Stream for TrackedSource<S> {
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
                        let _ = self.news.push(Handed::Barrier(self.elements.source.position()));
                        let _ = self.marks.push(MarkEvent::Barrier);
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
) -> (TrackedSource<S>, Book<S::Position>) {
    let (marks, news) = (Arc::new(Marks::unbounded()), Arc::new(News::unbounded()));
    let book = Book {
        marks: Arc::clone(&marks),
        news: Arc::clone(&news),
        records: BTreeMap::new(),
        next: elements.number(),
        barriers: VecDeque::new(),
        drops: VecDeque::new(),
    };
    let (position, first_id) = (elements.source.position(), partition.first_of_positions());
    (TrackedSource { elements, position, first_id, marks, news }, book)
}

/// The records that were handed out and are not done.
pub(super) struct Book<P> {
    marks: Arc<Marks>,
    news: Arc<News<P>>,
    /// By their numbers.
    records: BTreeMap<u64, Record<P>>,
    /// The number of the next record.
    next: u64,
    /// Barriers that have not arrived: the number of records before each, and its position.
    barriers: VecDeque<(u64, P)>,
    /// Drops that no barrier has confirmed, and the barriers that will.
    drops: VecDeque<MarkEvent>,
}

struct Record<P> {
    /// The source's position before it.
    before: P,
    /// Copies that have neither arrived nor been dropped for certain.
    copies: u32,
    /// Copies have arrived and wait for the others.
    has_arrived: bool,
}

impl<P> Book<P> {
    /// A copy of a record has arrived. Returns true if its outputs can be written, because no other copy is on its way. Then the record
    /// is done.
    fn arrive(&mut self, number: u64) -> bool {
        self.read();
        // Another copy of a record that is done comes from its request's output, and waits for nothing.
        let Some(record) = self.records.get_mut(&number) else { return true };
        record.copies = record.copies.saturating_sub(1);
        record.has_arrived = true;
        let is_done = record.copies == 0;
        if is_done {
            self.records.remove(&number);
        }
        is_done
    }

    /// A barrier has arrived: the drops before it count. Returns the records that are done now and have outputs to write.
    fn confirm_drops(&mut self) -> Vec<u64> {
        self.read();
        let mut complete = Vec::new();
        while let Some(MarkEvent::Dropped(number)) = self.drops.pop_front() {
            let Some(record) = self.records.get_mut(&number) else { continue };
            record.copies = record.copies.saturating_sub(1);
            if record.copies == 0 {
                complete.extend(record.has_arrived.then_some(number));
                self.records.remove(&number);
            }
        }
        complete
    }

    /// The position for the checkpoint of the barrier that has arrived, the number of the first record behind it, and the records from
    /// there on that are done.
    fn position(&mut self) -> Option<(P, u64, Done)>
    where
        P: Clone,
    {
        let (end, position) = self.barriers.pop_front()?;
        let (base, position) = match self.records.first_key_value() {
            Some((oldest, record)) if *oldest < end => (*oldest, record.before.clone()),
            _ => (end, position),
        };
        let done = Done::all_but(self.records.keys().copied(), base, self.next);
        Some((position, base, done))
    }

    /// Reads the news of the source's end and of the marks.
    fn read(&mut self) {
        while let Ok(handed) = self.news.pop() {
            match handed {
                Handed::Record { before, is_done } => {
                    if !is_done {
                        let record = Record { before, copies: 1, has_arrived: false };
                        self.records.insert(self.next, record);
                    }
                    self.next += 1;
                }
                Handed::Barrier(position) => self.barriers.push_back((self.next, position)),
            }
        }
        while let Ok(event) = self.marks.pop() {
            match event {
                MarkEvent::Copied(number) => {
                    if let Some(record) = self.records.get_mut(&number) {
                        record.copies += 1;
                    }
                }
                MarkEvent::Dropped(_) | MarkEvent::Barrier => self.drops.push_back(event),
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
        // Outputs of records of which another copy is on its way.
        incomplete: Vec<(u64, Output<T>)>,
        // Outputs that can be written.
        ready: VecDeque<Output<T>>,
    }
}

type Output<T> = (T, Option<Timestamp>);

impl<St, T, P> TrackedOutputs<St, T, P> {
    pub(super) fn new(stages: St, book: Book<P>) -> Self {
        Self { stages, book, incomplete: Vec::new(), ready: VecDeque::new() }
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
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<T>, CheckpointError>>> {
        let mut this = self.project();
        loop {
            if let Some((value, timestamp)) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(StreamElement::Record { value, timestamp })));
            }
            let element = match ready!(this.stages.as_mut().poll_next(cx)) {
                Some(StreamElement::Record { value, timestamp }) => {
                    let (number, value) = Tracked::arrive(value.into_tracked());
                    let Some(number) = number else {
                        return Poll::Ready(Some(Err(CheckpointError::Untracked)));
                    };
                    if this.book.arrive(number) {
                        take_outputs(this.incomplete, number, this.ready);
                        this.ready.push_back((value, timestamp));
                    } else {
                        this.incomplete.push((number, (value, timestamp)));
                    }
                    continue;
                }
                Some(StreamElement::Watermark(timestamp)) => StreamElement::Watermark(timestamp),
                Some(StreamElement::Status(status)) => StreamElement::Status(status),
                Some(StreamElement::Barrier(barrier)) => StreamElement::Barrier(barrier),
                None => return Poll::Ready(None),
            };
            return Poll::Ready(Some(Ok(element)));
        }
    }

    fn wants_checkpoint(&self) -> bool {
        self.book.drops.len() > MOST_DROPS
    }

    fn complete(
        self: Pin<&mut Self>,
        checkpoint: &mut Checkpoint,
    ) -> Result<Vec<Output<T>>, CheckpointError> {
        let this = self.project();
        for number in this.book.confirm_drops() {
            take_outputs(this.incomplete, number, this.ready);
        }
        // The source's end has told of the barrier before it handed it out.
        let (position, number, done) = this.book.position().ok_or(CheckpointError::Serialize)?;
        sections::put(checkpoint, SOURCE, &position)?;
        sections::put(checkpoint, NUMBER, &number)?;
        if !done.is_empty() {
            sections::put(checkpoint, DONE, &done)?;
        }
        Ok(this.ready.drain(..).collect())
    }
}

/// Moves the outputs of a record to those that can be written.
fn take_outputs<T>(
    incomplete: &mut Vec<(u64, Output<T>)>,
    number: u64,
    ready: &mut VecDeque<Output<T>>,
) {
    ready.extend(incomplete.extract_if(.., |(of, _)| *of == number).map(|(_, output)| output));
}
