//! The transaction against a real server: owners that are killed, frozen and cut off, and the server itself that crashes. The
//! output has each number once and in order.

// Signals, process groups and /proc.
#![cfg(target_os = "linux")]

mod calls;
mod conformance;
mod owner;
mod owners;
mod postgres;
mod proxy;
mod server;
mod wrappers;
