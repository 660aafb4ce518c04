//! The example `enrich` from outside: the tests run it as a process, crash it, kill it, misuse it and feed it invalid
//! input, and compare its output with its input, line by line.
//!
//! `cargo test` builds the example. For this file alone: `cargo build --example enrich`, then
//! `cargo test --test enrich`.
#![allow(unreachable_pub, reason = "in a test, `pub` is for its other modules")]

#[path = "enrich/bad_input.rs"]
mod bad_input;
#[path = "enrich/crashes.rs"]
mod crashes;
#[cfg(unix)]
#[path = "enrich/hand_over.rs"]
mod hand_over;
#[path = "enrich/harness.rs"]
mod harness;
#[path = "enrich/judge.rs"]
mod judge;
#[cfg(unix)]
#[path = "enrich/kills.rs"]
mod kills;
#[path = "enrich/live_page.rs"]
mod live_page;
#[path = "enrich/lives.rs"]
mod lives;
#[path = "enrich/refusals.rs"]
mod refusals;
#[path = "enrich/service.rs"]
mod service;
#[cfg(unix)]
#[path = "enrich/signals.rs"]
mod signals;
#[cfg(unix)]
#[path = "enrich/terminal.rs"]
mod terminal;
