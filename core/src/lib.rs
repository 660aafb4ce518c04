//! Asynchronous I/O for streams: many requests in flight, their outcomes in a chosen order, with timeouts, retries and
//! checkpoints. This crate is the core: it is `no_std`, needs no allocator unless asked to, and names no runtime.
//!
//! **Applications use the crate `inflight`**, which re-exports everything here and adds the adapters for tokio, smol and
//! embassy, the stores and the guide. Depend on `inflight-core` alone if you write a stream engine, a runtime adapter, a
//! store, or a library of your own on top.
//!
//! # Two doors
//!
//! * [`Stage`] is a stream: [`stream.async_wait(policy, function)`](AsyncWaitExt::async_wait) polls its source and its
//!   requests, and yields outcomes. It needs a [`Runtime`], which is a clock with a timer and, for stages and requests on
//!   tasks of their own, a [`Spawner`].
//! * [`Operator`] is the state machine below: it never polls, never spawns and never reads a clock. An engine with an event
//!   loop of its own tells it what has happened and asks it what to do next; time is an argument. The stage is built on it.
//!
//! Both are made from the same policy, [`AsyncWait`], and keep the same promises. The docs name them by their numbers in the
//! contract (C4, O3, T6 ..), which is a page of the guide in the crate `inflight`.
//!
//! # An operator in an event loop
//!
//! The outside world of this example is a list of completions, and its clock is a variable:
//!
//! ```
//! use core::time::Duration;
//! use inflight_core::{AsyncWait, Instant, StreamElement};
//!
//! # fn main() -> Result<(), inflight_core::ConfigError> {
//! let policy = AsyncWait::ordered(2).timeout(Duration::from_millis(50));
//! let mut operator = policy.build_fixed::<&str, usize, (), 2>()?;
//! let (mut now, mut running, mut output) = (Instant::ZERO, Vec::new(), Vec::new());
//! let mut input = ["Lima", "Atlantis", "Oslo"].into_iter().map(StreamElement::value);
//! let mut next = input.next();
//!
//! while next.is_some() || !operator.is_empty() {
//!     // 1. Take elements in. A full operator hands the element back, which is the backpressure.
//!     while let Some(element) = next.take() {
//!         match operator.push(now, element) {
//!             Ok(()) => next = input.next(),
//!             Err(full) => {
//!                 next = Some(full.into_inner());
//!                 break;
//!             }
//!         }
//!     }
//!     // 2. Start the attempts that may run now.
//!     while let Some(attempt) = operator.poll_attempt(now) {
//!         let takes = Duration::from_millis(if *attempt.input == "Atlantis" { 1_000 } else { 10 });
//!         running.push((now + takes, attempt.id, attempt.input.len()));
//!     }
//!     // 3. Sleep until a request ends or a deadline passes. Requests first: an answer in time wins.
//!     let wake_ups = running.iter().map(|(at, ..)| *at).chain(operator.poll_deadline());
//!     now = wake_ups.min().expect("something is in flight");
//!     for (_, id, answer) in running.extract_if(.., |(at, ..)| *at <= now) {
//!         operator.handle_completion(now, id, Ok(answer));
//!     }
//!     while let Some(expired) = operator.handle_deadline(now) {
//!         running.retain(|(_, id, _)| *id != expired.id()); // cancels the request
//!     }
//!     // 4. Hand the outcomes on.
//!     while let Some(element) = operator.poll_output() {
//!         if let StreamElement::Record { value: outcome, .. } = element {
//!             output.push((outcome.input, outcome.result.ok()));
//!         }
//!     }
//! }
//! assert_eq!(output, [("Lima", Some(4)), ("Atlantis", None), ("Oslo", Some(4))]);
//! # Ok(()) }
//! ```
//!
//! # Features
//!
//! Features only add.
//!
//! | feature | default | adds |
//! | --- | --- | --- |
//! | none | | operators and stages in place ([`Fixed`], [`WakeTable`]), with a capacity in the type and no allocator; one store in memory |
//! | `checkpoint` | yes | snapshots of operators and stages, which need `serde` and `postcard` |
//! | `alloc` | | storage on the heap (`Heap`), stages on tasks of their own (`SpawnedStage`); with `checkpoint` pipelines, and snapshots that are split and merged |
//!
//! # Where to read on
//!
//! * [`Operator`]: its contract, method by method, in a table.
//! * [`AsyncWait`]: all settings and their defaults. [`AsyncFunction`]: the user's side. [`RetryStrategy`]: retries.
//! * [`Runtime`], [`Timer`], [`Spawner`]: the numbered rules for a runtime adapter. The crate `inflight-conformance` tests
//!   them.
//! * [`CheckpointStore`]: the numbered rules for a store; [`envelope`] is the header of all stored bytes.
//! * With `alloc`, the module `pipeline`: a source, stages and a sink that survive crashes together.
//! * The guide for engines, capacities, orders and retries is in the docs of `inflight`, in its module `guide`; the program
//!   `examples/engine.rs` in the repository is an engine with real threads, and a crash half-way.
#![no_std]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![deny(unsafe_code)]
// only `requests/raw.rs` allows it
// Without snapshots, their format and what pipelines ask of a checkpoint are not used.
#![cfg_attr(not(feature = "checkpoint"), allow(dead_code))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(loom)] // for the model of what threads share
extern crate std;

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
mod barrier_signal;
mod batch_function;
mod checkpoint;
mod config_error;
mod element;
mod function;
mod operator;
mod outcome;
#[cfg(feature = "alloc")]
mod parallel;
#[cfg(feature = "alloc")]
mod permits;
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
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
mod tracked;

