//! The calls one by one.

use inflight_core::pipeline::{Output, Transaction};
use inflight_core::{CheckpointId, Loaded};
use inflight_store_postgres::{PostgresError, PostgresJob, WriteError};
use tokio_postgres::{Config, NoTls};

use crate::owner::LIMIT;
use crate::postgres;
use crate::proxy::{self, Cut};
use crate::server::Server;

type Number = Output<i64>;

fn number(value: i64) -> Number {
    Output { value, timestamp: None }
}

/// A transaction whose function writes numbers, and then does what the statement says; an error of the statement is swallowed.
fn numbers(
    config: Config,
    job: &str,
    then: &str,
) -> impl Transaction<i64, Error = PostgresError> + use<> {
    let (insert, then) = (format!("INSERT INTO out_{job} (n) VALUES ($1)"), then.to_owned());
    PostgresJob::new(config, NoTls, job).limit(LIMIT).writing(
        async move |transaction: &tokio_postgres::Transaction<'_>, outputs: &[Number]| {
            for Output { value, .. } in outputs {
                if *value < 0 {
                    return Err(WriteError::from("a negative number"));
                }
                transaction.execute(&insert, &[value]).await?;
            }
            let _ = transaction.batch_execute(&then).await;
            Ok(())
        },
    )
}

fn loaded(id: u64, bytes: &[u8]) -> Option<Loaded> {
    Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged: 0 })
}

// K10: nothing of a commit whose function fails is there.
#[tokio::test]
async fn a_function_that_fails_commits_nothing() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("refuses").await;
    let mut owner = numbers(server.config(), "refuses", "");
    assert_eq!(owner.claim().await.unwrap(), None);
    let failed = owner.commit(CheckpointId(1), b"one", &[number(0), number(-1)]).await;
    let Err(PostgresError::Write(reason)) = &failed else { panic!("{failed:?}") };
    assert_eq!(reason.to_string(), "a negative number");
    assert!(!owner.is_final(&failed.unwrap_err()));
    assert!(!owner.is_committed(CheckpointId(1)).await.unwrap());
    table.expect(0).await;
    owner.commit(CheckpointId(2), b"two", &[number(0)]).await.unwrap();
    assert!(owner.is_committed(CheckpointId(2)).await.unwrap());
    assert!(!owner.is_committed(CheckpointId(1)).await.unwrap());
    table.expect(1).await;
}

// K10: the server answers a COMMIT after a failed statement by a rollback, without an error.
#[tokio::test]
async fn a_function_that_swallows_an_error_commits_nothing() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("swallows").await;
    let mut owner = numbers(server.config(), "swallows", "SELECT 1 / 0");
    owner.claim().await.unwrap();
    let failed = owner.commit(CheckpointId(1), b"one", &[number(0)]).await;
    assert!(matches!(failed, Err(PostgresError::Database(_))), "{failed:?}");
    assert!(!owner.is_committed(CheckpointId(1)).await.unwrap());
    table.expect(0).await;
}

// K15
#[tokio::test]
async fn only_the_last_owner_commits() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("claimed").await;
    let owner = || numbers(server.config(), "claimed", "");
    let (mut first, mut second) = (owner(), owner());
    let early = first.commit(CheckpointId(1), b"", &[]).await;
    assert!(matches!(early, Err(PostgresError::NotClaimed)), "{early:?}");
    first.claim().await.unwrap();
    first.commit(CheckpointId(1), b"one", &[number(0)]).await.unwrap();
    assert_eq!(second.claim().await.unwrap(), loaded(1, b"one"));

    let fenced = first.commit(CheckpointId(2), b"two", &[number(7)]).await.unwrap_err();
    assert!(first.is_final(&fenced), "{fenced:?}");
    assert_eq!(
        fenced.to_string(),
        "the job \"claimed\" has a newer owner, or was deleted: stop this one"
    );
    // Of its own commit too: the next owner knows better.
    let fenced = first.is_committed(CheckpointId(1)).await.unwrap_err();
    assert!(first.is_final(&fenced), "{fenced:?}");
    second.commit(CheckpointId(2), b"two", &[number(1)]).await.unwrap();
    table.expect(2).await;
}

// K15: numbers of claims do not come again.
#[tokio::test]
async fn an_owner_whose_job_was_deleted_is_fenced_for_ever() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("deleted").await;
    let owner = || numbers(server.config(), "deleted", "");
    let (mut first, mut second) = (owner(), owner());
    first.claim().await.unwrap();
    first.commit(CheckpointId(1), b"one", &[]).await.unwrap();
    table.client.execute("DELETE FROM inflight_jobs WHERE job = 'deleted'", &[]).await.unwrap();
    let fenced = first.commit(CheckpointId(2), b"two", &[number(7)]).await.unwrap_err();
    assert!(first.is_final(&fenced), "{fenced:?}");
    assert_eq!(second.claim().await.unwrap(), None);
    let fenced = first.commit(CheckpointId(2), b"two", &[number(7)]).await.unwrap_err();
    assert!(first.is_final(&fenced), "{fenced:?}");
    second.commit(CheckpointId(1), b"one", &[number(0)]).await.unwrap();
    table.expect(1).await;
}

