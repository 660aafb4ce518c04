//! SQLite as a pipeline's output, with one transaction a checkpoint (exactly once into a database, upsert, sink): `rusqlite`.
//!
//! ```text
//! cargo run -p inflight-recipes --example sqlite
//! ```
//!
//! `sqlite/sink.rs` is a sink to copy. Rows wait in memory until the next checkpoint and travel in it. When it is durable, one
//! transaction inserts its rows and notes its number. If a crash comes between the two, the next life commits that checkpoint
//! once more, or finds its number noted and inserts nothing. So each row is in the table once, and a reader never sees a row
//! that a crash takes back.
//!
//! For PostgreSQL there is the feature `postgres-store`, which keeps output and checkpoints in one transaction.
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

mod sink;

use std::error::Error;
use std::future::pending;
use std::path::Path;
use std::time::Duration;

use inflight::FileStore;
use inflight::pipeline::{Ended, MemorySource, Pipeline, StopHandle};
use inflight::prelude::*;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};

use self::sink::SqliteSink;

const RECORDS: u32 = 200;

#[derive(Debug)]
struct Unknown;

async fn name(customer: u32, service: Service) -> Result<String, Unknown> {
    tokio::time::sleep(Duration::from_millis(2)).await; // a real program asks a service here
    match customer {
        13 => Err(Unknown),
        150 if service == Service::Hangs => pending().await,
        _ => Ok(format!("customer {customer}")),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Service {
    Works,
    /// It has no answer for customer 150, so the job does not get further.
    Hangs,
}

/// A row of the table. It travels in checkpoints.
#[derive(Clone, Serialize, Deserialize)]
struct Row {
    id: u32,
    name: Option<String>,
}

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS customers (id INTEGER, name TEXT)";

/// A life of the job, until `stop` ends it or the last record is done.
async fn run(
    folder: &Path,
    service: Service,
    stop: impl AsyncFnOnce(StopHandle),
) -> Result<Ended, Box<dyn Error>> {
    let row = |done: Outcome<u32, String, Unknown>| Row { id: done.input, name: done.result.ok() };
    let sink =
        SqliteSink::open(&folder.join("customers.db"), SCHEMA, row, |transaction, row: &Row| {
            let mut insert = transaction.prepare_cached("INSERT INTO customers VALUES (?1, ?2)")?;
            insert.execute((row.id, &row.name)).map(drop)
        })?;
    let source = MemorySource::new(0..RECORDS); // a real program reads a file or a log
    let pipeline = Pipeline::new(source, sink, FileStore::open(folder.join("checkpoints"))?)
        .every_records(40)
        .interval(Duration::from_millis(50)); // a second is usual
    let stop_handle = pipeline.stop_handle();
    let running = pipeline.run(Tokio, |customers, recovery| {
        customers
            .async_wait(AsyncWait::ordered(20), move |customer| name(*customer, service))
            .checkpointed("name", 1)
            .restore(recovery)
            .spawn(Tokio)
    });
    let (ended, ()) = tokio::join!(running, stop(stop_handle));
    Ok(ended?)
}

/// The number of rows, of different customers, and of customers without a name.
fn rows(folder: &Path) -> rusqlite::Result<(u32, u32, u32)> {
    let database = Connection::open(folder.join("customers.db"))?;
    let count =
        "SELECT count(*), count(DISTINCT id), count(*) FILTER (WHERE name IS NULL) FROM customers";
    database.query_row(count, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;

    let folder = folder.path();
    let half = async || {
        while rows(folder).is_ok_and(|rows| rows.0 < 150) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    // A life that is killed: dropping its future has the same effect.
    tokio::select! {
        ended = run(folder, Service::Hangs, async |_stop| pending().await) => { ended?; }
        () = async { tokio::time::sleep(Duration::from_millis(20)).await; half().await } => {}
    }
    println!("killed with {} rows", rows(folder)?.0);

    // One that ends at once and leaves the records in flight to the next one.
    let ended = run(folder, Service::Hangs, async |stop| {
        half().await;
        stop.hand_over();
    });
    assert_eq!(ended.await?, Ended::HandedOver);
    assert_eq!(rows(folder)?, (150, 150, 1), "all before the customer without an answer");

    assert_eq!(run(folder, Service::Works, async |_stop| {}).await?, Ended::Finished);
    assert_eq!(rows(folder)?, (RECORDS, RECORDS, 1), "each customer once");
    println!("sqlite: PASS, {RECORDS} rows over three lives, each once");
    Ok(())
}
