//! A job over the partitions of a log: a pipeline for each partition that an engine assigns to this worker.
#![forbid(unsafe_code)]

mod assignment;

pub use assignment::{Assignment, Change};
