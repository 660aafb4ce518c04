//! A client that blocks its thread (synchronous driver, C library, files), on tokio and on smol: `spawn_blocking`, `unblock`.
//!
//! ```text
//! cargo run --example blocking_client
//! ```
//!
//! A request that blocks inside its future holds up the whole stage and everything else on that thread. On a thread of its own
//! it blocks nothing else.
//!
//! * `max_running` bounds the threads. Without it tokio starts up to 512 and smol up to 500; further requests wait, and their
//!   timeouts run.
//! * A timeout of the stage ends the wait for the client, but not the thread. Give the client itself a timeout that is a little
//!   shorter, or a client that hangs uses up the threads.
//! * A panic of the client is an error of its record.
//!
//! Computations that keep all cores busy are another recipe, with `rayon`: `examples/recipes/tests/recipes/computation.rs`.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream;
use futures::{FutureExt, Stream, StreamExt};
use inflight::prelude::*;

/// The function of a stage on tokio.
async fn on_tokio(client: Arc<Client>, record: u32) -> Result<u32, ClientError> {
    let query = tokio::task::spawn_blocking(move || client.query(record));
    query.await.unwrap_or(Err(ClientError::Panicked))
}

/// The function of a stage on smol.
async fn on_smol(client: Arc<Client>, record: u32) -> Result<u32, ClientError> {
    let query = smol::unblock(move || client.query(record));
    AssertUnwindSafe(query).catch_unwind().await.unwrap_or(Err(ClientError::Panicked))
}

#[derive(Debug, PartialEq)]
enum ClientError {
    Panicked,
    Hangs,
}

/// Stands for a driver. It blocks for record 0 until the key is dropped, and panics for record 5.
struct Client {
    gate: Mutex<Receiver<()>>,
}

/// Opens the client's gate when it is dropped.
type Key = Sender<()>;

impl Client {
    fn new() -> (Arc<Self>, Key) {
        let (key, gate) = channel();
        (Arc::new(Self { gate: Mutex::new(gate) }), key)
    }

    fn query(&self, record: u32) -> Result<u32, ClientError> {
        match record {
            0 => {
                let gate = self.gate.lock().map_err(|_| ClientError::Panicked)?;
                match gate.recv_timeout(Duration::from_secs(10)) {
                    Err(RecvTimeoutError::Disconnected) => Ok(0),
                    _ => Err(ClientError::Hangs), // the thread that has the key is blocked itself
                }
            }
            5 => panic!("a client that cannot do this"),
            _ => Ok(record * record),
        }
    }
}

/// Takes the outcomes of ten records: of nine while the client blocks for the first.
async fn check(mut answers: impl Stream<Item = Outcome<u32, u32, ClientError>> + Unpin, key: Key) {
    let mut others: Vec<_> = answers.by_ref().take(9).collect().await;
    others.sort_by_key(|done| done.input);
    assert!(others.iter().map(|done| done.input).eq(1..10), "while record 0 blocks its thread");
    for done in others {
        match done.input {
            5 => assert_eq!(done.result, Err(Failure::Error(ClientError::Panicked))),
            n => assert_eq!(done.result, Ok(n * n)),
        }
    }

    drop(key);
    let last = answers.next().await.expect("the first record");
    assert_eq!((last.input, last.result), (0, Ok(0)));
    assert!(answers.next().await.is_none());
}

fn policy() -> AsyncWait {
    AsyncWait::unordered(100).max_running(4) // four threads
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (client, key) = Client::new();
    tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
        let answers = stream::iter(0..10)
            .async_wait(policy(), move |record| on_tokio(client.clone(), *record))
            .spawn(Tokio)?;
        check(answers, key).await;
        Ok::<_, StartError>(())
    })?;

    let (client, key) = Client::new();
    let executor = smol::Executor::new();
    smol::block_on(executor.run(async {
        let answers = stream::iter(0..10)
            .async_wait(policy(), move |record| on_smol(client.clone(), *record))
            .spawn(Smol(&executor))?;
        check(answers, key).await;
        Ok::<_, StartError>(())
    }))?;
    println!(
        "blocking_client: PASS, nine records did not wait for the one that blocked, on tokio and on smol"
    );
    Ok(())
}
