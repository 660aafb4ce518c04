//! The suite for all stores, over the store half.

use std::future::{Ready, ready};
use std::sync::atomic::{AtomicU32, Ordering};

use inflight_core::CheckpointStore;
use inflight_core::pipeline::{Output, StoreHalf, StoreHalfError, one_transaction};
use inflight_store_conformance::{Capabilities, Check, Medium, Owners, check};
use inflight_store_postgres::{PostgresError, PostgresJob, PostgresTransaction, WriteError};
use tokio::runtime::{Handle, Runtime};
use tokio_postgres::{NoTls, Transaction};

use crate::owner::LIMIT;
use crate::postgres::connect;
use crate::server::Server;

/// A table of jobs of its own.
struct OwnTable {
    server: &'static Server,
    name: String,
}

impl OwnTable {
    fn new(server: &'static Server) -> Self {
        static TABLES: AtomicU32 = AtomicU32::new(0);
        let name = format!("suite_{}", TABLES.fetch_add(1, Ordering::Relaxed));
        Self { server, name }
    }

    fn rename(&self, from: &str, to: &str) {
        let rename = format!("ALTER TABLE {}{from} RENAME TO {}{to}", self.name, self.name);
        Handle::current().block_on(async {
            connect(&self.server.config()).await.batch_execute(&rename).await.unwrap();
        });
    }
}

type Write = fn(&Transaction<'_>, &[Output<()>]) -> Ready<Result<(), WriteError>>;

impl Medium for OwnTable {
    type Store = StoreHalf<(), PostgresTransaction<NoTls, Write>>;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 1,
            durable: true,
            owners: Owners::FirstRefused,
            vanishes: true,
            ..Capabilities::default()
        }
    }

    fn open(&mut self) -> Result<Self::Store, StoreHalfError<PostgresError>> {
        let job = PostgresJob::new(self.server.config(), NoTls, "suite").table(&self.name);
        let write: Write = |_, _| ready(Ok(()));
        let (_, mut store) = one_transaction(job.limit(LIMIT).writing(write));
        Handle::current().block_on(store.load_latest())?;
        Ok(store)
    }

    fn take_away(&mut self) {
        self.rename("", "_away");
    }

    fn bring_back(&mut self) {
        self.rename("_away", "");
    }
}

// K9
#[test]
fn the_store_half_is_a_store() {
    let Some(server) = Server::shared() else { return };
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let report = check(|| OwnTable::new(server)).unwrap();
    // Nothing below the database is touched here: its pages and its disk are its own matter.
    let not_possible = [Check::Retention, Check::Limit, Check::Torn, Check::Flipped, Check::Full];
    assert_eq!(report.skipped, not_possible);
}
