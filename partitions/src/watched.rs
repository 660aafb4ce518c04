//! The ends of a partition's pipeline, which tell the job what goes through them.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use inflight_core::pipeline::{ReplayableSource, TransactionalSink};
use inflight_core::{
    CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto, Status, StreamElement, Timestamp,
};

use crate::watch::Watch;

/// A source that tells the job its lag and the number of its records: made by
/// [`Partition::pipeline`](crate::Partition::pipeline).
pub struct Watched<S> {
    source: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(crate) fn new(source: S, watch: Arc<Watch>) -> Self {
        Self { source, watch }
    }
}

impl<S: ReplayableSource> ReplayableSource for Watched<S> {
    type Record = S::Record;
    type Position = S::Position;
    type Error = S::Error;
    type Acknowledger = S::Acknowledger;

    async fn open(&mut self, position: Option<S::Position>) -> Result<(), S::Error> {
        self.source.open(position).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<S::Record>, S::Error>>> {
        let next = self.source.poll_next(cx);
        if let Poll::Ready(Some(Ok(element))) = &next
            && element.is_record()
        {
            self.watch.note_record();
        }
        self.watch.note_lag(self.source.lag());
        next
    }

    fn position(&self) -> S::Position {
        // A stage that is full does not poll the source, but checkpoints go on.
        self.watch.note_lag(self.source.lag());
        self.source.position()
    }

    fn lag(&self) -> Option<u64> {
        self.source.lag()
    }

    fn acknowledger(&mut self) -> S::Acknowledger {
        self.source.acknowledger()
    }
}

impl<S: fmt::Debug> fmt::Debug for Watched<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watched").field(&self.source).finish()
    }
}

/// A sink that tells the job its watermark and the number of its outputs: made by
/// [`Partition::pipeline`](crate::Partition::pipeline).
pub struct WatchedSink<K> {
    sink: K,
    watch: Arc<Watch>,
    /// The latest watermark, and the one of the checkpoint that is under way.
    watermark: Option<Timestamp>,
    prepared: Option<Timestamp>,
}

impl<K> WatchedSink<K> {
    pub(crate) fn new(sink: K, watch: Arc<Watch>) -> Self {
        Self { sink, watch, watermark: None, prepared: None }
    }
}

impl<T, K: TransactionalSink<T>> TransactionalSink<T> for WatchedSink<K> {
    type Prepared = K::Prepared;
    type Error = K::Error;

    async fn write(&mut self, record: T, timestamp: Option<Timestamp>) -> Result<(), K::Error> {
        self.watch.note_output();
        self.sink.write(record, timestamp).await
    }

    fn watermark(&mut self, watermark: Timestamp) {
        self.watermark = self.watermark.max(Some(watermark));
        self.sink.watermark(watermark);
    }

    fn status(&mut self, status: Status) {
        self.watch.note_idle(status == Status::Idle);
        self.sink.status(status);
    }

    fn is_full(&self) -> bool {
        self.sink.is_full()
    }

    async fn pre_commit(&mut self, id: CheckpointId) -> Result<K::Prepared, K::Error> {
        self.prepared = self.watermark;
        self.sink.pre_commit(id).await
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &K::Prepared) -> Result<(), K::Error> {
        self.sink.commit(id, prepared).await?;
        if let Some(watermark) = self.prepared {
            self.watch.note_watermark(watermark);
        }
        Ok(())
    }

    async fn abort(&mut self, kept: Option<&K::Prepared>) -> Result<(), K::Error> {
        self.sink.abort(kept).await
    }
}

impl<K: fmt::Debug> fmt::Debug for WatchedSink<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedSink").field(&self.sink).finish()
    }
}

/// A store that tells the job its latest checkpoint, and whether it was fenced: made by
/// [`Partition::pipeline`](crate::Partition::pipeline).
pub struct WatchedStore<C> {
    store: C,
    watch: Arc<Watch>,
}

