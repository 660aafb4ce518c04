//! Clients that block their thread (a synchronous database driver, a file, a C library): `tokio::task::spawn_blocking`, and on
//! smol the crate `blocking`.
//!
//! Take it when there is no asynchronous client. A request that blocks inside its future blocks the whole stage and
//! everything else on that thread. On a thread of its own it blocks nothing else.
//!
//! * `max_running` bounds the threads. Without it tokio starts up to 512, `blocking` up to 500; further requests wait, and
//!   their timeouts run.
//! * A timeout of the stage ends the wait for the client, but not the thread. Give the client itself a timeout that is a little
//!   shorter, or a client that hangs uses up the threads.
//! * A panic of the client is an error of its record.
//!
//! Computations that keep all cores busy are the matter of another recipe, with `rayon`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::gate::Gate;

/// The function of a stage on tokio.
async fn on_tokio(client: Arc<Client>, record: u32) -> Result<u32, ClientError> {
    let query = tokio::task::spawn_blocking(move || client.query(record));
    query.await.unwrap_or(Err(ClientError::Panicked))
}

/// The function of a stage on smol.
async fn on_smol(client: Arc<Client>, record: u32) -> Result<u32, ClientError> {
    let query = blocking::unblock(move || client.query(record));
    AssertUnwindSafe(query).catch_unwind().await.unwrap_or(Err(ClientError::Panicked))
}

#[derive(Debug, PartialEq)]
enum ClientError {
    Panicked,
    Hangs,
}

/// Blocks for record 0 until its gate is open, and panics for record 5.
struct Client {
    gate: Gate,
}

impl Client {
    fn query(&self, record: u32) -> Result<u32, ClientError> {
        match record {
            0 if !self.gate.pass() => Err(ClientError::Hangs),
            5 => panic!("a client that cannot do this"),
            _ => Ok(record * record),
        }
    }
}

mod tests {
    use async_executor::Executor;
    use futures_util::stream::{self, Stream, StreamExt};
    use inflight::prelude::*;

    use super::*;
    use crate::clock::simulated;
    use crate::gate::Key;

    async fn others_go_on(
        mut answers: impl Stream<Item = Outcome<u32, u32, ClientError>> + Unpin,
        gate: Key,
    ) {
        let mut others = Vec::new();
        for _ in 1..10 {
            let done = answers.next().await.expect("ten outcomes");
            let is_panic = done.result == Err(Failure::Error(ClientError::Panicked));
            assert!(if done.input == 5 {
                is_panic
            } else {
                done.result == Ok(done.input * done.input)
            });
            others.push(done.input);
        }
        others.sort();
        assert_eq!(others, Vec::from_iter(1..10), "while the client blocks for the first");

        drop(gate);
        let first = answers.next().await.expect("ten outcomes");
        assert_eq!((first.input, first.result), (0, Ok(0)));
        assert!(answers.next().await.is_none());
    }

    #[test]
    fn on_tokio_other_requests_go_on() {
        let (gate, key) = Gate::closed();
        simulated(async {
            let client = Arc::new(Client { gate });
            let answers = stream::iter(0..10)
                .async_wait(AsyncWait::unordered(4), move |record| {
                    on_tokio(client.clone(), *record)
                })
                .spawn(Tokio)
                .expect("a stage");
            others_go_on(answers, key).await;
        });
    }

    #[test]
    fn on_smol_other_requests_go_on() {
        let (gate, key) = Gate::closed();
        let client = Arc::new(Client { gate });
        let executor = Executor::new();
        futures_lite::future::block_on(executor.run(async {
            let answers = stream::iter(0..10)
                .async_wait(AsyncWait::unordered(4), move |record| on_smol(client.clone(), *record))
                .spawn(Smol(&executor))
                .expect("a stage");
            others_go_on(answers, key).await;
        }));
    }
}
