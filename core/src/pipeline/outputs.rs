//! The end of the stages, as the sink's end of a pipeline sees it.

use alloc::vec::Vec;
use core::pin::Pin;
use core::task::{Context, Poll};

use futures_core::Stream;
use pin_project_lite::pin_project;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::element::StreamElement;

/// The elements that come out of the last stage.
pub(super) trait Outputs {
    /// The value that the sink writes.
    type Value;

    /// The next element; or the reason why no checkpoint can be complete any more.
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Self::Value>, CheckpointError>>>;

    /// Whether this end cannot do for long without a checkpoint.
    fn wants_checkpoint(self: Pin<&mut Self>) -> bool {
        false
    }

    /// A barrier has arrived, and its checkpoint gets what this end knows of the source's position. Returns elements that have waited
    /// for this moment and belong to the checkpoint. Called for each barrier that arrives, also if its checkpoint has failed, and then
    /// they belong to the next one.
    fn complete(
        self: Pin<&mut Self>,
        checkpoint: &mut Checkpoint,
    ) -> Vec<StreamElement<Self::Value>>;
}

pin_project! {
    /// Outputs of stages that take snapshots. The source has put its position into the barrier.
    pub(super) struct Plain<St> {
        #[pin]
        pub(super) stages: St,
    }
}

impl<St: Stream<Item = StreamElement<T>>, T> Outputs for Plain<St> {
    type Value = T;

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<T>, CheckpointError>>> {
        self.project().stages.poll_next(cx).map(|element| element.map(Ok))
    }

    fn complete(self: Pin<&mut Self>, _: &mut Checkpoint) -> Vec<StreamElement<T>> {
        Vec::new()
    }
}
