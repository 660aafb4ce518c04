//! A database or a log that takes output and checkpoint in one transaction, in place of a sink and a store.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;
use core::future::Future;
use core::mem::take;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rtrb::PushError;

use super::sink::TransactionalSink;
use crate::checkpoint::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};
use crate::time::Timestamp;

/// A system that commits a job's output together with its checkpoint: a database's transaction, a log's atomic batch.
///
/// It takes the place of a sink and of a store ([`one_transaction`] makes both from it). There is no second phase, so there is no
/// time at which the checkpoint is durable and the output is not; and the checkpoint's commit is also the fence: an owner that has
/// lost the job commits neither.
///
/// An implementation MUST
///
/// 1. in `claim`, make the caller the job's only owner, durably and before it returns, and return the latest checkpoint. From then
///    on no commit of an earlier owner succeeds, wherever that process was frozen and whatever it had sent before; a commit that
///    had succeeded by then is in the checkpoint that `claim` returns. A second `claim` of the same value begins another life, and
///    fences the commits of the first;
/// 2. in `commit`, make the outputs and the checkpoint durable and visible together, or neither of them;
/// 3. tolerate that a `commit` future is dropped half-way, or that its answer is lost: the commit is then whole or not at all, and
///    [`is_committed`](Self::is_committed) says which; its answer does not change later;
/// 4. never fall back to an older checkpoint: a job that went on from there would write the output committed since a second time. A
///    latest checkpoint that cannot be read is an error;
/// 5. return an error, not a panic, when the system fails, and stay usable afterwards;
/// 6. name the errors that are [final](Self::is_final): the job has another owner, or this life can commit nothing more.
pub trait Transaction<T> {
    /// The error of the system.
    type Error: Error + 'static;

    /// Claims the job, which fences the owner that had it before, and loads the latest checkpoint; `None` for a new job. It comes
    /// before every other call of a life.
    fn claim(&mut self) -> impl Future<Output = Result<Option<Loaded>, Self::Error>>;

    /// Commits `outputs`, in this order, and the checkpoint. The ids of the calls never decrease; an id that was committed comes
    /// again only with no outputs.
    fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<T>],
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Whether the last `commit`, which had this id, has taken place. It is asked after a `commit` that returned an error that is
    /// not final or whose future was dropped, before anything else is committed. A `commit` that may still be on its way must be
    /// decided first: by a rule of the system, or by making it impossible. If another owner has claimed the job since, the answer
    /// is a final error.
    fn is_committed(&mut self, id: CheckpointId)
    -> impl Future<Output = Result<bool, Self::Error>>;

    /// Returns true if this owner can never commit again after this error, unless it claims the job once more: another one has claimed
    /// it (K15), or nothing else helps. The pipeline ends at once.
    fn is_final(&self, error: &Self::Error) -> bool;
}

/// An outcome on its way into a transaction, with its record's timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output<T> {
    /// The outcome.
    pub value: T,
    /// The timestamp of its record, if that has one.
    pub timestamp: Option<Timestamp>,
}

/// Outputs that are not committed, in the order in which they were written.
type Batch<T> = Vec<Output<T>>;

