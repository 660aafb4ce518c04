//! Mistakes of the first hour, one a module. None of them compiles; `tests/mistakes.rs` of `inflight` reads what the compiler says.
#![cfg(feature = "mistakes")]
#![allow(unused, missing_docs)]

mod async_closure;
mod async_move_closure;
mod async_move_owned;
mod in_place_unpinned;
mod retry_twice;
mod stage_in_struct;
mod unstarted_collect;
mod unstarted_next;
mod unstarted_next_alone;

/// A client of some service.
struct Client;

#[derive(Debug)]
struct Busy;

impl Client {
    async fn get(&self, id: u64) -> Result<u64, Busy> {
        Ok(id)
    }
}
