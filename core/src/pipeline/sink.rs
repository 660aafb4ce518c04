//! Where outcomes go.

use core::error::Error;
use core::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::CheckpointId;
use crate::time::Timestamp;

/// A sink that commits in two phases: first it makes sure that a commit cannot fail
/// ([`pre_commit`](Self::pre_commit)), then, once the checkpoint is durable, it commits. What a crash
/// leaves in between is committed or aborted by the next life, as the checkpoint says.
///
/// What "committed" means is the sink's own: a transaction of a database, a file that gets its name, or
/// the length of a file behind which everything is cut off. A sink that is idempotent (it writes under
/// the record's key) can do nothing in all three.
///
/// An implementation MUST
///
/// 1. in `pre_commit`, put everything written so far where it outlives a crash of the machine, so that
///    only the medium can make `commit` fail;
/// 2. return from `pre_commit` what describes **everything written and not yet committed**, also what
///    earlier pre-commits described: their checkpoints may have failed, and this one covers them;
/// 3. in `commit`, commit what is described, **also if it was committed before**, in this life or an
///    earlier one, and then change nothing;
/// 4. in `abort(Some(kept))`, undo everything that is not described by `kept` nor committed before it:
///    what was written later and what was pre-committed later, by whichever life. Never what was
///    committed;
/// 5. in `abort(None)`, undo what was never committed. The job is new: what is there and was not its own
///    is refused with an error, rather than overwritten;
/// 6. bear that any of its futures is dropped half-way: what is left is what a crash leaves;
/// 7. answer an error, not a panic, when the medium fails.
///
/// The idempotent kind, over a table where the same key replaces the same row:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::convert::Infallible;
/// # use std::{future::Future, task::{Context, Poll}};
/// use inflight_core::pipeline::TransactionalSink;
/// use inflight_core::{CheckpointId, Outcome, Timestamp};
///
/// #[derive(Default)]
/// struct Table(BTreeMap<u64, String>); // a database, really
///
/// impl TransactionalSink<Outcome<u64, String, ()>> for Table {
///     type Prepared = ();
///     type Error = Infallible;
///
///     async fn write(&mut self, done: Outcome<u64, String, ()>, _: Option<Timestamp>) -> Result<(), Infallible> {
///         let row = done.result.unwrap_or_else(|failure| format!("failed: {failure:?}"));
///         self.0.insert(done.input, row); // durable when this returns: rule 1
///         Ok(())
///     }
///     async fn pre_commit(&mut self, _: CheckpointId) -> Result<(), Infallible> { Ok(()) }
///     async fn commit(&mut self, _: CheckpointId, _: &()) -> Result<(), Infallible> { Ok(()) }
///     // What a crash has left is written again, with the same keys.
///     async fn abort(&mut self, _: Option<&()>) -> Result<(), Infallible> { Ok(()) }
/// }
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match std::pin::pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop())) {
/// #         Poll::Ready(done) => done,
/// #         Poll::Pending => panic!("nothing here waits"),
/// #     }
/// # }
/// # let mut table = Table::default();
/// # for _ in 0..2 {
/// #     let (result, elapsed) = (Ok("a".to_owned()), core::time::Duration::ZERO);
/// #     block_on(table.write(Outcome { input: 7, result, attempts: 1, elapsed }, None)).unwrap();
/// # }
/// # assert_eq!(table.0, BTreeMap::from([(7, "a".to_owned())]));
/// ```
///
/// Readers of such a table see rows before they are committed, and never one that stays wrong.
pub trait TransactionalSink<T> {
    /// What a checkpoint keeps of the sink: enough to commit in another life.
    type Prepared: Serialize + DeserializeOwned;
    /// Why the medium did not do as asked. It ends the pipeline, which goes on from the last checkpoint
    /// when it is run again.
    type Error: Error + 'static;

    /// Writes a record, as part of what the next commit covers.
    fn write(
        &mut self,
        record: T,
        timestamp: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// No record at or before this time follows.
    fn watermark(&mut self, watermark: Timestamp) {
        let _ = watermark;
    }

    /// Gets ready to commit all that was written.
    fn pre_commit(
        &mut self,
        id: CheckpointId,
    ) -> impl Future<Output = Result<Self::Prepared, Self::Error>>;

    /// The checkpoint is durable: commits what it describes. More may have been written since.
    fn commit(
        &mut self,
        id: CheckpointId,
        prepared: &Self::Prepared,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Undoes what the checkpoint that a life begins with does not describe. Called once, before the
    /// first [`write`](Self::write); with the description that was just committed, or with `None` when
    /// there is no checkpoint.
    fn abort(
        &mut self,
        kept: Option<&Self::Prepared>,
    ) -> impl Future<Output = Result<(), Self::Error>>;
}

/// A sink that is borrowed, so that its owner has it back afterwards.
impl<T, K: TransactionalSink<T>> TransactionalSink<T> for &mut K {
    type Prepared = K::Prepared;
    type Error = K::Error;

    async fn write(&mut self, record: T, timestamp: Option<Timestamp>) -> Result<(), K::Error> {
        (**self).write(record, timestamp).await
    }

    fn watermark(&mut self, watermark: Timestamp) {
        (**self).watermark(watermark);
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<K::Prepared, K::Error> {
        (**self).pre_commit(id).await
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &K::Prepared) -> Result<(), K::Error> {
        (**self).commit(id, prepared).await
    }

    async fn abort(&mut self, kept: Option<&K::Prepared>) -> Result<(), K::Error> {
        (**self).abort(kept).await
    }
}
