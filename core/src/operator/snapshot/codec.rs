//! How records and results become bytes: the user's choices.

use core::fmt;

#[cfg(feature = "checkpoint")]
use serde::Serialize;
#[cfg(feature = "checkpoint")]
use serde::de::DeserializeOwned;

#[cfg(feature = "checkpoint")]
use super::user_types::{read_whole, write};
use crate::checkpoint::{CheckpointError, Section};
use crate::outcome::Failure;

/// The way in which snapshots are taken and read: their name, the schema version, and whether results are kept. The argument of
/// [`StageBuilder::checkpointed_with`](crate::StageBuilder::checkpointed_with) and
/// [`Operator::checkpointed_with`](crate::Operator::checkpointed_with); for a name and a version alone,
/// [`checkpointed`](crate::StageBuilder::checkpointed) is shorter.
///
/// ```
/// use inflight_core::{AsyncWait, Checkpointing};
///
/// /// Records of version 1 were one byte.
/// fn migrate(version: u32, bytes: &[u8]) -> Option<u32> {
///     match (version, bytes) {
///         (1, [byte]) => Some(u32::from(*byte)),
///         _ => None,
///     }
/// }
///
/// # #[cfg(feature = "alloc")] {
/// let op = AsyncWait::ordered(4).build_core::<u32, u32, ()>().unwrap();
/// let op = op.checkpointed_with(Checkpointing::new("lookup", 2).keeping_results().migrating(migrate));
/// # let _ = op;
/// # }
/// ```
// Function pointers, so that the bounds stand only where the user asks for checkpoints.
#[must_use = "it does nothing until a stage or an operator is given it"]
pub struct Checkpointing<In, Out, E> {
    pub(in crate::operator) name: &'static str,
    pub(in crate::operator) schema: u32,
    pub(in crate::operator) write_input: Write<In>,
    pub(in crate::operator) read_input: fn(&[u8]) -> Option<In>,
    pub(in crate::operator) migrate: Option<fn(u32, &[u8]) -> Option<In>>,
    pub(in crate::operator) results: Option<Results<Out, E>>,
}

pub(in crate::operator) struct Results<Out, E> {
    pub(super) write: Write<Result<Out, Failure<E>>>,
    pub(in crate::operator) read: fn(&[u8]) -> Option<Result<Out, Failure<E>>>,
}

type Write<T> = fn(&mut Section<'_>, &T) -> Result<(), CheckpointError>;

impl<In, Out, E> Clone for Checkpointing<In, Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<In, Out, E> Copy for Checkpointing<In, Out, E> {}

impl<Out, E> Clone for Results<Out, E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<Out, E> Copy for Results<Out, E> {}

impl<In, Out, E> fmt::Debug for Checkpointing<In, Out, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointing")
            .field("name", &self.name)
            .field("schema", &self.schema)
            .field("keeps_results", &self.results.is_some())
            .field("migrates", &self.migrate.is_some())
            .finish_non_exhaustive()
    }
}

impl<In, Out, E> Checkpointing<In, Out, E> {
    /// Snapshots under the name `name` in a checkpoint. `schema` is the version of `In`'s serialised form:
    /// raise it when that changes.
    ///
    /// A call that is done but not handed on is kept as its input, and called anew after a restore,
    /// unless [results are kept](Self::keeping_results) (K2).
    #[cfg(feature = "checkpoint")]
    pub const fn new(name: &'static str, schema: u32) -> Self
    where
        In: Serialize + DeserializeOwned,
    {
        let (write_input, read_input) = (write::<In> as Write<In>, read_whole::<In> as _);
        Self { name, schema, write_input, read_input, migrate: None, results: None }
    }

    /// Keeps the results of calls that are done in the snapshot, so that they are not called again
    /// after a restore (K2). The schema version is then that of all three types.
    #[cfg(feature = "checkpoint")]
    pub const fn keeping_results(mut self) -> Self
    where
        Out: Serialize + DeserializeOwned,
        E: Serialize + DeserializeOwned,
    {
        self.results = Some(Results { write, read: read_whole });
        self
    }

    /// Reads records that were saved under an older schema version: `migrate` is given that version and
    /// the record's bytes ([postcard](https://docs.rs/postcard)) and returns the record, or `None` if it
    /// cannot. It is called twice for each record and has to answer the same both times: a restore first checks that all records can
    /// be read, and then takes them up. Without it a snapshot of an older version is
    /// refused (K7).
    pub const fn migrating(mut self, migrate: fn(u32, &[u8]) -> Option<In>) -> Self {
        self.migrate = Some(migrate);
        self
    }
}
