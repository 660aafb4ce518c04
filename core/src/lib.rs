//! The operator of inflight and the driver over it.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod checkpoint;
mod config;
mod deadlines;
#[cfg(feature = "alloc")]
mod driver;
mod element;
pub mod envelope;
mod function;
#[cfg(feature = "alloc")]
mod handoff;
mod operator;
mod outcome;
mod retry;
mod runtime;
#[cfg(feature = "alloc")]
mod slots;
mod storage;
#[cfg(feature = "alloc")]
mod store;
#[cfg(feature = "alloc")]
mod stream;
mod time;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointId};
pub use config::{AsyncWait, ConfigError};
#[cfg(feature = "alloc")]
pub use driver::Stage;
pub use element::{
    Barrier, BarrierMode, Elements, IntoElement, Plain, Shape, Status, StreamElement,
};
pub use function::{AsyncFunction, Attempt, WithAttempt, with_attempt};
#[cfg(feature = "alloc")]
pub use handoff::Spawned;
pub use operator::{Call, CallId, Completion, Expired, Full, Operator, RestoreError};
pub use outcome::{Failure, Outcome};
pub use retry::{
    Always, Exponential, ExponentialBackoff, FixedDelay, FixedSchedule, Never, NoRetry, Predicate,
    Retry, RetryStrategy, Schedule,
};
pub use runtime::{
    Gone, InPlace, Launch, NoRuntime, OnTasks, RequestInPlace, RequestOnTask, Runtime, Spawner,
    Timer,
};
#[cfg(feature = "alloc")]
pub use storage::Heap;
pub use storage::{Fixed, Storage};
#[cfg(feature = "alloc")]
pub use store::{CheckpointStore, Loaded, MemoryStore, NullStore};
#[cfg(feature = "alloc")]
pub use stream::{AsyncWaitExt, Driver, StartError, Unstarted};
pub use time::{Instant, Timestamp};
