//! The sink of the program `sqlite` keeps the rules of a pipeline's sink.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use inflight_pipeline_conformance::sink::{Capabilities, Check, Medium, Owners, check};
use rusqlite::Connection;
use tempfile::TempDir;

use self::sink::{SqliteError, SqliteSink};

#[path = "../../examples/sqlite/sink.rs"]
mod sink;

struct Database {
    path: PathBuf,
    _folder: Rc<TempDir>,
}

impl Database {
    fn new() -> Self {
        // In memory where there is such a folder: no test pulls the plug, and the suite opens hundreds of databases.
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { memory.into() } else { std::env::temp_dir() };
        let folder = Rc::new(tempfile::tempdir_in(folder).expect("a folder"));
        Self { path: folder.path().join("rows.db"), _folder: folder }
    }
}

impl Medium for Database {
    type Record = u64;
    type Sink = SqliteSink<fn(u64) -> u64, u64>;

    fn capabilities(&self) -> Capabilities {
        let owners = Owners::FirstRefused;
        Capabilities { is_ordered: true, owners, steps: 4, ..Capabilities::default() }
    }

    fn open(&mut self) -> Result<Self::Sink, SqliteError> {
        let schema = "CREATE TABLE IF NOT EXISTS rows (number INTEGER)";
        SqliteSink::open(
            &self.path,
            schema,
            |number| number,
            |transaction, number| {
                transaction
                    .execute("INSERT INTO rows VALUES (?1)", [number.cast_signed()])
                    .map(drop)
            },
        )
    }

    fn record(&mut self, number: u64) -> u64 {
        number
    }

    fn read(&mut self) -> Vec<u64> {
        let database = Connection::open(&self.path).expect("a database");
        let mut select =
            database.prepare("SELECT number FROM rows ORDER BY rowid").expect("a table");
        let rows = select.query_map([], |row| row.get::<_, i64>(0)).expect("rows");
        rows.map(|row| row.expect("a row").cast_unsigned()).collect()
    }
}

#[test] // K10, K15
fn the_sink_keeps_the_rules() {
    let report = check(Database::new).expect("the rules");
    assert_eq!(report.skipped, [Check::Vanished]);
}
