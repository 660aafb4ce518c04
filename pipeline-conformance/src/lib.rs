//! The conformance suites for the two ends of a pipeline: [`sink`] for every
//! [`TransactionalSink`](inflight_core::pipeline::TransactionalSink), [`source`] for every
//! [`ReplayableSource`](inflight_core::pipeline::ReplayableSource) and its
//! [`Acknowledge`](inflight_core::pipeline::Acknowledge).
//!
//! The docs of these traits number the rules of an implementation. A [`sink::Check`] or [`source::Check`] names the rule that it
//! checks.
//!
//! The test of a sink or of a source implements a `Medium`: the place of the output or of the input, over which the suite opens
//! one life of a job after the other. The medium's `Capabilities` say what the suite may do to it, and how strict it may be. The
//! suite leaves out what is impossible, and the `Report` lists it, so that the test can verify that nothing is left out by mistake.
//!
//! The suites block, and wait for futures on the calling thread. For a sink over tokio, call them with the runtime
//! [entered](https://docs.rs/tokio/latest/tokio/runtime/struct.Runtime.html#method.enter).
//!
//! A sink:
//!
//! ```
//! use std::{cell::RefCell, convert::Infallible, rc::Rc};
//! use inflight_core::pipeline::TransactionalSink;
//! use inflight_core::{CheckpointId, Timestamp};
//! use inflight_pipeline_conformance::sink::{Capabilities, Check, Medium, Visible, check};
//!
//! /// A table in which a key replaces its row.
//! #[derive(Clone, Default)]
//! struct Table(Rc<RefCell<std::collections::BTreeSet<u64>>>);
//!
//! impl TransactionalSink<u64> for Table {
//!     type Prepared = ();
//!     type Error = Infallible;
//!
//!     async fn write(&mut self, key: u64, _: Option<Timestamp>) -> Result<(), Infallible> {
//!         self.0.borrow_mut().insert(key);
//!         Ok(())
//!     }
//!     async fn pre_commit(&mut self, _: CheckpointId) -> Result<(), Infallible> { Ok(()) }
//!     async fn commit(&mut self, _: CheckpointId, _: &()) -> Result<(), Infallible> { Ok(()) }
//!     async fn abort(&mut self, _: Option<&()>) -> Result<(), Infallible> { Ok(()) }
//! }
//!
//! impl Medium for Table {
//!     type Record = u64;
//!     type Sink = Self;
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { visible: Visible::Keyed, ..Capabilities::default() }
//!     }
//!     fn open(&mut self) -> Result<Self, Infallible> { Ok(self.clone()) }
//!     fn record(&mut self, number: u64) -> u64 { number }
//!     fn read(&mut self) -> Vec<u64> { self.0.borrow().iter().copied().collect() }
//! }
//!
//! let report = check(Table::default).unwrap();
//! assert!(report.skipped.contains(&Check::Foreign)); // an idempotent sink overwrites rows with the same rows
//! ```
//!
//! A source:
//!
//! ```
//! use inflight_core::pipeline::MemorySource;
//! use inflight_pipeline_conformance::source::{Capabilities, Check, Medium, check};
//!
//! struct Numbers;
//!
//! impl Medium for Numbers {
//!     type Source = MemorySource<u64>;
//!
//!     fn capabilities(&self) -> Capabilities {
//!         Capabilities { records: 5, ends: true, ..Capabilities::default() }
//!     }
//!     fn source(&mut self) -> MemorySource<u64> { MemorySource::new(0..5) }
//! }
//!
//! let report = check(|| Numbers).unwrap();
//! assert!(report.passed.contains(&Check::Positions));
//! ```
#![forbid(unsafe_code)]

mod drive;
mod report;
pub mod sink;
pub mod source;
mod stored;

pub use report::{Report, Violation};

/// The result of a check: a description of what is wrong.
type Verdict<T = ()> = Result<T, String>;

/// For `map_err`: puts a description before the error.
fn told<E: std::fmt::Debug>(what: impl ToString) -> impl FnOnce(E) -> String {
    move |error| format!("{}: {error:?}", what.to_string())
}
