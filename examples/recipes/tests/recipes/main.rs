//! Recipes: what other crates do well, as the function, the client or the source of a stage.
//!
//! Recipes that run by themselves are programs, in `examples/`; `programs.rs` runs them, and the tests of the same name check
//! what a program does not show. The others have the recipe at the beginning of their file, and behind it the tests that
//! it keeps its promise. The guide has a page about them: docs/guide/recipes.md.
#![allow(missing_docs, unreachable_pub)]

#[cfg(target_os = "linux")] // as the server's script
mod batch_lookup;
mod cache;
mod clock;
mod computation;
#[cfg(target_os = "linux")] // as the server's script
mod database;
mod gate;
mod hedge;
mod http;
mod inference;
mod limits;
mod model_service;
#[cfg(target_os = "linux")]
mod network;
mod priority;
mod programs;
mod sqlite;

#[allow(dead_code, reason = "they need less of it")]
#[cfg(target_os = "linux")]
#[path = "../../../../stores/postgres/tests/server/server.rs"]
mod server;
