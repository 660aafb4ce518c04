//! Owners to the end: pipelines that square numbers, through lost answers, late commits, dropped lives and crashes of the server.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::Context;
use inflight_core::pipeline::{
    Ended, MemorySource, MemorySourceError, Output, Pipeline, PipelineError, SinkHalf,
    SinkHalfError, StoreHalf, StoreHalfError, Transaction, one_transaction,
};
use inflight_core::{AsyncWait, AsyncWaitExt, CheckpointId, Loaded, Outcome};
use inflight_jetstream::{JetStreamError, JetStreamTransaction, Message, WriteError};
use inflight_tokio::Tokio;
use rand::RngExt;

use crate::numbers::{job, read};
use crate::proxy::{self, Cut, Plan};
use crate::server::{Server, context};

const NUMBERS: u64 = 500;

pub(crate) type Done = Outcome<u64, u64, std::convert::Infallible>;
pub(crate) type Error =
    PipelineError<MemorySourceError, SinkHalfError, StoreHalfError<JetStreamError>>;

/// A transaction that publishes the numbers under `<stream>.out`.
pub(crate) fn transaction(
    context: &Context,
    stream: &str,
) -> JetStreamTransaction<impl FnMut(&Output<Done>) -> Result<Message, WriteError> + use<>> {
    let subject = format!("{stream}.out");
    job(context, stream).writing(move |output: &Output<Done>| {
        assert_eq!(output.value.result, Ok(output.value.input.pow(2)));
        Ok(Message::new(subject.clone(), output.value.input.to_string()))
    })
}

/// Runs a pipeline over so many numbers.
async fn run<X: Transaction<Done, Error = JetStreamError>>(
    numbers: u64,
    sink: &mut SinkHalf<Done>,
    store: &mut StoreHalf<Done, X>,
) -> Result<Ended, Error> {
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

pub(crate) async fn own(
    numbers: u64,
    transaction: impl Transaction<Done, Error = JetStreamError>,
) -> Result<Ended, Error> {
    let (sink, mut store) = one_transaction(transaction);
    run(numbers, &mut sink.limit(50), &mut store).await
}

pub(crate) fn all(numbers: u64) -> Vec<u64> {
    (0..numbers).collect()
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn a_pipeline_writes_each_output_once() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("pipeline").await;
    for numbers in [300, 300, 500] {
        let (mut sink, mut store) = transaction(&context, "pipeline").sink_and_store();
        assert_eq!(run(numbers, &mut sink, &mut store).await.unwrap(), Ended::Finished);
        assert_eq!(read(&context, "pipeline").await, all(numbers));
    }
}

// K10: as a crash, with the same halves in the next life.
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_dropped_write_each_output_once() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("lives").await;
    let ((mut sink, mut store), mut drops) = (one_transaction(transaction(&context, "lives")), 0);
    loop {
        let life = Duration::from_millis(rand::rng().random_range(1..50 + drops));
        if let Ok(ended) = tokio::time::timeout(life, run(NUMBERS, &mut sink, &mut store)).await {
            assert_eq!(ended.unwrap(), Ended::Finished);
            break;
        }
        drops += 1;
    }
    assert!(drops > 5, "{drops} drops");
    assert_eq!(read(&context, "lives").await, all(NUMBERS));
}

/// A negative control, if it is forgetful: it says no when it is asked whether a commit has taken place.
struct Forgetful<X> {
    transaction: X,
    is_forgetful: bool,
}

impl<X: Transaction<Done, Error = JetStreamError>> Transaction<Done> for Forgetful<X> {
    type Error = JetStreamError;

    async fn claim(&mut self) -> Result<Option<Loaded>, JetStreamError> {
        self.transaction.claim().await
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Done>],
    ) -> Result<(), JetStreamError> {
        self.transaction.commit(id, checkpoint, outputs).await
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, JetStreamError> {
        Ok(self.transaction.is_committed(id).await? && !self.is_forgetful)
    }

    fn is_final(&self, error: &JetStreamError) -> bool {
        self.transaction.is_final(error)
    }
}

