//! The interface of a pipeline's sink.

use core::error::Error;
use core::future::Future;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::checkpoint::CheckpointId;
use crate::element::Status;
use crate::time::Timestamp;

/// A sink that commits in two phases. First it makes sure that a commit cannot fail
/// ([`pre_commit`](Self::pre_commit)); once the checkpoint is durable, it commits. After a crash in between,
/// the next life commits or aborts the pre-committed output, as the checkpoint says (K10).
///
/// The sink decides what "committed" means: the commit of a database transaction, the renaming of a file, or
/// a length beyond which a file is cut off. An idempotent sink, which writes each record under the record's
/// key, can do nothing in all three methods.
///
/// An implementation MUST
///
/// 1. in `pre_commit`, put everything written so far where it survives a crash of the machine, so that only
///    the medium can make `commit` fail;
/// 2. return from `pre_commit` a description of **everything written and not yet committed**, including the
///    output that earlier pre-commits described: their checkpoints may have failed, and this one covers them;
/// 3. in `commit`, commit the described output; if it **was committed before**, in this life or an earlier
///    one, change nothing;
/// 4. in `abort(Some(kept))`, undo everything that was neither described by `kept` nor committed before it:
///    output that any life has written or pre-committed later. Never undo committed output;
/// 5. in `abort(None)`, undo output that was never committed. The job is new: refuse output that is not its
///    own with an error, rather than overwrite it;
/// 6. tolerate that any of its futures is dropped half-way, which leaves the same state as a crash;
/// 7. return an error, not a panic, when the medium fails;
/// 8. keep an earlier owner of the job out (K15). That process may have been frozen and may go on at any time. From the end of
///    `abort` on, nothing that it writes, pre-commits or commits may change committed output or the output of this owner; it gets
///    an error, best from its next call. A sink that cannot tell owners apart refuses to be opened while another one has it open
///    (a lock); an idempotent one needs nothing.
///
/// An idempotent sink, over a table in which a key replaces its row:
///
/// ```
/// use std::collections::BTreeMap;
/// use std::convert::Infallible;
/// # use std::{future::Future, task::{Context, Poll}};
/// use inflight_core::pipeline::TransactionalSink;
/// use inflight_core::{CheckpointId, Outcome, Timestamp};
///
/// #[derive(Default)]
/// struct Table(BTreeMap<u64, String>); // a real one is a database
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
///     // Rows that a crash has left are written again, with the same keys.
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
/// Readers of such a table see rows before they are committed, but a wrong row does not stay.
pub trait TransactionalSink<T> {
    /// The description of pre-committed output, which a checkpoint keeps: enough to commit in another life.
    type Prepared: Serialize + DeserializeOwned;
    /// The error of the medium. It ends the pipeline, whose next run goes on from the last checkpoint.
    type Error: Error + 'static;

    /// Writes a record. The next pre-commit covers it.
    fn write(
        &mut self,
        record: T,
        timestamp: Option<Timestamp>,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Takes note of a watermark: no record at or before this time follows.
    fn watermark(&mut self, watermark: Timestamp) {
        let _ = watermark;
    }

    /// Takes note of a status: with [`Status::Idle`] nothing may come for a while, so that a reader of several outputs need not wait
    /// for this one.
    fn status(&mut self, status: Status) {
        let _ = status;
    }

    /// Returns true if the sink holds as much uncommitted output as it wants to: then a checkpoint is due, and while one is being
    /// saved the sink is given nothing more. A sink that writes to a medium at once has no such bound.
    fn is_full(&self) -> bool {
        false
    }

    /// Prepares the commit of everything that was written, and returns its description.
    fn pre_commit(
        &mut self,
        id: CheckpointId,
    ) -> impl Future<Output = Result<Self::Prepared, Self::Error>>;

    /// Commits the output that `prepared` describes, now that the checkpoint is durable. More may have been
    /// written since.
    fn commit(
        &mut self,
        id: CheckpointId,
        prepared: &Self::Prepared,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// Undoes the output that the checkpoint at the beginning of a life does not describe. Called once, before
    /// the first [`write`](Self::write), with the description that was just committed, or with `None` if there
    /// is no checkpoint.
    fn abort(
        &mut self,
        kept: Option<&Self::Prepared>,
    ) -> impl Future<Output = Result<(), Self::Error>>;
}

/// A borrowed sink: its owner keeps it.
impl<T, K: TransactionalSink<T>> TransactionalSink<T> for &mut K {
    type Prepared = K::Prepared;
    type Error = K::Error;

    async fn write(&mut self, record: T, timestamp: Option<Timestamp>) -> Result<(), K::Error> {
        (**self).write(record, timestamp).await
    }

    fn watermark(&mut self, watermark: Timestamp) {
        (**self).watermark(watermark);
    }

    fn status(&mut self, status: Status) {
        (**self).status(status);
    }

    fn is_full(&self) -> bool {
        (**self).is_full()
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
