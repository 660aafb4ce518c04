//! The tables and the clients of the tests.

use tokio_postgres::{Client, Config, NoTls};

use crate::server::Server;

impl Server {
    pub(crate) fn config(&self) -> Config {
        config(self.port)
    }

    /// A client with an empty table for the outputs of a job.
    pub(crate) async fn table(&self, job: &str) -> Table {
        let table = Table::open(self, job).await;
        let create = format!("CREATE TABLE out_{job} (id bigserial, n bigint NOT NULL)");
        table.client.batch_execute(&create).await.expect("a new table");
        table
    }
}

pub(crate) fn config(port: u16) -> Config {
    let mut config = Config::new();
    config.host("127.0.0.1").port(port).user("postgres").dbname("postgres");
    config
}

pub(crate) async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.expect("a connection");
    tokio::spawn(connection);
    client
}

/// The outputs of a job. No key keeps a number from being in it twice.
pub(crate) struct Table {
    pub(crate) client: Client,
    name: String,
    pub(crate) job: String,
}

impl Table {
    /// With a new client.
    pub(crate) async fn open(server: &Server, job: &str) -> Self {
        let client = connect(&server.config()).await;
        Self { client, name: format!("out_{job}"), job: job.to_owned() }
    }

    /// The numbers, in the order in which they were written.
    pub(crate) async fn numbers(&self) -> Vec<i64> {
        let select = format!("SELECT n FROM {} ORDER BY id", self.name);
        let rows = self.client.query(&select, &[]).await.expect("the table");
        rows.iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn expect(&self, numbers: u64) {
        let found = self.numbers().await;
        let expected: Vec<_> = (0..numbers as i64).collect();
        let differs = found.iter().zip(&expected).position(|(found, expected)| found != expected);
        let len = found.len();
        assert!(
            found == expected,
            "{len} numbers of {numbers}, the first difference at {differs:?}"
        );
    }

    /// Waits until there are so many.
    pub(crate) async fn wait_for(&self, numbers: usize) {
        while self.numbers().await.len() < numbers {
            tokio::task::yield_now().await;
        }
    }

    /// The job's row: its owner and its checkpoint.
    pub(crate) async fn row(&self) -> (i64, Option<i64>, Option<Vec<u8>>) {
        let select = "SELECT owner, checkpoint_id, checkpoint FROM inflight_jobs WHERE job = $1";
        let row = self.client.query_one(select, &[&self.job]).await.expect("the row");
        (row.get(0), row.get(1), row.get(2))
    }
}
