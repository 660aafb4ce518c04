//! Files of lines (for example one JSON object per line) as the source and the sink of a
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
//!     .run(runtime, |lines, recovery| {
//!         lines
//!             .async_wait(AsyncWait::ordered(100), |line: &Line| {
//!                 let text = line.text().map(str::to_uppercase); // ask somebody, really
//!                 async move { text }
//!             })
//!             .checkpointed("upper case", 1)
//!             .restore(recovery)
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
//! # Assumptions
//!
//! * The input only grows. A restart compares the checksum of the bytes that were read. Appended lines are
//!   read when they are complete; a last line [without its line feed](LineSource) is not. An input that has
//!   become shorter is an error. If the input was cut and has grown beyond its old length between two checks,
//!   only the next life of the process detects it.
//! * A successful sync puts the bytes on the medium, and a sync of the folder puts the file's name there (on
//!   systems other than Unix the file system has to keep names by itself).
//! * File locks work, because an output has one owner. Not every network file system has locks, and a lock
//!   binds only programs that check it. If another program cuts, replaces, deletes or lengthens the output in
//!   spite of the lock, the job [ends](LineFile::check) at its next checkpoint; changes in place that keep
//!   the length are not detected. A reader of the output sees lines that are not committed yet, and that
//!   other lines may replace after a crash. The part up to the length in the last checkpoint does not change.
//!
//! Only Linux is tested. Windows is not expected to work yet: a file that is opened to append, as outputs
//! are, cannot be cut there, and a lock prevents reading as well.
//!
//! It runs on any async runtime: reads and syncs run on the threads of the crate `blocking`, because they may
//! take long. Writes into the system's memory are done in place.
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
