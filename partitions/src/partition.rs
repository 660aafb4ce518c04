//! A partition in the hands of the function that makes its pipeline.

use std::fmt;
use std::sync::Arc;

use inflight_core::pipeline::Pipeline;

use crate::watch::Watch;
use crate::watched::{Watched, WatchedSink, WatchedStore};

/// A partition that is to run: the argument of the function that [`Partitions::run`](crate::Partitions::run) calls.
pub struct Partition<P> {
    id: P,
    watch: Arc<Watch>,
}

impl<P> Partition<P> {
    pub(crate) fn new(id: P, watch: Arc<Watch>) -> Self {
        Self { id, watch }
    }

    /// The partition's name, from the engine.
    pub fn id(&self) -> &P {
        &self.id
    }

    /// The partition's number in the job, below 1,024. The pipeline's request ids contain it (K17).
    pub fn number(&self) -> u16 {
        self.watch.number()
    }

    /// Makes the partition's pipeline, which has this partition's number, can be handed over by the job, and is seen in its
    /// [view](crate::JobView). Settings may be added, and it runs with either kind of checkpoint.
    ///
    /// The store has to be one that fences, and should be one transaction with the sink
    /// ([`one_transaction`](inflight_core::pipeline::one_transaction)): then an engine's wrong decision delays and does not damage (P3, P4).
    ///
    /// A partition whose function runs several pipelines, one after the other, makes each of them here. The job hands over the latest one,
    /// and those that are made afterwards.
    pub fn pipeline<S, K, C>(
        &self,
        source: S,
        sink: K,
        store: C,
    ) -> Pipeline<Watched<S>, WatchedSink<K>, WatchedStore<C>> {
        let source = Watched::new(source, Arc::clone(&self.watch));
        let sink = WatchedSink::new(sink, Arc::clone(&self.watch));
        let store = WatchedStore::new(store, Arc::clone(&self.watch));
        let pipeline = Pipeline::new(source, sink, store).partition(self.number());
        self.watch.set_stop(pipeline.stop_handle());
        pipeline
    }
}

impl<P: fmt::Debug> fmt::Debug for Partition<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Partition");
        shown.field("id", &self.id).field("number", &self.number()).finish_non_exhaustive()
    }
}