// K15: a commit that is under way when the job is claimed is decided before the claim returns.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_waits_for_a_commit_under_way() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("underway").await;
    let cuts = proxy::plan([Cut::Pass, Cut::Late]);
    let proxied = postgres::config(proxy::start(server.port, &cuts).await);
    let mut first = numbers(proxied, "underway", "");
    first.claim().await.unwrap();
    let lost = first.commit(CheckpointId(1), b"one", &[number(0)]).await;
    assert!(matches!(lost, Err(PostgresError::Database(_))), "{lost:?}");
    let mut second = numbers(server.config(), "underway", "");
    assert_eq!(second.claim().await.unwrap(), loaded(1, b"one"));
    table.expect(1).await;
}

// K9: the job's owner goes on.
#[tokio::test]
async fn a_checkpoint_is_read_without_a_claim() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("read").await;
    let create = "CREATE SCHEMA \"it's\"";
    table.client.batch_execute(create).await.unwrap();
    let job = || PostgresJob::new(server.config(), NoTls, "a \"job\"").table("it's.Jobs \"1\"");
    let mut reader = job();
    assert_eq!(reader.read_latest().await.unwrap(), None); // there is no table
    let mut owner = job().writing(async |_: &tokio_postgres::Transaction<'_>, _: &[Number]| Ok(()));
    owner.claim().await.unwrap();
    assert_eq!(reader.read_latest().await.unwrap(), None); // there is no checkpoint
    for id in [1, 2] {
        owner.commit(CheckpointId(id), b"bytes", &[number(7)]).await.unwrap();
        assert_eq!(reader.read_latest().await.unwrap(), loaded(id, b"bytes"));
    }
}

// K10: the server's defaults may be others.
#[tokio::test]
async fn commits_wait_for_the_disk_and_see_the_row_as_it_is() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("settings").await;
    let mut config = server.config();
    config.options(
        "-c synchronous_commit=off -c default_transaction_isolation=serializable \
         -c default_transaction_read_only=on -c statement_timeout=0",
    );
    let read = "CREATE TABLE seen AS SELECT name, setting FROM pg_settings";
    let mut owner = numbers(config, "settings", read);
    owner.claim().await.unwrap();
    owner.commit(CheckpointId(1), b"one", &[number(0)]).await.unwrap();
    for (name, value) in [
        ("synchronous_commit", "on"),
        ("transaction_isolation", "read committed"),
        ("transaction_read_only", "off"),
        ("statement_timeout", "1000"),
        ("idle_in_transaction_session_timeout", "1000"),
    ] {
        let select = "SELECT setting FROM seen WHERE name = $1";
        let seen: String = table.client.query_one(select, &[&name]).await.unwrap().get(0);
        assert_eq!(seen, value, "{name}");
    }
}

// K15: owners that create the table at the same time do not collide.
#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_begin_at_once() {
    let Some(server) = Server::shared() else { return };
    let claims = (0..30).map(|job| {
        let job = PostgresJob::new(server.config(), NoTls, format!("job {job}")).table("new_jobs");
        tokio::spawn(async move {
            let write = async |_: &tokio_postgres::Transaction<'_>, _: &[Number]| Ok(());
            job.writing(write).claim().await
        })
    });
    for claim in claims.collect::<Vec<_>>() {
        assert_eq!(claim.await.unwrap().unwrap(), None);
    }
}

// K10: between two checkpoints a connection may be lost. The server ends it; or it was idle, and something between the two has
// forgotten it, which the client notices only when it sends.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_lost_is_opened_again() {
    let Some(server) = Server::shared() else { return };
    let table = server.table("lost").await;
    let cuts = proxy::plan([]);
    let mut config = postgres::config(proxy::start(server.port, &cuts).await);
    config.application_name("lost");
    let mut owner = numbers(config, "lost", "");
    owner.claim().await.unwrap();
    let end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'lost'";
    for id in [0, 2] {
        assert_eq!(table.client.execute(end, &[]).await.unwrap(), 1);
        owner.commit(CheckpointId(id), b"", &[number(id as i64)]).await.unwrap();
        cuts.lock().unwrap().push_back(Cut::Idle);
        owner.commit(CheckpointId(id + 1), b"", &[number(id as i64 + 1)]).await.unwrap();
    }
    table.expect(4).await;
}

#[test]
fn without_tokio_it_is_an_error() {
    let job = PostgresJob::new(Config::new(), NoTls, "job");
    let mut job = std::pin::pin!(job);
    let mut read = std::pin::pin!(job.read_latest());
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(failed) = read.as_mut().poll(&mut cx) else { panic!("it waits") };
    assert!(matches!(failed, Err(PostgresError::NoRuntime)), "{failed:?}");
}
