//! A batch to start, as the caller of an operator sees it.

use core::fmt;

use super::attempt::Attempt;
use crate::storage::BatchId;

/// A batch to start: several records for one request, in the order in which they came to wait.
///
/// It is never empty. Iterating over it gives an [`Attempt`] for each record: the input, and the number and the request id of this attempt
/// of its call. [`inputs`](Self::inputs) leaves all but the inputs out.
///
/// ```
/// use inflight_core::Batch;
///
/// /// One statement for all ids: `SELECT .. WHERE id = ANY($1)`.
/// fn ids(batch: Batch<'_, i64>) -> Vec<i64> {
///     batch.inputs().copied().collect()
/// }
/// # let _ = ids;
/// ```
pub struct Batch<'a, In> {
    id: BatchId,
    records: &'a dyn BatchRecords<In>,
    first: u32,
    len: usize,
    /// Computes the request id from the record, where it is not the operator's.
    request_id: Option<fn(&In) -> u64>,
}

/// The records of batches, by slot. It hides the type of the operator.
pub(crate) trait BatchRecords<In> {
    /// The attempt in a slot, and the slot of the next record of its batch.
    fn record(&self, slot: u32) -> Option<(Attempt<'_, In>, u32)>;
}

impl<'a, In> Batch<'a, In> {
    pub(super) const fn new(
        id: BatchId,
        records: &'a dyn BatchRecords<In>,
        first: u32,
        len: usize,
    ) -> Self {
        Self { id, records, first, len, request_id: None }
    }

    /// Names the batch when it [completes](crate::Operator::handle_batch_completion).
    pub const fn id(&self) -> BatchId {
        self.id
    }

    /// The number of records. Answer as many results.
    #[allow(clippy::len_without_is_empty)] // no batch is empty
    pub const fn len(&self) -> usize {
        self.len
    }

    /// The records, each with its attempt.
    pub const fn iter(&self) -> BatchAttempts<'a, In> {
        BatchAttempts { batch: *self, next: self.first }
    }

    /// The records alone.
    pub fn inputs(&self) -> impl ExactSizeIterator<Item = &'a In> + use<'a, In> {
        self.iter().map(|attempt| attempt.input)
    }

    /// The same records with other request ids.
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub(crate) const fn with_request_ids(self, request_id: fn(&In) -> u64) -> Self {
        Self { request_id: Some(request_id), ..self }
    }
}

impl<In> Clone for Batch<'_, In> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In> Copy for Batch<'_, In> {}

impl<In> fmt::Debug for Batch<'_, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("id", &self.id)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl<'a, In> IntoIterator for Batch<'a, In> {
    type Item = Attempt<'a, In>;
    type IntoIter = BatchAttempts<'a, In>;

    fn into_iter(self) -> BatchAttempts<'a, In> {
        self.iter()
    }
}

impl<'a, In> IntoIterator for &Batch<'a, In> {
    type Item = Attempt<'a, In>;
    type IntoIter = BatchAttempts<'a, In>;

    fn into_iter(self) -> BatchAttempts<'a, In> {
        self.iter()
    }
}

/// The records of a [`Batch`], each with its attempt.
#[derive(Clone, Debug)]
pub struct BatchAttempts<'a, In> {
    /// Its length is what is left.
    batch: Batch<'a, In>,
    next: u32,
}

impl<'a, In> Iterator for BatchAttempts<'a, In> {
    type Item = Attempt<'a, In>;

    fn next(&mut self) -> Option<Attempt<'a, In>> {
        self.batch.len = self.batch.len.checked_sub(1)?;
        let (mut attempt, next) = self.batch.records.record(self.next)?;
        self.next = next;
        if let Some(request_id) = self.batch.request_id {
            attempt.info.request_id = request_id(attempt.input);
        }
        Some(attempt)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.batch.len, Some(self.batch.len))
    }
}

impl<In> ExactSizeIterator for BatchAttempts<'_, In> {}