/// A job of which the proxy cuts some commits. Returns the outputs.
async fn with_cuts(server: &Server, cut: Cut, stream: &str, is_forgetful: bool) -> Vec<u64> {
    let direct = server.stream(stream).await;
    let plan = Plan::new([Cut::Pass, Cut::Pass, cut, cut].repeat(3));
    let context = context(proxy::start(server.port, &plan).await).await;
    // The answer to a claim may be lost too, when the connection is down.
    loop {
        let transaction = transaction(&context, stream);
        if own(NUMBERS, Forgetful { transaction, is_forgetful }).await.is_ok() {
            assert!(plan.is_done(), "not all cuts were made");
            return read(&direct, stream).await;
        }
    }
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_found_out() {
    let Some(server) = Server::shared() else { return };
    for cut in [Cut::Before, Cut::With, Cut::Answer, Cut::Late] {
        let stream = format!("cut{cut:?}");
        assert_eq!(with_cuts(server, cut, &stream, false).await, all(NUMBERS), "{cut:?}");
    }
}

// K10: a negative control.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_question_a_lost_answer_doubles_outputs() {
    let Some(server) = Server::shared() else { return };
    let found = with_cuts(server, Cut::Answer, "forgetful", true).await;
    assert!(found.len() as u64 > NUMBERS, "no doubled output");
}

fn output(n: u64) -> Output<Done> {
    let value = Outcome { input: n, result: Ok(n * n), attempts: 1, elapsed: Duration::ZERO };
    Output { value, timestamp: None }
}

/// Drops a commit of the outputs 7 and 8 when it is on its way and held.
async fn drop_held(plan: &Plan, owner: &mut impl Transaction<Done, Error = JetStreamError>) {
    let outputs = [output(7), output(8)];
    tokio::select! {
        biased;
        done = owner.commit(CheckpointId(1), b"late", &outputs) => panic!("{done:?}"),
        () = async { while !plan.is_done() { tokio::task::yield_now().await } } => {}
    }
}

// K10, K15: the owner is killed or frozen in its commit, which arrives after another one has claimed the job, and changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_arrives_after_a_claim_changes_nothing() {
    let Some(server) = Server::shared() else { return };
    let (direct, plan) = (server.stream("late").await, Plan::new([Cut::Held]));
    let slow = context(proxy::start(server.port, &plan).await).await;
    let mut first = transaction(&slow, "late");
    first.claim().await.unwrap();
    drop_held(&plan, &mut first).await;
    let mut second = transaction(&direct, "late");
    assert_eq!(second.claim().await.unwrap(), None);
    plan.release.notify_one();
    plan.answered.notified().await;
    second.commit(CheckpointId(1), b"new", &[output(1)]).await.unwrap();
    assert_eq!(read(&direct, "late").await, [1]);
}

// K10: what was said not to have taken place never does.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_arrives_after_the_question_changes_nothing() {
    let Some(server) = Server::shared() else { return };
    let (direct, plan) = (server.stream("asked").await, Plan::new([Cut::Held]));
    let slow = context(proxy::start(server.port, &plan).await).await;
    let mut owner = transaction(&slow, "asked");
    owner.claim().await.unwrap();
    drop_held(&plan, &mut owner).await;
    // The client has to connect again.
    let is_committed = loop {
        if let Ok(answer) = owner.is_committed(CheckpointId(1)).await {
            break answer;
        }
        tokio::task::yield_now().await;
    };
    assert!(!is_committed);
    plan.release.notify_one();
    plan.answered.notified().await;
    owner.commit(CheckpointId(2), b"again", &[output(7), output(8)]).await.unwrap();
    assert_eq!(read(&direct, "asked").await, [7, 8]);
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_has_each_output_once() {
    let Some(server) = Server::start() else { return };
    let (server, numbers) = (Arc::new(server), 5 * NUMBERS);
    let context = server.stream("crashed").await;
    let crashes = tokio::spawn({
        let server = Arc::clone(&server);
        async move {
            let watching = server.context().await;
            for some in [100, 500, 900, 1300, 1700] {
                while read(&watching, "crashed").await.len() < some {
                    tokio::task::yield_now().await;
                }
                tokio::task::block_in_place(|| {
                    server.tell("down");
                    server.tell("up");
                });
            }
        }
    });
    while own(numbers, transaction(&context, "crashed")).await.is_err() {
        tokio::task::yield_now().await;
    }
    crashes.await.unwrap();
    assert_eq!(read(&context, "crashed").await, all(numbers));
}
