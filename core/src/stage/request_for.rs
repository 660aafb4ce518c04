//! What a request is for: one record, or a batch of them. The stage asks the operator through this, and is written once.
//!
//! A request has a *place* in the stage's table: the slot of its record, or the number of its batch.

use crate::element::StreamElement;
use crate::operator::{Attempt, AttemptId, Batch, Call, Expired, Operator, PushError};
use crate::policy::KeySelector;
use crate::storage::Storage;
use crate::time::Instant;

/// What a request is for: [`ForRecord`] or [`ForBatch`].
#[allow(unreachable_pub, missing_docs)] // part of a sealed trait
pub trait RequestFor {
    const BATCH: bool;

    /// What the operator gives for the next request.
    type Next<'a, In: 'a>: NextRequest<In>;

    /// Takes in an element, and may give the next request at once.
    #[allow(clippy::type_complexity)]
    fn push<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        element: StreamElement<C::Input>,
    ) -> Result<Option<Self::Next<'_, C::Input>>, PushError<StreamElement<C::Input>>>
    where
        C: Call<Key: KeySelector<<C as Call>::Input>>,
        S: Storage;

    /// Whether a request is to start before anything else is pulled.
    fn has_next<C: Call, S: Storage>(operator: &Operator<C, S>) -> bool;

    /// Whether one is to start when nothing can be pulled.
    fn has_last<C: Call, S: Storage>(operator: &Operator<C, S>) -> bool;

    /// The next request to start.
    fn poll_next<C: Call, S: Storage>(
        operator: &mut Operator<C, S>,
        now: Instant,
    ) -> Option<Self::Next<'_, C::Input>>;

    /// The place of the request that should be polled first, if that matters.
    fn head<C: Call, S: Storage>(operator: &Operator<C, S>) -> Option<usize>;

    /// The place of the request of a running attempt.
    fn place_of<C: Call, S: Storage>(operator: &Operator<C, S>, id: AttemptId) -> Option<usize>;

    /// The place of the request to cancel because this attempt has expired.
    fn cancelled<C: Call, S: Storage>(
        operator: &mut Operator<C, S>,
        expired: Expired,
    ) -> Option<usize>;
}

/// What the operator gives for the next request: an attempt, or a batch of them.
#[allow(unreachable_pub, missing_docs)] // part of a sealed trait
pub trait NextRequest<In>: Copy {
    fn place(&self) -> usize;

    /// Looks at each record.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    fn each(&self, look: impl FnMut(&In));

    /// The same with other request ids.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    #[must_use]
    fn with_request_ids(self, request_id: fn(&In) -> u64) -> Self;
}

impl<In> NextRequest<In> for Attempt<'_, In> {
    #[inline(always)]
    fn place(&self) -> usize {
        self.id.slot()
    }

    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    fn each(&self, mut look: impl FnMut(&In)) {
        look(self.input);
    }

    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    fn with_request_ids(mut self, request_id: fn(&In) -> u64) -> Self {
        self.info.request_id = request_id(self.input);
        self
    }
}

impl<In> NextRequest<In> for Batch<'_, In> {
    fn place(&self) -> usize {
        self.id().number()
    }

    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    fn each(&self, look: impl FnMut(&In)) {
        self.inputs().for_each(look);
    }

    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    fn with_request_ids(self, request_id: fn(&In) -> u64) -> Self {
        Self::with_request_ids(self, request_id)
    }
}

/// A request is for one record.
#[derive(Debug)]
pub struct ForRecord;

impl RequestFor for ForRecord {
    const BATCH: bool = false;
    type Next<'a, In: 'a> = Attempt<'a, In>;

    #[inline(always)]
    fn push<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        element: StreamElement<C::Input>,
    ) -> Result<Option<Attempt<'_, C::Input>>, PushError<StreamElement<C::Input>>>
    where
        C: Call<Key: KeySelector<<C as Call>::Input>>,
        S: Storage,
    {
        operator.push_start(now, element)
    }

    #[inline(always)]
    fn has_next<C: Call, S: Storage>(operator: &Operator<C, S>) -> bool {
        operator.has_attempt()
    }

    #[inline(always)]
    fn has_last<C: Call, S: Storage>(_: &Operator<C, S>) -> bool {
        false // an attempt waits for nothing that could be pulled
    }

    #[inline(always)]
    fn poll_next<C: Call, S: Storage>(
        operator: &mut Operator<C, S>,
        now: Instant,
    ) -> Option<Attempt<'_, C::Input>> {
        operator.poll_attempt(now)
    }

    #[inline(always)]
    fn head<C: Call, S: Storage>(operator: &Operator<C, S>) -> Option<usize> {
        operator.head_slot()
    }

    #[inline(always)]
    fn place_of<C: Call, S: Storage>(_: &Operator<C, S>, id: AttemptId) -> Option<usize> {
        Some(id.slot())
    }

    #[inline(always)]
    fn cancelled<C: Call, S: Storage>(_: &mut Operator<C, S>, expired: Expired) -> Option<usize> {
        Some(expired.id().slot())
    }
}

/// A request is for a batch of records (B1).
#[derive(Debug)]
pub struct ForBatch;

impl RequestFor for ForBatch {
    const BATCH: bool = true;
    type Next<'a, In: 'a> = Batch<'a, In>;

    fn push<C, S>(
        operator: &mut Operator<C, S>,
        now: Instant,
        element: StreamElement<C::Input>,
    ) -> Result<Option<Batch<'_, C::Input>>, PushError<StreamElement<C::Input>>>
    where
        C: Call<Key: KeySelector<<C as Call>::Input>>,
        S: Storage,
    {
        operator.push(now, element).map(|()| None)
    }

    fn has_next<C: Call, S: Storage>(operator: &Operator<C, S>) -> bool {
        operator.has_full_batch()
    }

    // A batch that is due takes along what the source has at the moment.
    fn has_last<C: Call, S: Storage>(operator: &Operator<C, S>) -> bool {
        operator.has_batch()
    }

    fn poll_next<C: Call, S: Storage>(
        operator: &mut Operator<C, S>,
        now: Instant,
    ) -> Option<Batch<'_, C::Input>> {
        operator.poll_batch(now)
    }

    fn head<C: Call, S: Storage>(_: &Operator<C, S>) -> Option<usize> {
        None // there are fewer requests than slots
    }

    fn place_of<C: Call, S: Storage>(operator: &Operator<C, S>, id: AttemptId) -> Option<usize> {
        operator.batch_of(id).map(|batch| batch.number())
    }

    // The request goes on as long as a record waits for its answer.
    fn cancelled<C: Call, S: Storage>(operator: &mut Operator<C, S>, _: Expired) -> Option<usize> {
        operator.take_abandoned_batch().map(|batch| batch.number())
    }
}
