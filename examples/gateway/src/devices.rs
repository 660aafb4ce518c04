//! The devices in the database.

use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use anyhow::Context;
use deadpool_postgres::{Manager, Object, Pool, PoolError, Runtime};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::{Config, NoTls};

use crate::options::Options;
use crate::status::{Server, Status};

/// The site of a device, and the calibration of its readings.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub site: String,
    pub gain: f64,
    pub bias: f64,
}

/// The reason why a message was not enriched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrichError {
    /// The database could not be asked, or did not answer; it may later.
    Unavailable(String),
    /// The database knows no such device.
    UnknownDevice(String),
    /// The database does not accept the device's name.
    Refused(String),
    /// The message is not a reading.
    Unreadable(String),
}

impl EnrichError {
    /// True if another attempt may succeed. Only faults of the message itself are final.
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl fmt::Display for EnrichError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(reason) => write!(f, "the database does not answer: {reason}"),
            Self::UnknownDevice(name) => write!(f, "no device is called \"{name}\""),
            Self::Refused(reason) => write!(f, "the database refuses the device's name: {reason}"),
            Self::Unreadable(reason) => write!(f, "this is not a reading: {reason}"),
        }
    }
}

impl std::error::Error for EnrichError {}

const QUERY: &str = "SELECT site, gain, bias FROM devices WHERE name = $1";

/// The table of devices, over a pool of connections.
#[derive(Clone)]
pub struct Devices {
    pool: Pool,
    status: Arc<Status>,
}

impl Devices {
    /// Connects at the first query.
    pub fn new(options: &Options, status: Arc<Status>) -> anyhow::Result<Self> {
        let manager = Manager::new(config(options), NoTls);
        let pool = Pool::builder(manager).max_size(options.pool).runtime(Runtime::Tokio1).build();
        Ok(Self { pool: pool.context("the pool of database connections")?, status })
    }

    /// The row of a device. Dropping the future also drops its connection.
    pub async fn find(self, name: String) -> Result<Device, EnrichError> {
        let unanswered = Unanswered(Some(&self.status));
        let found = self.ask(&name).await;
        unanswered.answered(&found);
        match &found {
            Ok(_) => self.status.up(Server::Postgres),
            Err(error) if is_ours(error) => self.status.up(Server::Postgres),
            Err(error) => self.status.down(Server::Postgres, &error),
        }
        found.map_err(|error| error.into_enrich_error())?.ok_or(EnrichError::UnknownDevice(name))
    }

    async fn ask(&self, name: &str) -> Result<Option<Device>, AskError> {
        let lease = Lease(Some(self.pool.get().await.map_err(AskError::Pool)?));
        let statement = lease.client()?.prepare_cached(QUERY).await?;
        let row = lease.client()?.query_opt(&statement, &[&name]).await?;
        lease.give_back();
        let Some(row) = row else { return Ok(None) };
        let (site, gain, bias) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        Ok(Some(Device { site, gain, bias }))
    }
}

/// The server cancels a query before the gateway's timeout, so that abandoned queries do not accumulate
/// behind a lock; and it detects that the gateway is gone.
fn config(options: &Options) -> Config {
    let patience = options.attempt_timeout.mul_f64(0.75).max(Duration::from_millis(1));
    let settings = format!(
        "-c statement_timeout={} -c client_connection_check_interval=1000",
        patience.as_millis()
    );
    let mut config = Config::new();
    config
        .host(options.postgres.ip().to_string())
        .port(options.postgres.port())
        .user("gateway")
        .dbname("postgres")
        .application_name("inflight-gateway")
        .options(settings)
        .connect_timeout(options.attempt_timeout);
    config
}

/// A connection of the pool. A connection that was not returned (because its query failed, or was cancelled
/// half-way) is not used again, because it may still be busy.
struct Lease(Option<Object>);

impl Lease {
    fn client(&self) -> Result<&Object, AskError> {
        self.0.as_ref().ok_or(AskError::Gone)
    }

    fn give_back(mut self) {
        self.0 = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

/// Counts a query that was cancelled, by the gateway or by the server.
struct Unanswered<'s>(Option<&'s Status>);

impl Unanswered<'_> {
    fn answered<T>(mut self, answer: &Result<T, AskError>) {
        if !answer.as_ref().is_err_and(AskError::is_timeout) {
            self.0 = None;
        }
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if let Some(status) = self.0 {
            status.timeouts.add(1);
        }
    }
}

#[derive(Debug)]
enum AskError {
    Pool(PoolError),
    Query(tokio_postgres::Error),
    Gone,
}

impl AskError {
    fn database(&self) -> Option<&DbError> {
        match self {
            Self::Query(error) | Self::Pool(PoolError::Backend(error)) => error.as_db_error(),
            _ => None,
        }
    }

    fn is_timeout(&self) -> bool {
        self.database().is_some_and(|error| *error.code() == SqlState::QUERY_CANCELED)
    }

    fn into_enrich_error(self) -> EnrichError {
        match is_ours(&self) {
            true => EnrichError::Refused(self.to_string()),
            false => EnrichError::Unavailable(self.to_string()),
        }
    }
}

/// True if the message is at fault: class 22 of the SQL states is "data exception". All other errors are the
/// database's (it is down, overloaded, locked, or its table is missing), and are temporary.
fn is_ours(error: &AskError) -> bool {
    error.database().is_some_and(|error| error.code().code().starts_with("22"))
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(error) = self.database() {
            return f.write_str(if self.is_timeout() {
                "it took too long"
            } else {
                error.message()
            });
        }
        let cause = |error: &dyn std::error::Error| error.source().map(ToString::to_string);
        match self {
            Self::Query(error) | Self::Pool(PoolError::Backend(error)) => {
                write!(f, "{}", cause(error).unwrap_or_else(|| error.to_string()))
            }
            Self::Pool(error) => error.fmt(f),
            Self::Gone => io::Error::from(io::ErrorKind::NotConnected).fmt(f),
        }
    }
}

impl From<tokio_postgres::Error> for AskError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Query(error)
    }
}
