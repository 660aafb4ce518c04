//! Owners of a job: pipelines that square numbers into a table, in this process or in one of their own.

use std::convert::Infallible;
use std::env;
use std::error::Error as _;
use std::fs;
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use inflight_core::pipeline::{
    Ended, MemorySource, MemorySourceError, Output, Pipeline, PipelineError, SinkHalfError,
    StoreHalfError, Transaction, TransactionalSink, one_transaction,
};
use inflight_core::{AsyncWait, AsyncWaitExt, CheckpointStore, Outcome};
use inflight_store_postgres::{PostgresError, PostgresJob, WriteError};
use inflight_tokio::Tokio;
use rand::RngExt;
use tokio_postgres::{Config, NoTls};

use crate::postgres;
use crate::wrappers::{Freezing, Unfenced};

pub(crate) type Done = Outcome<u64, u64, Infallible>;
pub(crate) type Error =
    PipelineError<MemorySourceError, SinkHalfError, StoreHalfError<PostgresError>>;

/// The limit in the tests: short, so that a frozen owner does not hold them up.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);

/// The transaction of a job whose numbers go to the table `out_<job>`. It may freeze this process in its third commit with
/// outputs, when they are written.
pub(crate) fn transaction(
    config: Config,
    job: &str,
    freeze: Freeze,
) -> impl Transaction<Done, Error = PostgresError> + use<> {
    let (insert, mut commits) = (format!("INSERT INTO out_{job} (n) VALUES ($1)"), 0);
    PostgresJob::new(config, NoTls, job).limit(LIMIT).writing(
        async move |transaction: &tokio_postgres::Transaction<'_>, outputs: &[Output<Done>]| {
            write(transaction, &insert, outputs).await?;
            commits += 1;
            if commits == 3 && freeze == Freeze::InCommit {
                signal_to(process::id(), "-STOP");
            }
            Ok(())
        },
    )
}

/// One by one, so that a commit takes its time.
pub(crate) async fn write(
    transaction: &tokio_postgres::Transaction<'_>,
    insert: &str,
    outputs: &[Output<Done>],
) -> Result<(), WriteError> {
    let insert = transaction.prepare(insert).await?;
    for Output { value, .. } in outputs {
        assert_eq!(value.result, Ok(value.input * value.input));
        transaction.execute(&insert, &[&(value.input as i64)]).await?;
    }
    Ok(())
}

/// Runs a pipeline over so many numbers.
pub(crate) async fn run<K, C>(
    numbers: u64,
    sink: K,
    store: C,
) -> Result<Ended, PipelineError<MemorySourceError, K::Error, C::Error>>
where
    K: TransactionalSink<Done>,
    C: CheckpointStore,
{
    Pipeline::new(MemorySource::new(0..numbers), sink, store)
        .every_records(10)
        .interval(Duration::from_millis(5))
        .run(Tokio, |numbers, checkpoint| {
            numbers
                .async_wait(AsyncWait::ordered(5), |n: &u64| {
                    let n = *n;
                    let time = Duration::from_micros(rand::rng().random_range(0..3000));
                    async move {
                        tokio::time::sleep(time).await;
                        Ok(n * n)
                    }
                })
                .checkpointed("squares", 1)
                .restore(checkpoint)
                .spawn(Tokio)
        })
        .await
}

/// Runs a pipeline over so many numbers, with a transaction.
pub(crate) async fn own(
    numbers: u64,
    transaction: impl Transaction<Done, Error = PostgresError>,
) -> Result<Ended, Error> {
    let (sink, store) = one_transaction(transaction);
    // So that a job has many commits, also where each takes long.
    run(numbers, sink.limit(50), store).await
}

pub(crate) fn is_fenced(error: &Error) -> bool {
    error.to_string().contains("has a newer owner")
}

/// When an owner in a process of its own freezes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Freeze {
    Never,
    /// Before its third commit begins.
    BeforeCommit,
    /// In its third commit with outputs, when they are written.
    InCommit,
    /// After its third commit has ended.
    AfterCommit,
}

/// A process that owns a job, and that is killed when this is dropped.
pub(crate) struct Owner(Child);

const FENCED: i32 = 3;

impl Owner {
    pub(crate) fn start(port: u16, job: &str, numbers: u64) -> Self {
        Self::start_with(port, job, numbers, Freeze::Never, true)
    }

    /// Without the fence it is a negative control.
    pub(crate) fn start_with(
        port: u16,
        job: &str,
        numbers: u64,
        freeze: Freeze,
        fenced: bool,
    ) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "owner::process", "--ignored", "--test-threads=1"]);
        command.env("OWNER", format!("{port} {job} {numbers} {freeze:?} {fenced}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.expect("this program, again"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        signal_to(self.0.id(), signal);
    }

    /// Kills it. Returns true if it had finished before.
    pub(crate) fn kill(mut self) -> bool {
        let _ = self.0.kill();
        self.0.wait().expect("it ends").success()
    }

    /// Waits for the end: `Ok(true)` if everything is done, `Ok(false)` if it was fenced.
    pub(crate) fn wait(mut self) -> Result<bool, ExitStatus> {
        let status = self.0.wait().expect("it ends");
        match status.code() {
            Some(0) => Ok(true),
            Some(FENCED) => Ok(false),
            _ => Err(status),
        }
    }

    /// Waits until it has frozen itself.
    pub(crate) fn wait_frozen(&self) {
        let stat = format!("/proc/{}/stat", self.0.id());
        loop {
            let stat = fs::read_to_string(&stat).expect("it lives");
            match stat.split(' ').nth(2) {
                Some("T") => return,
                Some("Z") => panic!("it has ended"),
                _ => std::thread::yield_now(),
            }
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn signal_to(process: u32, signal: &str) {
    let status = Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(status.expect("kill").success());
}

/// The process of an [`Owner`].
#[test]
#[ignore = "the other tests start it"]
fn process() {
    let Ok(order) = env::var("OWNER") else { return };
    let order: Vec<_> = order.split(' ').collect();
    let [port, job, numbers, freeze, fenced] = order[..] else { panic!("{order:?}") };
    let (port, numbers) = (port.parse().unwrap(), numbers.parse().unwrap());
    let freeze = [Freeze::Never, Freeze::BeforeCommit, Freeze::InCommit, Freeze::AfterCommit]
        .into_iter()
        .find(|known| format!("{known:?}") == freeze)
        .expect("one of these");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        if fenced == "true" {
            let transaction = transaction(postgres::config(port), job, freeze);
            own(numbers, Freezing { transaction, freeze, commits: 0 }).await
        } else {
            let transaction = Unfenced::new(postgres::config(port), job);
            own(numbers, Freezing { transaction, freeze, commits: 0 }).await
        }
    });
    process::exit(match ended {
        Ok(_) => 0,
        Err(error) if is_fenced(&error) => FENCED,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source());
            1
        }
    });
}
