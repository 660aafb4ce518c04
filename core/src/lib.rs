//! The operator of inflight and the driver over it.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
// The format of snapshots, and what pipelines ask of a checkpoint.
#![cfg_attr(not(feature = "checkpoint"), allow(dead_code))] // only `requests/raw.rs` allows it

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(loom)] // for the model of what threads share
extern crate std;

mod checkpoint;
mod element;
mod function;
mod operator;
mod outcome;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub mod pipeline;
mod policy;
mod records;
mod requests;
mod retry;
mod runtime;
mod sizing;
mod stage;
mod storage;
#[cfg(feature = "alloc")]
mod sync;
mod time;

pub use checkpoint::envelope;
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointId};
pub use checkpoint::{
    CheckpointStore, FixedMemoryStore, LoadError, LoadedInto, MemoryStoreError, NullStore,
};
#[cfg(feature = "alloc")]
pub use checkpoint::{Loaded, MemoryStore};
pub use element::{
    Barrier, BarrierMode, Elements, IntoElement, Status, StreamElement, StreamKind, Values,
};
pub use function::{
    AsyncFunction, AttemptInfo, TimeoutAction, WithAttempt, WithTimeoutAction, with_attempt,
    with_timeout_action,
};
pub use operator::{
    Attempt, AttemptId, Call, Checkpointing, Completion, Expired, Histogram, Metrics, Operator,
    PushError, RestoreError,
};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use operator::{merge_snapshots, split_snapshot};
pub use outcome::{Failure, Outcome};
pub use policy::{
    AsyncWait, ConfigError, FinishPolicy, GivenKey, KeyBy, KeySelector, KeySource, Order, Unkeyed,
    hash_key,
};
pub use records::{
    DeadLetter, EndingWithWatermark, FilterMapRecords, FilterRecords, FlatMapRecords, MapRecords,
    OutcomesExt, RecordsExt, SplitOutcomes,
};
pub use requests::{StageStorage, WakeTable};
pub use retry::{
    Always, Exponential, ExponentialBackoff, FixedDelay, FixedSchedule, Never, NoRetry, Predicate,
    Retry, RetryAfter, RetryBudget, RetryStrategy, Schedule,
};
pub use runtime::{
    InPlace, JoinError, NoRuntime, RequestInPlace, RequestOnTask, RunRequest, Runtime, SpawnEach,
    Spawner, Timer,
};
pub use sizing::CapacityEstimate;
pub use stage::{AsyncWaitExt, Job, Next, SpawningRequests, StageBuilder, StartError};
#[cfg(feature = "alloc")]
pub use stage::{Driver, SpawnedStage, StageHandle};
pub use stage::{Run, Stage, StageError};
#[cfg(feature = "alloc")]
pub use storage::Heap;
pub use storage::{Fixed, Storage};
pub use time::{Instant, Timestamp};
