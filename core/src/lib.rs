//! The operator of inflight and the driver over it.
#![no_std]
#![deny(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;

mod checkpoint;
mod config;
mod deadlines;
mod element;
pub mod envelope;
mod function;
mod operator;
mod outcome;
mod retry;
mod storage;
#[cfg(feature = "alloc")]
mod store;
mod time;

pub use checkpoint::{Checkpoint, CheckpointError, CheckpointId};
pub use config::{AsyncWait, ConfigError};
pub use element::{
    Barrier, BarrierMode, Elements, IntoElement, Plain, Shape, Status, StreamElement,
};
pub use function::{AsyncFunction, Attempt, WithAttempt, with_attempt};
pub use operator::{Call, CallId, Completion, Expired, Full, Operator, RestoreError};
pub use outcome::{Failure, Outcome};
pub use retry::{
    Always, Exponential, ExponentialBackoff, FixedDelay, FixedSchedule, Never, NoRetry, Predicate,
    Retry, RetryStrategy, Schedule,
};
#[cfg(feature = "alloc")]
pub use storage::Heap;
pub use storage::{Fixed, Storage};
#[cfg(feature = "alloc")]
pub use store::{CheckpointStore, Loaded, MemoryStore, NullStore};
pub use time::{Instant, Timestamp};
