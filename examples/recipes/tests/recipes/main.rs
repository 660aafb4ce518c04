//! Recipes: what other crates do well, as the function, the client or the source of a stage.
//!
//! Each file begins with the words of its problem and says when to take the recipe. The recipe itself comes first, and the
//! tests that it keeps its promise behind it. The guide has a page about them: docs/guide/recipes.md.
#![allow(missing_docs, unreachable_pub)]

#[cfg(target_os = "linux")] // as the server's script
mod batch_lookup;
mod blocking_client;
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

#[allow(dead_code, reason = "they need less of it")]
#[cfg(target_os = "linux")]
#[path = "../../../../stores/postgres/tests/server/server.rs"]
mod server;
