//! Requests for several records at a time.

use core::fmt;
use core::time::Duration;

use super::extras::{BatchLimits, Extras, sealed};
use super::rate::{Count, WeighBy};
use crate::config_error::ConfigError;
use crate::storage::{Batches, Nothing, Storage};
use crate::time::Span;

/// How large a batch may be, and how long it waits for records: the argument of [`AsyncWait::batch`](crate::AsyncWait::batch) (B1).
///
/// ```
/// use core::time::Duration;
/// use inflight_core::BatchSize;
///
/// // As many as there are, up to 32: under load batches grow, and without load no record waits for another.
/// let prompts = BatchSize::records(32);
///
/// // Up to 500 rows or 1 MiB, and no row waits for others for more than 20 ms.
/// let rows = BatchSize::records(500)
///     .weight(1 << 20, |row: &Vec<u8>| row.len() as u64)
///     .within(Duration::from_millis(20));
/// # let _ = (prompts, rows);
/// ```
#[derive(Clone, Copy)]
#[must_use = "a batch size does nothing by itself"]
pub struct BatchSize<W = Count> {
    records: usize,
    most_weight: u64,
    within: Duration,
    weight: W,
}

impl BatchSize {
    /// At most so many records. Zero is refused when the stage is built.
    pub const fn records(most: usize) -> Self {
        Self { records: most, most_weight: u64::MAX, within: Duration::ZERO, weight: Count }
    }

    /// Bounds the weight of a batch too: of bytes, say, or of a model's tokens. A record that is heavier than `most` goes alone. The
    /// function must give the same answer each time it is asked about a record. Zero is refused when the stage is built.
    pub const fn weight<In, F>(self, most: u64, weight: F) -> BatchSize<WeighBy<F>>
    where
        F: Fn(&In) -> u64,
    {
        let Self { records, within, .. } = self;
        BatchSize { records, most_weight: most, within, weight: WeighBy(weight) }
    }
}

impl<W> BatchSize<W> {
    /// Sets the time that a record waits for others at most. Zero, the default, means: a batch is what is there when nothing
    /// more comes at once.
    ///
    /// While as many batches run as may, a batch waits longer, and goes on filling. The wait takes no time of a call (C5).
    pub const fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }
}

/// The weight of a record in a batch.
trait BatchWeight<In> {
    fn weight_of(&self, input: &In) -> u64;
}

impl<In> BatchWeight<In> for Count {
    fn weight_of(&self, _: &In) -> u64 {
        0 // only the number of records counts
    }
}

impl<In, F: Fn(&In) -> u64> BatchWeight<In> for WeighBy<F> {
    fn weight_of(&self, input: &In) -> u64 {
        (self.0)(input)
    }
}

impl<W> sealed::Sealed for BatchSize<W> {}

#[allow(private_bounds)] // sealed
impl<In, Out, E, W: BatchWeight<In>> Extras<In, Out, E> for BatchSize<W> {
    const BATCHES: bool = true;
    type NextOfKey<S: Storage> = Nothing;
    type StartTimes<S: Storage> = Nothing;
    type Batches<S: Storage> = Batches<S>;

    fn check(&self) -> Result<(), ConfigError> {
        if self.records == 0 || self.most_weight == 0 {
            return Err(ConfigError::ZeroBatch);
        }
        Ok(())
    }

    fn batch_limits(&self) -> BatchLimits {
        let (records, weight) = (self.records, self.most_weight);
        BatchLimits { records, weight, within: Span::of(self.within) }
    }

    fn batch_weight_of(&self, input: &In) -> u64 {
        self.weight.weight_of(input)
    }
}

impl<W> fmt::Debug for BatchSize<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchSize")
            .field("records", &self.records)
            .field("weight", &self.most_weight)
            .field("within", &self.within)
            .finish()
    }
}
