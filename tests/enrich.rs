//! The example `enrich` from outside: it is run as a process, crashed, killed, misused and fed with
//! nonsense, and what it wrote is compared with what it read, line by line.
//!
//! `cargo test` builds the example. For this file alone: `cargo build --example enrich`, then
//! `cargo test --test enrich`.
#![allow(unreachable_pub, reason = "in a test, `pub` is for its other modules")]

#[path = "enrich/bad_input.rs"]
mod bad_input;
#[path = "enrich/crashes.rs"]
mod crashes;
#[path = "enrich/harness.rs"]
mod harness;
#[path = "enrich/judge.rs"]
mod judge;
#[cfg(unix)]
#[path = "enrich/kills.rs"]
mod kills;
#[path = "enrich/refusals.rs"]
mod refusals;
#[path = "enrich/service.rs"]
mod service;
#[cfg(unix)]
#[path = "enrich/signals.rs"]
mod signals;
