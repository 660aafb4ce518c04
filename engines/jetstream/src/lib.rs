//! NATS JetStream for inflight.
#![forbid(unsafe_code)]

mod assignment;
mod batch;
mod checkpoint;
mod error;
mod reader;
mod server;
mod source;
mod stream;
mod subject;
mod transaction;

pub use assignment::{JetStreamAssignment, JetStreamLeases};
pub use batch::Message;
pub use error::{BoxError, JetStreamError};
pub use source::{JetStreamSource, Record};
pub use stream::output_stream;
pub use transaction::{JetStreamJob, JetStreamTransaction};
