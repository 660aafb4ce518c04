//! The calls of a transaction one by one, with the broker whose transactions are right.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use inflight_core::pipeline::{Output, Transaction};
use inflight_core::{CheckpointId, Loaded};
use inflight_kafka::{KafkaClient, KafkaJob, KafkaJobError, Message, WriteError};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use crate::broker::Broker;
use crate::topic::{PATIENCE, committed, create, read};

pub(crate) type Number = Output<u64>;

pub(crate) fn number(value: u64) -> Number {
    Output { value, timestamp: None }
}

/// A transaction whose numbers go to the topic `<job>-out`.
pub(crate) fn numbers(
    client: &KafkaClient,
    job: &str,
) -> impl Transaction<u64, Error = KafkaJobError> + use<> {
    let topic = format!("{job}-out");
    client.transaction(0, move |output: &Number| match output.value {
        666 => Err(WriteError::new("a bad number")),
        value => Ok([Message::new(&topic, value.to_string()).key(value.to_string())]),
    })
}

/// A job with the topics `<job>` and `<job>-out`, of one partition each.
async fn job(broker: &Broker, job: &str) -> KafkaClient {
    create(&broker.config(), job, 1).await;
    create(&broker.config(), &format!("{job}-out"), 1).await;
    KafkaJob::new(broker.config(), job, job).start().unwrap()
}

fn loaded(id: u64, bytes: &[u8]) -> Option<Loaded> {
    Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged: 0 })
}

/// The numbers in the output of a job.
fn output(broker: &Broker, job: &str) -> Vec<u64> {
    committed(&broker.config(), &format!("{job}-out"), 0)
}

// K9, K10: output, offset and checkpoint of a commit are there, and a checkpoint is read without a claim.
#[tokio::test]
async fn a_commit_is_read_back() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "commits").await;
    let mut owner = numbers(&client, "commits");
    let early = owner.commit(CheckpointId(1), b"", &[]).await;
    assert!(matches!(early, Err(KafkaJobError::NotClaimed)), "{early:?}");
    assert_eq!(owner.claim().await.unwrap(), None);
    assert_eq!(client.read_latest(0).await.unwrap(), None);
    for id in 1..4 {
        let outputs = [number(id * 2), number(id * 2 + 1)];
        owner.commit(CheckpointId(id), b"bytes", &outputs).await.unwrap();
        assert!(owner.is_committed(CheckpointId(id)).await.unwrap());
        assert!(!owner.is_committed(CheckpointId(id + 1)).await.unwrap());
        assert_eq!(client.read_latest(0).await.unwrap(), loaded(id, b"bytes"));
    }
    assert_eq!(output(broker, "commits"), [2, 3, 4, 5, 6, 7]);
    assert_eq!(numbers(&client, "commits").claim().await.unwrap(), loaded(3, b"bytes"));
}

// K10: nothing of a commit is there whose outputs cannot be made messages, or that the client refuses half-way.
#[tokio::test]
async fn a_commit_that_fails_commits_nothing() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "fails").await;
    let mut owner = client.transaction(0, |output: &Number| {
        let value = match output.value {
            666 => return Err(WriteError::new("a bad number")),
            // Longer than a message may be.
            0 => "0".repeat(2_000_000),
            value => value.to_string(),
        };
        Ok([Message::new("fails-out", value)])
    });
    owner.claim().await.unwrap();
    let failed = owner.commit(CheckpointId(1), b"one", &[number(1), number(666)]).await;
    let Err(KafkaJobError::Write(reason)) = &failed else { panic!("{failed:?}") };
    assert_eq!(reason.to_string(), "a bad number");
    assert!(!owner.is_committed(CheckpointId(1)).await.unwrap());

    let failed = owner.commit(CheckpointId(2), b"two", &[number(1), number(0)]).await;
    assert!(matches!(failed, Err(KafkaJobError::Client(_))), "{failed:?}");
    assert!(!Transaction::<u64>::is_final(&owner, &failed.unwrap_err()));
    assert!(!owner.is_committed(CheckpointId(2)).await.unwrap());
    assert_eq!(client.read_latest(0).await.unwrap(), None);
    owner.commit(CheckpointId(3), b"three", &[number(2)]).await.unwrap();
    assert_eq!(output(broker, "fails"), [2]);
}

// K15
#[tokio::test]
async fn only_the_last_owner_commits() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "claimed").await;
    let (mut first, mut second) = (numbers(&client, "claimed"), numbers(&client, "claimed"));
    first.claim().await.unwrap();
    first.commit(CheckpointId(1), b"one", &[number(0)]).await.unwrap();
    assert_eq!(second.claim().await.unwrap(), loaded(1, b"one"));
    let fenced = first.commit(CheckpointId(2), b"two", &[number(7)]).await.unwrap_err();
    assert!(matches!(fenced, KafkaJobError::Fenced { .. }), "{fenced:?}");
    assert!(first.is_final(&fenced));
    assert_eq!(fenced.to_string(), "claimed-claimed-0 has a newer owner: stop this one");
    let fenced = first.commit(CheckpointId(2), b"two", &[]).await.unwrap_err();
    assert!(first.is_final(&fenced), "{fenced:?}");
    second.commit(CheckpointId(2), b"two", &[number(1)]).await.unwrap();
    assert_eq!(output(broker, "claimed"), [0, 1]);

    // A second claim of the same value begins another life.
    assert_eq!(first.claim().await.unwrap(), loaded(2, b"two"));
    first.commit(CheckpointId(3), b"three", &[number(2)]).await.unwrap();
    let fenced = second.commit(CheckpointId(3), b"three", &[number(7)]).await.unwrap_err();
    assert!(second.is_final(&fenced), "{fenced:?}");
    assert_eq!(output(broker, "claimed"), [0, 1, 2]);
}