/// Makes a sink and a store from a transaction, for one pipeline: what the pipeline writes to the one half, the other half commits
/// together with the checkpoint.
///
/// The sink half keeps the outputs of a checkpoint in memory until then. Both halves begin another life when the pipeline is run
/// again with them (`&mut sink, &mut store`): the store half claims the job when it loads, and outputs that were not committed are
/// dropped.
///
/// ```
/// use inflight_core::pipeline::{Ended, MemorySource, MemoryTransaction, Pipeline, one_transaction};
/// use inflight_core::{AsyncWait, AsyncWaitExt};
/// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
/// # use std::{pin::Pin, task::{Context, Poll, Waker}};
/// # #[derive(Clone, Copy)] struct Still;
/// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
/// # impl Timer for Still {
/// #     fn now(&self) -> Instant { Instant::ZERO }
/// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
/// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// # }
/// # let runtime = Still;
///
/// # let example = async {
/// let database = MemoryTransaction::new();
/// let (sink, store) = one_transaction(database.another_owner());
/// let ended = Pipeline::new(MemorySource::new(1..=100_u64), sink, store)
///     .run(runtime, |numbers, recovery| {
///         numbers
///             .async_wait(AsyncWait::ordered(10), |n: &u64| {
///                 let n = *n;
///                 async move { Ok::<_, ()>(n * n) } // a real one asks a service
///             })
///             .checkpointed("squares", 1)
///             .restore(recovery)
///             .in_place(runtime)
///     })
///     .await?;
/// assert_eq!(ended, Ended::Finished);
/// assert_eq!(database.committed()[9].value.result, Ok(100));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// # };
/// # let mut example = std::pin::pin!(example);
/// # for _ in 0..1000 {
/// #     if let Poll::Ready(done) = example.as_mut().poll(&mut Context::from_waker(Waker::noop())) { done.unwrap(); return; }
/// # }
/// # panic!("it does not end");
/// ```
pub fn one_transaction<T, X: Transaction<T>>(transaction: X) -> (SinkHalf<T>, StoreHalf<T, X>) {
    const LIMIT: usize = 100_000;
    // One place: each pre-commit is followed by the save that empties it.
    let (to_store, from_sink) = rtrb::RingBuffer::new(1);
    let shared = Arc::new(Shared::default());
    let store = StoreHalf {
        transaction,
        from_sink,
        shared: Arc::clone(&shared),
        outputs: Vec::new(),
        latest: None,
        undecided: None,
    };
    (SinkHalf { written: Vec::new(), to_store, shared, limit: LIMIT }, store)
}

/// What the two halves know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// The store half has claimed the job, so it is the pipeline's store.
    claimed: AtomicBool,
    /// The number of outputs that the sink half has handed over and that are not committed.
    handed_over: AtomicUsize,
}

/// The half of a [`Transaction`] to which a pipeline writes: see [`one_transaction`].
pub struct SinkHalf<T> {
    written: Batch<T>,
    to_store: rtrb::Producer<Batch<T>>,
    shared: Arc<Shared>,
    limit: usize,
}

impl<T> SinkHalf<T> {
    /// Bounds the number of outputs that wait in memory for their commit: with so many the sink is
    /// [full](TransactionalSink::is_full). At least one; 100,000 without this call.
    #[must_use]
    pub fn limit(mut self, outputs: usize) -> Self {
        self.limit = outputs.max(1);
        self
    }

    /// The number of outputs that are not committed.
    fn uncommitted(&self) -> usize {
        self.written.len().saturating_add(self.shared.handed_over.load(Ordering::Relaxed))
    }
}

impl<T> TransactionalSink<T> for SinkHalf<T> {
    type Prepared = ();
    type Error = SinkHalfError;

    async fn write(&mut self, value: T, timestamp: Option<Timestamp>) -> Result<(), SinkHalfError> {
        self.written.push(Output { value, timestamp });
        Ok(())
    }

    /// Returns true if as many outputs wait for their commit as the [limit](SinkHalf::limit) says.
    fn is_full(&self) -> bool {
        self.uncommitted() >= self.limit
    }

    /// Hands over to the store half.
    ///
    /// # Errors
    ///
    /// [`SinkHalfError::NotSaved`].
    async fn pre_commit(&mut self, _id: CheckpointId) -> Result<(), SinkHalfError> {
        let outputs = self.written.len();
        // Before the store half can commit them, so that the number never falls below zero.
        self.shared.handed_over.fetch_add(outputs, Ordering::Relaxed);
        let Err(PushError::Full(written)) = self.to_store.push(take(&mut self.written)) else {
            return Ok(());
        };
        self.written = written;
        self.shared.handed_over.fetch_sub(outputs, Ordering::Relaxed);
        Err(SinkHalfError::NotSaved)
    }

