//! Owners of partition 0 of a job: pipelines that square numbers into a topic, in this process or in one of their own.

use std::env;
use std::error::Error;
use std::process::{self, Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::Duration;

use inflight_core::pipeline::{
    Ended, Output, Pipeline, ReplayableSource, Transaction, one_transaction,
};
use inflight_core::{AsyncWait, AsyncWaitExt, Outcome, StreamElement, Tracked};
use inflight_kafka::{
    KafkaClient, KafkaJob, KafkaJobError, KafkaRecord, KafkaSource, Message, WriteError,
};
use inflight_tokio::Tokio;

use crate::broker::config;
use crate::unfenced::Unfenced;

pub(crate) type Done = Outcome<KafkaRecord, u64, String>;

/// A source that ends before an offset.
struct Until(KafkaSource, u64);

impl ReplayableSource for Until {
    type Record = KafkaRecord;
    type Position = u64;
    type Error = KafkaJobError;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), KafkaJobError> {
        self.0.open(position).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<KafkaRecord>, KafkaJobError>>> {
        if self.0.position() >= self.1 {
            return Poll::Ready(None);
        }
        self.0.poll_next(cx)
    }

    fn position(&self) -> u64 {
        self.0.position()
    }

    fn acknowledger(&mut self) {}
}

/// The number in a record.
pub(crate) fn number(record: &KafkaRecord) -> u64 {
    let text = std::str::from_utf8(record.value.as_deref().unwrap_or_default());
    text.ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// The message of a number: itself, so that the output is seen to be whole and in order.
pub(crate) fn message(topic: &str, partition: i32, output: &Output<Done>) -> Message {
    let number = number(&output.value.input);
    assert_eq!(output.value.result, Ok(number * number));
    let mut message = Message::new(topic, number.to_string()).key(number.to_string());
    message.partition = Some(partition);
    message
}

fn write(topic: String) -> impl FnMut(&Output<Done>) -> Result<Option<Message>, WriteError> {
    move |output| Ok(Some(message(&topic, 0, output)))
}

/// A call that takes its time.
pub(crate) async fn square(number: u64) -> Result<u64, String> {
    tokio::time::sleep(Duration::from_micros(number * 7919 % 20_000)).await;
    Ok(number * number)
}

/// Runs a pipeline over the first records of partition 0.
pub(crate) async fn own(
    client: &KafkaClient,
    records: u64,
    transaction: impl Transaction<Done, Error = KafkaJobError>,
) -> Result<Ended, Box<dyn Error + Send + Sync>> {
    let (sink, store) = one_transaction(transaction);
    Pipeline::new(Until(client.source(0), records), sink.limit(50), store)
        .every_records(10)
        .interval(Duration::from_millis(5))
        .run_positions_only(Tokio, |numbers, recovery| {
            numbers
                .async_wait(AsyncWait::ordered(5), |record: &Tracked<KafkaRecord>| {
                    square(number(record))
                })
                .positions_only(recovery)
                .spawn(Tokio)
        })
        .await
        .map_err(Into::into)
}

/// A process that owns partition 0 of a job, and that is killed when this is dropped.
pub(crate) struct Owner(Child);

const FENCED: i32 = 3;

impl Owner {
    pub(crate) fn start(port: u16, job: &str, records: u64) -> Self {
        Self::start_with(port, job, records, true)
    }

    /// Without the fence it is a negative control.
    pub(crate) fn start_with(port: u16, job: &str, records: u64, fenced: bool) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "owner::process", "--ignored", "--test-threads=1"]);
        command.env("OWNER", format!("{port} {job} {records} {fenced}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.expect("this program, again"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.0.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Kills it. Returns true if it had finished before.
    pub(crate) fn kill(mut self) -> bool {
        let _ = self.0.kill();
        self.0.wait().expect("it ends").success()
    }

    /// Waits for the end: true if everything is done, false if it was fenced.
    pub(crate) fn wait(mut self) -> bool {
        match self.0.wait().expect("it ends").code() {
            Some(0) => true,
            Some(FENCED) => false,
            other => panic!("{other:?}"),
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process of an [`Owner`].
#[test]
#[ignore = "the other tests start it"]
fn process() {
    let Ok(order) = env::var("OWNER") else { return };
    let order: Vec<_> = order.split(' ').collect();
    let [port, job, records, fenced] = order[..] else { panic!("{order:?}") };
    let (config, records) = (config(port.parse().unwrap()), records.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let client = KafkaJob::new(config.clone(), job, job).start().unwrap();
        let write = write(format!("{job}-out"));
        match fenced {
            "true" => own(&client, records, client.transaction(0, write)).await,
            _ => own(&client, records, Unfenced::new(&config, &client, job)).await,
        }
    });
    process::exit(match ended {
        Ok(_) => 0,
        Err(error) if error.to_string().contains("has a newer owner") => FENCED,
        Err(error) => {
            eprintln!("{error}: {:?}", error.source());
            1
        }
    });
}
