//! The connection to the server, which is opened when it is needed, and the beginning of each transaction.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{Client, Config, IsolationLevel, Socket, Transaction};

use crate::error::PostgresError;

/// What makes the TLS connection: [`NoTls`](tokio_postgres::NoTls), or a connector of another crate. Every such type that can be
/// cloned and sent to another thread has this trait.
pub trait Tls:
    MakeTlsConnect<
        Socket,
        Stream: Send + 'static,
        TlsConnect: TlsConnect<Socket, Future: Send> + Send,
        Error: Send + Sync,
    > + Clone
    + Send
{
}

impl<C> Tls for C
where
    C: MakeTlsConnect<Socket> + Clone + Send,
    C::Stream: Send + 'static,
    C::TlsConnect: Send,
    <C::TlsConnect as TlsConnect<Socket>>::Future: Send,
    C::Error: Send + Sync,
{
}

pub(crate) struct Connection<C> {
    config: Config,
    tls: C,
    pub(crate) limit: Duration,
    /// `None` before the first call, while a call has it, and after a call that failed or was dropped: the transaction on it may
    /// be half-way.
    client: Option<Client>,
}

/// How long a transaction's statements may wait.
#[derive(Clone, Copy)]
pub(crate) enum Waiting {
    /// For the limit.
    Limited,
    /// Longer than another transaction can last whose client is frozen: a statement of it, and the silence after that.
    ForOthers,
}

impl<C: Tls> Connection<C> {
    pub(crate) fn new(config: Config, tls: C) -> Self {
        Self { config, tls, limit: Duration::from_secs(30), client: None }
    }

    /// Takes the client, and connects again if it has none that works.
    pub(crate) async fn client(&mut self) -> Result<Client, PostgresError> {
        // A connection that was idle may have been cut.
        if let Some(client) = self.client.take()
            && client.check_connection().await.is_ok()
        {
            return Ok(client);
        }
        let tasks = Handle::try_current().map_err(|_| PostgresError::NoRuntime)?;
        let (client, connection) = self.patient_config().connect(self.tls.clone()).await?;
        // It ends when the client is dropped. Its error reaches the client's calls, as that of a closed connection.
        tasks.spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// The user's configuration, with an end to the waiting for a network that is dead.
    fn patient_config(&self) -> Config {
        const SYSTEM_DEFAULT: Duration = Duration::from_secs(2 * 60 * 60);
        let mut config = self.config.clone();
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(self.limit);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(self.limit);
        }
        if config.get_keepalives_idle() == SYSTEM_DEFAULT {
            config.keepalives_idle(self.limit.max(Duration::from_secs(1)));
        }
        config
    }

    /// Keeps a client for the next call, after a call that has left nothing half-way.
    pub(crate) fn put_back(&mut self, client: Client) {
        self.client = Some(client);
    }

    pub(crate) async fn begin<'c>(
        &self,
        client: &'c mut Client,
        waiting: Waiting,
    ) -> Result<Transaction<'c>, PostgresError> {
        // With a stricter level the wait for a row's lock ends in an error if the row was changed.
        let begun = client.build_transaction().isolation_level(IsolationLevel::ReadCommitted);
        let transaction = begun.read_only(false).start().await?;
        let limit = milliseconds(self.limit);
        let statement = match waiting {
            Waiting::Limited => limit,
            Waiting::ForOthers => milliseconds(self.limit.saturating_mul(3)),
        };
        let settings = format!(
            "SET LOCAL statement_timeout = {statement};
             SET LOCAL idle_in_transaction_session_timeout = {limit};
             SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'"
        );
        transaction.batch_execute(&settings).await?;
        Ok(transaction)
    }
}

/// As the server's settings take it: at least one, because zero would mean no limit.
fn milliseconds(limit: Duration) -> i32 {
    i32::try_from(limit.as_millis()).unwrap_or(i32::MAX).max(1)
}
