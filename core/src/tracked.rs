//! A record that knows its place in its source, for checkpoints that keep positions only (K14).

use alloc::sync::Arc;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

use concurrent_queue::ConcurrentQueue;

use crate::barrier_signal::BarrierSignal;
use crate::outcome::Outcome;

/// A record on its way through a pipeline that keeps positions only
/// ([`run_positions_only`](crate::pipeline::Pipeline::run_positions_only)). It dereferences to the record.
///
/// It carries a mark, by which the sink's end of the pipeline knows which records of the source are done:
///
/// * a record is done when it was written to the sink;
/// * a record that is dropped on the way (an adapter filters it out, a timeout handler drops it) is done as well;
/// * copies share the mark, so a record that was multiplied is done when every copy is written or dropped. Its outputs reach the
///   sink together. A copy that a stage's function makes for its request does not count, because the stage keeps the record;
/// * a record that is dropped because a task panicked or was cancelled is not done: the pipeline ends then, without another
///   checkpoint.
///
/// An adapter that makes another value of the record keeps the mark with [`Tracked::map`].
///
/// ```
/// use inflight_core::Tracked;
///
/// let reading = Tracked::detached("21.5"); // a pipeline's source makes those with a mark
/// assert_eq!(reading.len(), 4);
/// let reading = Tracked::map(reading, |text| text.parse::<f64>().unwrap_or(0.0));
/// assert_eq!(*reading, 21.5);
/// ```
pub struct Tracked<V> {
    value: V,
    mark: Mark,
}

/// The mark of a record: it tells of copies, and of its drop.
struct Mark {
    request_id: u64,
    number: u64,
    /// `None` for a record without a pipeline, or one that has arrived.
    marks: Option<Arc<Marks>>,
    /// It belongs to a copy that a function has made for its request: nothing depends on its drop, because the stage has the record.
    is_in_request: bool,
    /// The function of a stage is looking at the record.
    is_lent: AtomicBool,
}

/// The news of all marks of a pipeline, in the order in which they happened.
pub(crate) struct Marks {
    events: ConcurrentQueue<MarkEvent>,
    signal: BarrierSignal,
}

impl Marks {
    pub(crate) fn new(signal: BarrierSignal) -> Self {
        Self { events: ConcurrentQueue::unbounded(), signal }
    }

    pub(crate) fn tell(&self, event: MarkEvent) {
        // An unbounded queue that is never closed takes everything.
        let _ = self.events.push(event);
        if matches!(event, MarkEvent::Dropped(_)) {
            self.signal.note_progress(); // only a barrier that comes afterwards confirms it (K13)
        }
    }

    pub(crate) fn next(&self) -> Option<MarkEvent> {
        self.events.pop().ok()
    }
}

/// The news of a mark. Records are told apart by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MarkEvent {
    /// There is one more copy of the record.
    Copied(u64),
    /// A copy was dropped.
    Dropped(u64),
    /// A barrier has left the source. When it arrives at the sink, all stages were alive after the drops before this event, so none
    /// of those drops was a panic or a cancellation.
    Barrier,
}

impl Mark {
    const fn new(number: u64, request_id: u64, marks: Option<Arc<Marks>>) -> Self {
        let (is_in_request, is_lent) = (false, AtomicBool::new(false));
        Self { request_id, number, marks, is_in_request, is_lent }
    }

    fn tell(&self, event: fn(u64) -> MarkEvent) {
        if let Some(marks) = &self.marks
            && !self.is_in_request
        {
            marks.tell(event(self.number));
        }
    }
}

impl Clone for Mark {
    fn clone(&self) -> Self {
        let is_in_request = self.is_in_request || self.is_lent.load(Ordering::Relaxed);
        if !is_in_request {
            // Before the copy exists, so that nobody can see its drop first.
            self.tell(MarkEvent::Copied);
        }
        let marks = self.marks.clone();
        Self { marks, is_in_request, is_lent: AtomicBool::new(false), ..*self }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.tell(MarkEvent::Dropped);
    }
}

impl<V> Tracked<V> {
    /// A record without a pipeline, for tests. Its request id is 0.
    pub const fn detached(value: V) -> Self {
        Self { value, mark: Mark::new(0, 0, None) }
    }

    pub(crate) fn new(value: V, number: u64, request_id: u64, marks: Arc<Marks>) -> Self {
        Self { value, mark: Mark::new(number, request_id, Some(marks)) }
    }

    /// Makes another value of the record, which keeps its mark. It is no method, because the record may have one of this name.
    pub fn map<U>(this: Self, change: impl FnOnce(V) -> U) -> Tracked<U> {
        // If `change` panics, the mark is dropped on a task that has panicked.
        Tracked { value: change(this.value), mark: this.mark }
    }

    /// Takes the record out, and leaves its mark.
    pub fn split(this: Self) -> (V, Tracked<()>) {
        (this.value, Tracked { value: (), mark: this.mark })
    }

    /// The record's request id, which comes from its position in the source: the same in every life, and in every stage.
    pub fn request_id(this: &Self) -> u64 {
        this.mark.request_id
    }

    /// The record has arrived at the sink: its number, if it has one, and the value, without news of its mark.
    pub(crate) fn arrive(mut this: Self) -> (Option<u64>, V) {
        let number = this.mark.marks.take().map(|_| this.mark.number);
        (number, this.value)
    }

    /// Shows the record to the function of a stage, whose copies are for its request.
    pub(crate) fn lend<T>(&self, look: impl FnOnce(&Self) -> T) -> T {
        Self::begin_lending(self);
        let seen = look(self);
        Self::end_lending(self);
        seen
    }

    /// From here on, copies are for a request.
    pub(crate) fn begin_lending(this: &Self) {
        this.mark.is_lent.store(true, Ordering::Relaxed);
    }

    /// From here on, they are not.
    pub(crate) fn end_lending(this: &Self) {
        this.mark.is_lent.store(false, Ordering::Relaxed);
    }
}

impl<V> Deref for Tracked<V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.value
    }
}

impl<V> DerefMut for Tracked<V> {
    fn deref_mut(&mut self) -> &mut V {
        &mut self.value
    }
}

impl<V: Clone> Clone for Tracked<V> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), mark: self.mark.clone() }
    }
}

impl<V: fmt::Debug> fmt::Debug for Tracked<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracked")
            .field("value", &self.value)
            .field("number", &self.mark.number)
            .finish_non_exhaustive()
    }
}

/// Tracked records are equal if their values are.
impl<V: PartialEq> PartialEq for Tracked<V> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

/// A record at the end of a pipeline that keeps positions only: a [`Tracked`] value, or the outcome of a tracked record.
pub trait IntoTracked {
    /// The value that the sink receives.
    type Value;

    /// The value, with the mark of its record.
    fn into_tracked(self) -> Tracked<Self::Value>;
}

impl<V> IntoTracked for Tracked<V> {
    type Value = V;

    fn into_tracked(self) -> Self {
        self
    }
}

impl<In, Out, E> IntoTracked for Outcome<Tracked<In>, Out, E> {
    type Value = Outcome<In, Out, E>;

    fn into_tracked(self) -> Tracked<Outcome<In, Out, E>> {
        let Self { input, result, attempts, elapsed } = self;
        Tracked::map(input, |input| Outcome { input, result, attempts, elapsed })
    }
}
