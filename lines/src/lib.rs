//! Files of lines, one JSON object each, say, as the source and the sink of a
//! [`Pipeline`](inflight_core::pipeline::Pipeline).
//!
//! ```
//! use inflight_core::pipeline::Pipeline;
//! use inflight_core::{AsyncWait, AsyncWaitExt, MemoryStore};
//! use inflight_lines::{Line, LineError, LineSink, LineSource};
//! # use inflight_smol::SmolLocal;
//! # use std::fs;
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let (input, output) = (folder.path().join("input"), folder.path().join("output"));
//! # fs::write(&input, b"one\ntwo\r\n\xff\nlast\n").unwrap();
//! # let executor = inflight_lines_doc::executor();
//! # let runtime = SmolLocal(&executor);
//! # futures_lite::future::block_on(executor.run(async {
//! let source = LineSource::open(&input)?;
//! let sink = LineSink::open(&output, |done: inflight_core::Outcome<Line, String, LineError>| {
//!     match done.result {
//!         Ok(answer) => Ok(answer),
//!         Err(failure) => Err(format!("{}: {failure}", done.input.number)), // a dead letter
//!     }
//! })?;
//! Pipeline::new(source, sink, MemoryStore::new()) // or a `FileStore`
//!     .run(runtime, |lines, checkpoint| {
//!         lines
//!             .async_wait(AsyncWait::ordered(100), |line: &Line| {
//!                 let text = line.text().map(str::to_uppercase); // ask somebody, really
//!                 async move { text }
//!             })
//!             .checkpointed("upper case", 1)
//!             .restore(checkpoint)
//!             .spawn(runtime)
//!     })
//!     .await?;
//! assert_eq!(fs::read_to_string(&output)?, "ONE\nTWO\nLAST\n");
//! let rejected = fs::read_to_string(folder.path().join("output.rejected"))?;
//! assert!(rejected.starts_with("3: line 3, at byte 9, is not UTF-8"));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # })).unwrap();
//! # mod inflight_lines_doc { pub fn executor() -> async_executor::LocalExecutor<'static> { async_executor::LocalExecutor::new() } }
//! ```
//!
//! # What it relies on
//!
//! * The input only grows. What was read is known again by its checksum when a checkpoint leads back; what is
//!   appended meanwhile is read, line by line: a last line [without its line feed](LineSource) is not. An
//!   input that has become shorter is an error; one that was cut, and has grown beyond what it was between
//!   two looks at it, is found out only by the next life.
//! * A sync that succeeds: the bytes are on the medium then, and a file's name is once its folder is
//!   synced (on systems other than Unix the file system has to keep names by itself).
//! * File locks, for an output has one owner. Not every network file system has them, and they bind only
//!   those who ask for them. Whoever cuts, replaces, deletes or lengthens the output nevertheless
//!   [ends the job](LineFile::check) at its next checkpoint; changes in place that leave its length are not
//!   seen. Who reads the output sees lines that are not committed yet, and after a crash others in their place: up
//!   to the length in the last checkpoint it stays as it is.
//!
//! Only Linux is tested. On Windows it is not expected to work yet: a file that is opened to append, as outputs are, cannot be
//! cut there, and a lock keeps others from reading as well.
//!
//! It runs on any async runtime: what may take long (reading, syncing) happens on the threads of the crate
//! `blocking`. Writes into the system's memory are done in place.
#![forbid(unsafe_code)]

mod error;
mod file;
mod identity;
mod input;
mod line;
mod sink;
mod source;

pub use error::LinesError;
pub use file::LineFile;
pub use line::{Line, LineError, Unreadable};
pub use sink::{Lengths, LineSink};
pub use source::{LineSource, Position};
