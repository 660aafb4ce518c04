//! A worker: a process with a pipeline for each partition that is assigned to it.

use std::error::Error;
use std::io::Write;
use std::iter::successors;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::jetstream::Context;
use inflight::pipeline::{Ended, Transaction, one_transaction};
use inflight::{AsyncWait, AsyncWaitExt, ExponentialBackoff, Permits, Tokio};
use inflight_jetstream::{
    JetStreamJob, JetStreamLeases, JetStreamSource, JetStreamTransaction, Message, Record,
    WriteError,
};
use inflight_partitions::{Event, JobHandle, Partition, Partitions};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use crate::broken::{NoFence, OutputsFirst};
use crate::late::Late;
use crate::log::{DONE, ORDERS, WORKERS, connect, partitions};
use crate::options::{Broken, WorkerOptions};
use crate::order::{Done, Order};
use crate::service::Client;

/// The most orders of a partition that are in the worker.
const CAPACITY: usize = 200;

/// The time between two checkpoints of a partition, and so between two commits of its outputs.
const BETWEEN_CHECKPOINTS: Duration = Duration::from_millis(200);

/// The most time for the commits of a partition that goes to another worker.
const HAND_OVER: Duration = Duration::from_secs(10);

const BETWEEN_VIEWS: Duration = Duration::from_secs(5);

/// What comes out of the stage: an order, and the service's answer.
pub type Outcome = inflight::Outcome<Record, u64, AskError>;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AskError {
    /// The record is no order.
    Unreadable(String),
    /// The service cannot be reached. The request is repeated until it can be.
    Service(String),
}

/// What a partition's pipeline needs.
struct Needs {
    options: WorkerOptions,
    context: Context,
    service: Client,
    /// One bound over all partitions of the worker (C9).
    permits: Permits,
}

/// Works until SIGTERM, then hands over its partitions, and only then stops being seen alive.
pub async fn work(options: &WorkerOptions) -> anyhow::Result<()> {
    let context = connect(&options.servers, &options.name).await?;
    let names = partitions(options.partitions);
    let leases = JetStreamLeases::new(context.clone(), WORKERS, &options.name, names);
    let assignment = leases.ttl(options.lease).replicas(options.replicas).join().await?;
    let needs = Needs {
        service: Client::new(options.service),
        permits: Permits::new(options.permits)?,
        options: options.clone(),
        context,
    };
    let job = Partitions::new(Late::new(assignment, options.late))
        .hand_over_within(HAND_OVER)
        .restart_after(
            ExponentialBackoff::new(Duration::from_millis(100))
                .max_delay(Duration::from_secs(2))
                .max_retries(u32::MAX),
        )
        .on_event(|event| tell(&event));
    tokio::spawn(leave_when_asked(job.handle()));
    tokio::spawn(show(job.handle(), needs.permits.clone()));
    tokio::spawn(end_with_controller());
    job.run(Tokio, async |partition: Partition<String>| run(&needs, partition).await).await?;
    Ok(())
}

/// Runs a partition's pipeline with the transaction that was asked for.
async fn run(needs: &Needs, partition: Partition<String>) -> anyhow::Result<Ended> {
    let id = partition.id().clone();
    let transaction = JetStreamJob::new(needs.context.clone(), DONE, format!("checkpoint.{id}"))
        .limit(Duration::from_secs(2))
        .writing({
            let id = id.clone();
            move |output: &inflight::pipeline::Output<Outcome>| message(&id, &output.value)
        });
    match needs.options.broken {
        None => pipeline(needs, &partition, transaction).await,
        Some(Broken::NoFence) => pipeline(needs, &partition, NoFence(transaction)).await,
        Some(Broken::OutputsFirst) => {
            let context = needs.context.clone();
            pipeline(needs, &partition, OutputsFirst { transaction, context, partition: id }).await
        }
    }
}

