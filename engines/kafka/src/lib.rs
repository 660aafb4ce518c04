//! Under construction.
#![forbid(unsafe_code)]

mod blocking;
mod client;
mod error;
mod fetcher;
mod group;
mod metadata;
mod record;
mod source;
mod transaction;
mod writer;

pub use client::{KafkaClient, KafkaJob};
pub use error::{KafkaJobError, WriteError};
pub use group::KafkaGroup;
pub use record::{KafkaRecord, Message};
pub use source::KafkaSource;
pub use transaction::KafkaTransaction;