    async fn commit(&mut self, _id: CheckpointId, (): &()) -> Result<(), SinkHalfError> {
        Ok(()) // with the save
    }

    /// Drops outputs of an earlier life. Nothing else is left of it: neither its output nor its checkpoint was committed.
    ///
    /// # Errors
    ///
    /// [`SinkHalfError::NotClaimed`].
    async fn abort(&mut self, _kept: Option<&()>) -> Result<(), SinkHalfError> {
        self.written.clear();
        match self.shared.claimed.load(Ordering::Relaxed) {
            true => Ok(()),
            false => Err(SinkHalfError::NotClaimed),
        }
    }
}

impl<T> fmt::Debug for SinkHalf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SinkHalf");
        shown.field("uncommitted", &self.uncommitted()).field("limit", &self.limit);
        shown.finish_non_exhaustive()
    }
}

/// The half of a [`Transaction`] to which a pipeline saves its checkpoints: see [`one_transaction`].
///
/// Loading claims the job. Saving commits the checkpoint with all outputs that were pre-committed before it, also those of
/// checkpoints that could not be saved. If the answer of a commit is lost, the store half asks whether it has taken place, at once
/// and again before the next commit, so that no output is committed twice.
pub struct StoreHalf<T, X> {
    transaction: X,
    from_sink: rtrb::Consumer<Batch<T>>,
    shared: Arc<Shared>,
    /// Outputs that are not committed, or not known to be: those of earlier saves, which have failed, first.
    outputs: Batch<T>,
    /// The highest id that was loaded or committed.
    latest: Option<CheckpointId>,
    /// A commit that may have taken place.
    undecided: Option<Undecided>,
}

#[derive(Clone, Copy)]
struct Undecided {
    id: CheckpointId,
    /// The number of outputs in it, the first ones of those that are kept.
    outputs: usize,
}

impl<T, X: Transaction<T>> StoreHalf<T, X> {
    /// Claims the job and begins a life, without anything of the one before.
    async fn claim(&mut self) -> Result<Option<Loaded>, StoreHalfError<X::Error>> {
        let loaded = self.transaction.claim().await.map_err(StoreHalfError::Transaction)?;
        while self.from_sink.pop().is_ok() {}
        self.outputs.clear();
        (self.latest, self.undecided) = (loaded.as_ref().map(|loaded| loaded.id), None);
        self.shared.handed_over.store(0, Ordering::Relaxed);
        self.shared.claimed.store(true, Ordering::Relaxed);
        Ok(loaded)
    }

    /// Finds out whether the commit whose answer was lost has taken place. Returns the answer, or false if there is no such commit.
    async fn decide(&mut self) -> Result<bool, X::Error> {
        let Some(Undecided { id, outputs }) = self.undecided else { return Ok(false) };
        let is_committed = self.transaction.is_committed(id).await?;
        self.undecided = None;
        if is_committed {
            self.note_committed(id, outputs);
        }
        Ok(is_committed)
    }

    /// Forgets the first outputs, which are committed.
    fn note_committed(&mut self, id: CheckpointId, outputs: usize) {
        self.outputs.drain(..outputs);
        self.shared.handed_over.fetch_sub(outputs, Ordering::Relaxed);
        self.latest = Some(id);
    }
}

impl<T, X: Transaction<T>> CheckpointStore for StoreHalf<T, X> {
    type Error = StoreHalfError<X::Error>;