impl<C> WatchedStore<C> {
    pub(crate) fn new(store: C, watch: Arc<Watch>) -> Self {
        Self { store, watch }
    }
}

impl<C: CheckpointStore> WatchedStore<C> {
    fn note_error(&self, error: &C::Error) {
        // A pipeline that cannot do without the checkpoint ends without asking.
        if self.store.is_final(error) {
            self.watch.note_fenced();
        }
    }
}

impl<C: CheckpointStore> CheckpointStore for WatchedStore<C> {
    type Error = C::Error;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), C::Error> {
        let saved = self.store.save(id, bytes).await;
        match &saved {
            Ok(()) => self.watch.note_saved(id),
            Err(error) => {
                self.watch.note_failed_checkpoint();
                self.note_error(error);
            }
        }
        saved
    }

    fn is_final(&self, error: &C::Error) -> bool {
        self.store.is_final(error)
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<C::Error>> {
        let loaded = self.store.load_latest_into(buffer).await;
        match &loaded {
            Ok(Some(loaded)) => self.watch.note_checkpoint(loaded.id),
            Err(LoadError::Store(error)) => self.note_error(error),
            Ok(None) | Err(LoadError::BufferTooSmall { .. }) => {}
        }
        loaded
    }

    async fn load_latest(&mut self) -> Result<Option<Loaded>, C::Error> {
        let loaded = self.store.load_latest().await;
        match &loaded {
            Ok(Some(loaded)) => self.watch.note_checkpoint(loaded.id),
            Ok(None) => {}
            Err(error) => self.note_error(error),
        }
        loaded
    }
}

impl<C: fmt::Debug> fmt::Debug for WatchedStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedStore").field(&self.store).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::Waker;

    use inflight_core::pipeline::{MemorySink, MemoryTransaction, one_transaction};

    use super::*;

    fn ready<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(done) => done,
            Poll::Pending => panic!("nothing here waits"),
        }
    }

    #[test] // P3
    fn a_watermark_is_seen_when_the_output_before_it_is_committed() {
        let watch = Arc::new(Watch::new(0));
        let seen = || watch.view(()).watermark;
        let mut sink = WatchedSink::new(MemorySink::<u32>::new(), Arc::clone(&watch));
        let ends = |sink: &mut WatchedSink<_>, millis| {
            TransactionalSink::<u32>::watermark(sink, Timestamp::from_millis(millis));
        };
        ends(&mut sink, 5);
        let prepared = ready(sink.pre_commit(CheckpointId(1))).expect("it is in memory");
        ends(&mut sink, 9); // of the next checkpoint
        assert_eq!(seen(), None);
        ready(sink.commit(CheckpointId(1), &prepared)).expect("it is in memory");
        assert_eq!(seen(), Some(Timestamp::from_millis(5)));
        // The next life commits once more what this one has committed, and begins without a watermark.
        let mut sink = WatchedSink::new(MemorySink::<u32>::new(), Arc::clone(&watch));
        ready(sink.commit(CheckpointId(1), &0)).expect("it is in memory");
        assert_eq!(seen(), Some(Timestamp::from_millis(5)));
    }

    #[test] // P3
    fn checkpoints_that_fail_are_counted_until_one_is_saved() {
        let watch = Arc::new(Watch::new(0));
        let seen = || (watch.view(()).checkpoint, watch.view(()).failed_checkpoints);
        let (_sink, store) = one_transaction(MemoryTransaction::<u32>::new());
        let mut store = WatchedStore::new(store, Arc::clone(&watch));
        for failed in 1..=2 {
            assert!(ready(store.save(CheckpointId(1), b"")).is_err(), "nothing was claimed");
            assert_eq!(seen(), (None, failed));
        }
        ready(store.load_latest()).expect("it is in memory");
        ready(store.save(CheckpointId(1), b"")).expect("it is in memory");
        assert_eq!(seen(), (Some(CheckpointId(1)), 0));
    }
}