#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use barrier_signal::BarrierSignal;
pub use batch_function::AsyncBatchFunction;
pub use checkpoint::envelope;
pub use checkpoint::{Checkpoint, CheckpointError, CheckpointId};
pub use checkpoint::{
    CheckpointStore, FixedMemoryStore, LoadError, LoadedInto, MemoryStoreError, NullStore,
};
#[cfg(feature = "alloc")]
pub use checkpoint::{Loaded, MemoryStore};
pub use config_error::ConfigError;
pub use element::{
    Barrier, BarrierMode, Elements, IntoElement, Status, StreamElement, StreamKind, Values,
};
pub use function::{
    AsyncFunction, AttemptInfo, TimedOutCall, TimeoutAction, WithAttempt, WithTimeoutAction,
    with_attempt, with_timeout_action,
};
pub use operator::{
    Attempt, AttemptId, Batch, BatchAttempts, BatchId, Call, Cell, CellState, Checkpointing,
    Completion, Expired, Histogram, Metrics, Operator, PushError, RestoreError,
};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use operator::{merge_snapshots, split_snapshot};
pub use outcome::{DeadLetter, Failure, Outcome};
#[cfg(feature = "alloc")]
pub use parallel::{
    InParallel, InstanceFunctions, InstanceTask, Instances, OnInstance, OnInstances, ParallelExt,
    RequestOnInstance,
};
#[cfg(feature = "alloc")]
pub use permits::Permits;
pub use policy::{
    AdaptiveLimit, Aimd, AnyFailure, AsyncWait, BatchSize, Count, Extras, FinishPolicy, GivenKey,
    Gradient, JudgeBy, KeyBy, KeySelector, KeySource, LimitStrategy, OneAttemptPerKey, Order,
    Pausable, PauseOn, Rate, RateLimit, Sample, TimeoutBy, Unkeyed, Verdict, WeighBy, hash_key,
};
pub use records::{
    EndingWithWatermark, FilterMapRecords, FilterRecords, FlatMapRecords, MapRecords, OutcomesExt,
    RecordsExt, SplitOutcomes,
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
#[cfg(feature = "checkpoint")]
pub use stage::Restore;
pub use stage::{AsyncWaitExt, InBatches, Job, Next, SpawningRequests, StageBuilder, StartError};
#[cfg(feature = "alloc")]
pub use stage::{Driver, SpawnedStage, StageHandle, Window};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use stage::{PositionsOnly, Recovery, WithPositionIds};
pub use stage::{Run, Stage, StageError};
#[cfg(feature = "alloc")]
pub use storage::Heap;
pub use storage::{Fixed, Storage};
pub use time::{Instant, Timestamp};
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use tracked::{IntoTracked, Tracked};
