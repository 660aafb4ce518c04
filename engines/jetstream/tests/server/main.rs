//! The source, the transaction and the leases against a real server: owners that are killed and frozen, answers that are lost, and the
//! server itself that crashes.

// Signals and process groups.
#![cfg(target_os = "linux")]

mod assignment;
mod calls;
mod cluster;
mod conformance;
mod job;
mod numbers;
mod owners;
mod proxy;
mod server;
