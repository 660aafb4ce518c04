//! A job over the shards of a Kinesis stream: an HTTP endpoint is asked for each record, and the answers go into another stream.
//!
//! ```text
//! ./up                              # an emulator of Kinesis, on loopback
//! cargo run --release -- --try      # records, resharding and kills; compares every answer
//! ./down
//! ```
//!
//! [`job::run`] is the heart. Each module has one subject:
//!
//! * `options`, `client`: the command line; the client of Kinesis.
//! * `graph`, `shards`: which shards may begin; the job's assignment.
//! * `reader`, `source`: a shard, read from any point; the pipeline's source.
//! * `sink`, `record`: the pipeline's sink; records, answers, and how a reader recognises one that comes again.
//! * `ask`, `service`: the client of the endpoint, and an endpoint to try it with.
//! * `patience`, `causes`: calls of Kinesis that are made again; errors for people.
//! * `rehearsal`: `--try`.
#![forbid(unsafe_code)]

pub mod ask;
pub mod causes;
pub mod client;
pub mod graph;
pub mod job;
pub mod options;
pub mod patience;
pub mod reader;
pub mod record;
pub mod rehearsal;
pub mod service;
pub mod shards;
pub mod sink;
pub mod source;