async fn pipeline<X: Transaction<Outcome, Error: Send + Sync>>(
    needs: &Needs,
    partition: &Partition<String>,
    transaction: X,
) -> anyhow::Result<Ended> {
    let source = JetStreamSource::new(needs.context.clone(), ORDERS)
        .filter(format!("orders.{}.*", partition.id()));
    let (sink, store) = one_transaction(transaction);
    let sink = sink.limit(JetStreamTransaction::<()>::MOST_OUTPUTS / 2);
    // The outputs of a key keep the order of its records, while many of them are asked for at a time.
    let policy = AsyncWait::ordered_by_key(CAPACITY, key).overlapping().retry(
        ExponentialBackoff::new(Duration::from_millis(50))
            .max_delay(Duration::from_secs(1))
            .max_retries(u32::MAX)
            .when_error(|error: &AskError| matches!(error, AskError::Service(_))),
    );
    let ended = partition
        .pipeline(source, sink, store)
        .interval(BETWEEN_CHECKPOINTS)
        .run(Tokio, |records, recovery| {
            let service = needs.service.clone();
            records
                .async_wait(policy, move |record: &Record| ask(service.clone(), order(record)))
                .permits(&needs.permits)
                .checkpointed("ask", 1)
                .restore(recovery)
                .spawn(Tokio)
        })
        .await?;
    Ok(ended)
}

/// The key of a record is the end of its subject.
fn key(record: &Record) -> u64 {
    let key = record.subject.rsplit('.').next();
    key.and_then(|key| key.parse().ok()).unwrap_or_default()
}

fn order(record: &Record) -> Result<Order, AskError> {
    serde_json::from_slice(&record.payload).map_err(|error| AskError::Unreadable(error.to_string()))
}

async fn ask(service: Client, order: Result<Order, AskError>) -> Result<u64, AskError> {
    service.ask(order?.id).await.map_err(|error| AskError::Service(format!("{error:#}")))
}

/// The message of an output.
pub fn message(partition: &str, outcome: &Outcome) -> Result<Message, WriteError> {
    let answer =
        outcome.result.as_ref().map_err(|failure| WriteError::new(format!("{failure:?}")))?;
    let order: Order = serde_json::from_slice(&outcome.input.payload)?;
    let done = serde_json::to_vec(&Done { order, answer: *answer })?;
    Ok(Message::new(format!("done.{partition}.{}", order.key), done))
}

/// Tells the controller on stdout, one event in a line, and a person on stderr why.
fn tell(event: &Event<'_, String>) {
    let (word, partition) = match *event {
        Event::Started { partition, .. } => ("started", partition),
        Event::HandedOver { partition } => ("handed-over", partition),
        Event::HandOverTimedOut { partition } => ("timed-out", partition),
        Event::Lost { partition } => ("lost", partition),
        Event::Fenced { partition, error, .. } => {
            eprintln!("partition {partition} is fenced: {}", causes(error));
            ("fenced", partition)
        }
        Event::Failed { partition, error, .. } => {
            eprintln!("partition {partition} has failed: {}", causes(error));
            ("failed", partition)
        }
        _ => return,
    };
    // The controller may be gone.
    _ = writeln!(std::io::stdout(), "{word} {partition}");
}

/// An error and what has caused it, in a line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let causes = successors(Some(error), |error: &&dyn Error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn leave_when_asked(job: JobHandle<String>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for signals")?;
    terminate.recv().await;
    job.leave();
    Ok(())
}

/// A line about the job now and then.
async fn show(job: JobHandle<String>, permits: Permits) {
    loop {
        sleep(BETWEEN_VIEWS).await;
        let view = job.view();
        let number =
            |number: Option<u64>| number.map_or_else(|| "?".into(), |number| number.to_string());
        let partitions = view.partitions.iter().map(|one| {
            let (name, state, life) = (&one.partition, one.state, one.lives);
            let (lag, checkpoint) = (number(one.lag), number(one.checkpoint.map(|id| id.0)));
            let (records, outputs) = (one.records, one.outputs);
            format!("{name}: {state:?}, life {life}, {records} records, {outputs} outputs, checkpoint {checkpoint}, lag {lag}")
        });
        let partitions: Vec<_> = partitions.collect();
        let (lag, asked) = (number(view.lag), permits.in_use());
        eprintln!("lag {lag}, {asked} requests; {}", partitions.join("; "));
    }
}

/// A controller that was killed leaves no workers behind: its end of the standard input closes.
async fn end_with_controller() {
    let mut nothing = [0];
    _ = tokio::io::stdin().read(&mut nothing).await;
    std::process::exit(1);
}