// K15: a transaction that was open when the partition was claimed is never seen, and does not hold up the next one.
#[tokio::test]
async fn a_claim_ends_the_transaction_of_the_owner_before() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "open").await;
    let zombie = tokio::task::spawn_blocking(|| {
        let mut config = broker.config();
        config.set("transactional.id", "open-open-0");
        let zombie: BaseProducer = config.create().unwrap();
        zombie.init_transactions(PATIENCE).unwrap();
        zombie.begin_transaction().unwrap();
        zombie.send(BaseRecord::to("open-out").key("7").payload("7")).unwrap();
        zombie.flush(PATIENCE).unwrap();
        zombie
    });
    let zombie = zombie.await.unwrap();
    let mut owner = numbers(&client, "open");
    assert_eq!(owner.claim().await.unwrap(), None);
    owner.commit(CheckpointId(1), b"one", &[number(0)]).await.unwrap();
    assert_eq!(output(broker, "open"), [0]);
    // The control: it was there.
    assert_eq!(read(&broker.config(), "open-out", 0, "read_uncommitted"), [7, 0]);
    tokio::task::spawn_blocking(|| drop(zombie)).await.unwrap();
}

// K10: the future of a commit is dropped after each number of polls. The commit is whole or not at all, and the answer holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_dropped_is_decided() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "dropped").await;
    let mut owner = numbers(&client, "dropped");
    owner.claim().await.unwrap();
    let mut expected = Vec::new();
    for id in 1..=10 {
        {
            let outputs = [number(id)];
            let mut commit = pin!(owner.commit(CheckpointId(id), b"bytes", &outputs));
            poll_fn(|cx| {
                assert!(commit.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            // Sometimes it has begun.
            for _ in 0..id * 50 {
                tokio::task::yield_now().await;
            }
        }
        let is_committed = owner.is_committed(CheckpointId(id)).await.unwrap();
        assert_eq!(owner.is_committed(CheckpointId(id)).await.unwrap(), is_committed);
        expected.extend(is_committed.then_some(id));
        assert_eq!(output(broker, "dropped"), expected);
    }
}

// K9: a commit of a life that has ended does not come late, after the next claim.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_dropped_does_not_come_after_a_claim() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "late").await;
    let mut owner = numbers(&client, "late");
    let mut latest = owner.claim().await.unwrap();
    for id in 1..=10 {
        {
            let outputs = [number(id)];
            let mut commit = pin!(owner.commit(CheckpointId(id), b"bytes", &outputs));
            poll_fn(|cx| {
                assert!(commit.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        let claimed = owner.claim().await.unwrap();
        assert!(claimed == latest || claimed == loaded(id, b"bytes"), "{claimed:?}");
        latest = claimed;
        assert_eq!(client.read_latest(0).await.unwrap(), latest);
        let seen = output(broker, "late").last().copied();
        assert_eq!(seen, latest.as_ref().map(|it| it.id.0));
    }
}

// K9: the limit of the metadata is told before anything is sent.
#[tokio::test]
async fn a_checkpoint_that_is_too_long_is_refused() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "long").await;
    let mut owner = numbers(&client, "long");
    owner.claim().await.unwrap();
    let longest = (4096 - "inflight1 0000000000000001 ".len()) / 4 * 3;
    owner.commit(CheckpointId(1), &vec![7; longest], &[]).await.unwrap();
    let refused = owner.commit(CheckpointId(2), &vec![7; longest + 1], &[number(0)]).await;
    let Err(KafkaJobError::CheckpointTooLarge { len: 4097.., limit: 4096 }) = refused else {
        panic!("{refused:?}")
    };
    assert!(!owner.is_committed(CheckpointId(2)).await.unwrap());
    assert_eq!(client.read_latest(0).await.unwrap(), loaded(1, &vec![7; longest]));
    assert_eq!(output(broker, "long"), [0; 0]);
}

// K9: an offset that no pipeline has committed is an error, and no new job.
#[tokio::test]
async fn a_foreign_offset_is_refused() {
    let Some(broker) = Broker::transactions() else { return };
    let client = job(broker, "foreign").await;
    tokio::task::spawn_blocking(|| {
        let mut config = broker.config();
        config.set("group.id", "foreign");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset("foreign", 0, Offset::Offset(7)).unwrap();
        consumer.commit(&list, CommitMode::Sync).unwrap();
    })
    .await
    .unwrap();
    let refused = numbers(&client, "foreign").claim().await;
    let Err(KafkaJobError::ForeignOffset { partition: 0, offset: 7 }) = refused else {
        panic!("{refused:?}")
    };
}

#[test]
fn without_tokio_it_is_an_error() {
    let config = crate::broker::config(1);
    let client = KafkaJob::new(config, "job", "topic").start().unwrap();
    let mut read = pin!(client.read_latest(0));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let Poll::Ready(failed) = read.as_mut().poll(&mut cx) else { panic!("it waits") };
    assert!(matches!(failed, Err(KafkaJobError::NoRuntime)), "{failed:?}");
}
