//! The operator of inflight and the driver over it.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(loom)] // for the model of what threads share
extern crate std;

mod checkpoint;
mod config;
#[cfg(feature = "alloc")]
mod control;
mod deadlines;
mod driver;
mod element;
pub mod envelope;
mod function;
#[cfg(feature = "alloc")]
mod handoff;
mod keys;
mod metrics;
mod operator;
mod outcome;
#[cfg(feature = "alloc")]
pub mod pipeline;
mod records;
mod requests;
mod retry;
mod runtime;
mod sizing;
mod slots;
mod sort;
mod storage;
mod store;
mod stream;
#[cfg(feature = "alloc")]
mod sync;
mod time;
#[cfg(feature = "alloc")]
mod wake;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointId};
pub use config::{
    AsyncWait, ByKey, ConfigError, FinishPolicy, GivenKey, KeyOf, KeySource, NoKey, hash_key,
};
#[cfg(feature = "alloc")]
pub use control::StageHandle;
#[cfg(feature = "alloc")]
pub use driver::Driver;
pub use driver::{Run, Stage, StageError};
pub use element::{
    Barrier, BarrierMode, Elements, IntoElement, Plain, Shape, Status, StreamElement,
};
pub use function::{
    AsyncFunction, Attempt, WithAttempt, WithTimeoutAction, with_attempt, with_timeout_action,
};
#[cfg(feature = "alloc")]
pub use handoff::Spawned;
pub use metrics::{Histogram, Metrics};
pub use operator::{
    Call, CallId, Checkpointing, Completion, Expired, Full, Operator, RestoreError, TimeoutAction,
};
#[cfg(feature = "alloc")]
pub use operator::{merge_snapshots, split_snapshot};
pub use outcome::{Failure, Outcome};
pub use records::{
    DeadLetter, EndingWithWatermark, FilterMapRecords, FilterRecords, FlatMapRecords, MapRecords,
    OutcomesExt, RecordsExt, SplitOutcomes,
};
pub use requests::{StageStorage, WakeTable};
pub use retry::{
    Always, Dictate, Exponential, ExponentialBackoff, FixedDelay, FixedSchedule, Never, NoRetry,
    Predicate, Retry, RetryBudget, RetryStrategy, Schedule,
};
pub use runtime::{
    Gone, InPlace, Launch, NoRuntime, OnTasks, RequestInPlace, RequestOnTask, Runtime, Spawner,
    Timer,
};
pub use sizing::Load;
#[cfg(feature = "alloc")]
pub use storage::Heap;
pub use storage::{Fixed, Storage};
pub use store::{
    CheckpointStore, FixedMemoryStore, LoadError, LoadedInto, MemoryStoreError, NullStore,
};
#[cfg(feature = "alloc")]
pub use store::{Loaded, MemoryStore};
pub use stream::{AsyncWaitExt, Next, StartError, Unstarted};
pub use time::{Instant, Timestamp};
