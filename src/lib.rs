#![doc = include_str!("../README.md")]
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

#[cfg(feature = "std")]
extern crate std;

#[cfg(feature = "callback")]
pub mod callback;
#[cfg(feature = "metrics")]
mod metrics;
#[cfg(feature = "settings")]
pub mod settings;
#[cfg(feature = "tower")]
mod tower;
#[cfg(feature = "tracing")]
mod tracing;

#[cfg(feature = "metrics")]
pub use self::metrics::StageMetrics;
#[cfg(feature = "tower")]
pub use self::tower::{FromService, ServiceCall, from_service};
#[cfg(feature = "tracing")]
pub use self::tracing::{TraceMetrics, Traced, TracedRequest, trace_outcome, traced};
#[cfg(feature = "console")]
pub use inflight_console as console;
pub use inflight_core::*;
#[cfg(feature = "embassy")]
pub use inflight_embassy::{Embassy, EmbassyAnyWaker, EmbassyTimer};
#[cfg(feature = "lines")]
pub use inflight_lines as lines;
#[cfg(feature = "partitions")]
pub use inflight_partitions as partitions;
#[cfg(feature = "smol")]
pub use inflight_smol::{Smol, SmolHandle, SmolLocal, SmolTimer};
#[cfg(feature = "file-store")]
pub use inflight_store_file::{FileStore, FileStoreError};
#[cfg(feature = "flash-store")]
pub use inflight_store_flash::{FlashStore, FlashStoreError};
#[cfg(feature = "object-store")]
pub use inflight_store_object::{ObjectCheckpointStore, ObjectStoreError};
#[cfg(feature = "postgres-store")]
pub use inflight_store_postgres::{PostgresError, PostgresJob, PostgresTransaction};
#[cfg(feature = "redb-store")]
pub use inflight_store_redb::{RedbFile, RedbStore, RedbStoreError};
#[cfg(feature = "tokio")]
pub use inflight_tokio::{Tokio, TokioHandle, TokioLocal, TokioTimer};

/// The types and traits of most programs: `use inflight::prelude::*`.
pub mod prelude {
    pub use inflight_core::{
        Aimd, AsyncBatchFunction, AsyncFunction, AsyncWait, AsyncWaitExt as _, AttemptInfo,
        Barrier, BarrierMode, Batch, BatchSize, Checkpoint, CheckpointError, CheckpointId,
        CheckpointStore, Checkpointing, ConfigError, ExponentialBackoff, Failure, FinishPolicy,
        Fixed, FixedDelay, Gradient, LimitStrategy, Metrics, NoRetry, Outcome, OutcomesExt as _,
        Rate, RecordsExt as _, RetryBudget, RetryStrategy, Sample, Stage, StageError, StartError,
        Status, StreamElement, TimedOutCall, TimeoutAction, Timestamp, Verdict, WakeTable,
        with_attempt, with_timeout_action,
    };
    #[cfg(feature = "alloc")]
    pub use inflight_core::{
        Instances, Loaded, MemoryStore, ParallelExt as _, Permits, SpawnedStage, StageHandle,
    };
    #[cfg(all(feature = "alloc", feature = "checkpoint"))]
    pub use inflight_core::{Recovery, Tracked};
    #[cfg(feature = "embassy")]
    pub use inflight_embassy::{Embassy, EmbassyAnyWaker};
    #[cfg(feature = "smol")]
    pub use inflight_smol::{Smol, SmolLocal};
    #[cfg(feature = "tokio")]
    pub use inflight_tokio::{Tokio, TokioLocal};
}

// The guide consists of pages alone, so only rustdoc compiles it.
#[cfg(all(any(doc, doctest), feature = "std"))]
pub mod guide;
