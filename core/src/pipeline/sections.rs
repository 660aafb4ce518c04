//! The sections that the two ends of a pipeline put into a checkpoint.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::done::Done;
use crate::checkpoint::{Checkpoint, CheckpointError};

/// The source's position.
pub(super) const SOURCE: &str = "pipeline.source";
/// The sink's description of the output that it has pre-committed.
pub(super) const SINK: &str = "pipeline.sink";
/// The number of stages that the job has ever had, so that a new one gets request ids of its own.
pub(super) const STAGES: &str = "pipeline.stages";
/// The number of records before the source's position in the life of the job.
pub(super) const NUMBER: &str = "pipeline.number";
/// The records behind the source's position that are done, if there are some (K14).
pub(super) const DONE: &str = "pipeline.done";
/// The reason of the pipeline's end; in its last checkpoint only.
const END: &str = "pipeline.end";

/// The reason of a pipeline's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ended {
    /// The source has ended, and all its records are finished and committed.
    Finished,
    /// A [stop handle](super::StopHandle::drain) has drained the pipeline. The records in flight are finished and
    /// committed; the next run goes on with the next record.
    Stopped,
    /// The source failed. The records that it had handed out are finished and committed.
    SourceFailed,
    /// A [stop handle](super::StopHandle::hand_over) has handed the job over. The next run goes on with the records in flight.
    HandedOver,
}

impl Ended {
    pub(super) const ALL: [Self; 4] =
        [Self::Finished, Self::Stopped, Self::SourceFailed, Self::HandedOver];
}

/// The reason of the pipeline's end, from its last checkpoint; `None` in any other checkpoint. See
/// [`position`] for an example.
pub fn ended(checkpoint: &Checkpoint) -> Option<Ended> {
    read(checkpoint, END)
}

/// The position of the source, from a pipeline's checkpoint, for programs that inspect a checkpoint before they
/// run; `None` if there is no position of that type.
///
/// ```
/// use inflight_core::pipeline::{self, Ended, MemorySink, MemorySource, Pipeline};
/// use inflight_core::{AsyncWait, AsyncWaitExt, Checkpoint, CheckpointStore, MemoryStore};
/// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
/// # use std::{future::Future, pin::{Pin, pin}, task::{Context, Poll, Waker}};
/// # #[derive(Clone, Copy)] struct Still;
/// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
/// # impl Timer for Still {
/// #     fn now(&self) -> Instant { Instant::ZERO }
/// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
/// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// # }
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
/// #     for _ in 0..1_000 {
/// #         if let Poll::Ready(done) = future.as_mut().poll(&mut cx) { return done }
/// #     }
/// #     panic!("it does not end")
/// # }
/// # let runtime = Still;
///
/// # block_on(async {
/// let mut store = MemoryStore::new();
/// # let (mut sink, source) = (MemorySink::new(), MemorySource::new(1..=3_u64));
/// # Pipeline::new(source, &mut sink, &mut store).run(runtime, |numbers, recovery| {
/// #     numbers.async_wait(AsyncWait::ordered(2), |_: &u64| async { Ok::<_, ()>(()) })
/// #         .checkpointed("numbers", 1).restore(recovery).in_place(runtime)
/// # }).await?;
/// // .. a pipeline has run, and has left a checkpoint
/// let latest = store.load_latest().await?.ok_or("nothing was saved")?;
/// let checkpoint = Checkpoint::from_bytes(&latest.bytes)?;
/// assert_eq!(pipeline::ended(&checkpoint), Some(Ended::Finished));
/// assert_eq!(pipeline::position::<u64>(&checkpoint), Some(3)); // of a `MemorySource`
/// assert_eq!(pipeline::prepared::<u64>(&checkpoint), Some(3)); // of a `MemorySink`
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn position<P: DeserializeOwned>(checkpoint: &Checkpoint) -> Option<P> {
    read(checkpoint, SOURCE)
}

/// The sink's description of its pre-committed output, from a pipeline's checkpoint; `None` if there is none of
/// that type. See [`position`] for an example.
pub fn prepared<D: DeserializeOwned>(checkpoint: &Checkpoint) -> Option<D> {
    read(checkpoint, SINK)
}

/// Puts the source's position, the number of the first record behind it, and those from there on that are done.
pub(super) fn put_position<P: Serialize>(
    checkpoint: &mut Checkpoint,
    position: &P,
    number: u64,
    done: &Done,
) -> Result<(), CheckpointError> {
    put(checkpoint, SOURCE, position)?;
    put(checkpoint, NUMBER, &number)?;
    if done.is_empty() { Ok(()) } else { put(checkpoint, DONE, done) }
}

pub(super) fn put_end(checkpoint: &mut Checkpoint, end: Ended) -> Result<(), CheckpointError> {
    put(checkpoint, END, &end)
}

pub(super) fn put<T: Serialize>(
    checkpoint: &mut Checkpoint,
    name: &str,
    value: &T,
) -> Result<(), CheckpointError> {
    let bytes = postcard::to_allocvec(value).map_err(|_| CheckpointError::Serialize)?;
    checkpoint.put(name, &bytes)
}

pub(super) fn read<T: DeserializeOwned>(checkpoint: &Checkpoint, name: &str) -> Option<T> {
    // Bytes left over are the sign of another type, whose front happens to decode.
    let (value, rest) = postcard::take_from_bytes(checkpoint.section(name)?).ok()?;
    rest.is_empty().then_some(value)
}