    /// Commits the checkpoint, and all outputs that were pre-committed and are not committed.
    ///
    /// # Errors
    ///
    /// [`StoreHalfError`]. The outputs are kept for the next save, except for those that have been committed.
    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Self::Error> {
        if !self.shared.claimed.load(Ordering::Relaxed) {
            return Err(StoreHalfError::NotClaimed);
        }
        while let Ok(mut batch) = self.from_sink.pop() {
            self.outputs.append(&mut batch);
        }
        // K10: an output that is committed must not be committed again.
        self.decide().await.map_err(StoreHalfError::Transaction)?;
        // With outputs, a second commit of an id could not be told from the first one if its answer were lost.
        let is_behind = |latest| id < latest || (id == latest && !self.outputs.is_empty());
        if let Some(latest) = self.latest.filter(|latest| is_behind(*latest)) {
            return Err(StoreHalfError::IdBehind { id, latest });
        }
        // Before the commit, whose future may be dropped.
        self.undecided = Some(Undecided { id, outputs: self.outputs.len() });
        match self.transaction.commit(id, bytes, &self.outputs).await {
            Ok(()) => {
                self.undecided = None;
                self.note_committed(id, self.outputs.len());
                Ok(())
            }
            Err(error) if self.transaction.is_final(&error) => {
                Err(StoreHalfError::Transaction(error))
            }
            // Perhaps only the answer is lost. If nobody knows, the next save asks again.
            Err(error) => match self.decide().await {
                Ok(true) => Ok(()),
                Err(fenced) if self.transaction.is_final(&fenced) => {
                    Err(StoreHalfError::Transaction(fenced))
                }
                Ok(false) | Err(_) => Err(StoreHalfError::Transaction(error)),
            },
        }
    }

    /// Returns true for the transaction's [final](Transaction::is_final) errors.
    fn is_final(&self, error: &Self::Error) -> bool {
        match error {
            StoreHalfError::Transaction(error) => self.transaction.is_final(error),
            StoreHalfError::NotClaimed | StoreHalfError::IdBehind { .. } => false,
        }
    }

    /// Claims the job, as [`load_latest`](CheckpointStore::load_latest), which does it only once.
    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Self::Error>> {
        let loaded = self.claim().await?;
        loaded.map(|loaded| loaded.copy_into(buffer)).transpose()
    }

    /// Claims the job and loads its latest checkpoint. Outputs that are not committed are dropped.
    async fn load_latest(&mut self) -> Result<Option<Loaded>, Self::Error> {
        self.claim().await
    }
}

impl<T, X: fmt::Debug> fmt::Debug for StoreHalf<T, X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StoreHalf");
        shown.field("transaction", &self.transaction).field("latest", &self.latest);
        shown.field("outputs", &self.outputs.len()).finish_non_exhaustive()
    }
}

/// The reason why a [`SinkHalf`] failed. Nothing is lost: the next run goes on from the last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SinkHalfError {
    /// The job was not claimed: the pipeline has another store than the [`StoreHalf`] of this sink.
    NotClaimed,
    /// The checkpoint before this one was pre-committed and never saved.
    NotSaved,
}

impl fmt::Display for SinkHalfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotClaimed => {
                "the job was not claimed: give the pipeline both halves of the transaction, the store too"
            }
            Self::NotSaved => "the checkpoint before this one was not given to the store half",
        })
    }
}

impl Error for SinkHalfError {}

/// The reason why a [`StoreHalf`] failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreHalfError<E> {
    /// Nothing was loaded before the save, so the job was not claimed.
    NotClaimed,
    /// The id is lower than that of the latest checkpoint, or equal although there are outputs to commit.
    IdBehind {
        /// The number of the checkpoint that was refused.
        id: CheckpointId,
        /// The number of the latest one.
        latest: CheckpointId,
    },
    /// The transaction's own error.
    Transaction(E),
}

impl<E: fmt::Display> fmt::Display for StoreHalfError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotClaimed => f.write_str("nothing was loaded, so the job was not claimed"),
            Self::IdBehind { id, latest } => {
                write!(f, "checkpoint {id} is not newer than checkpoint {latest}: use higher ids")
            }
            Self::Transaction(error) => error.fmt(f),
        }
    }
}

impl<E: Error + 'static> Error for StoreHalfError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotClaimed | Self::IdBehind { .. } => None,
            // `Display` has the text of the inner error, so the chain continues with that error's source.
            Self::Transaction(error) => error.source(),
        }
    }
}
