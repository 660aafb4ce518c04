//! The crate against brokers: librdkafka's own mock, and two servers that `servers` installs. Each promise is tested with the one
//! that can break it.

// Signals and /proc.
#![cfg(target_os = "linux")]

mod broker;
mod calls;
mod conformance;
mod group;
mod jobs;
mod owner;
mod owners;
mod source;
mod topic;
mod unfenced;
