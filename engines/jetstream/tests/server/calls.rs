//! The calls one by one.

use async_nats::jetstream::Context;
use async_nats::jetstream::stream::{Config, RetentionPolicy};
use inflight_core::pipeline::{ReplayableSource, Transaction};
use inflight_core::{CheckpointId, Loaded};
use inflight_jetstream::{JetStreamError, JetStreamSource, Message, WriteError, output_stream};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::numbers::{Number, job, number, numbers, owner, read};
use crate::server::{Server, context, create};

fn loaded(id: u64, bytes: &[u8]) -> Option<Loaded> {
    Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged: 0 })
}

async fn latest(context: &Context, stream: &str) -> Option<Loaded> {
    job(context, stream).read_latest().await.unwrap()
}

// K10: outputs and checkpoint are there together, and the next life finds them.
#[tokio::test]
async fn a_commit_is_whole() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("whole").await;
    let mut first = numbers(&context, "whole");
    assert_eq!(first.claim().await.unwrap(), None);
    assert_eq!(latest(&context, "whole").await, None);
    for (id, outputs) in [(1, vec![]), (2, vec![number(0)]), (3, vec![number(1), number(2)])] {
        first.commit(CheckpointId(id), &[id as u8], &outputs).await.unwrap();
        assert_eq!(latest(&context, "whole").await, loaded(id, &[id as u8]));
    }
    assert_eq!(numbers(&context, "whole").claim().await.unwrap(), loaded(3, &[3]));
    assert_eq!(read(&context, "whole").await, [0, 1, 2]);
}

// K15: and a claim of the same value begins another life.
#[tokio::test]
async fn an_earlier_owner_commits_nothing() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("fenced").await;
    let (mut first, mut second) =
        (owner(&context, "fenced").await, owner(&context, "fenced").await);
    for outputs in [vec![number(7)], vec![]] {
        let fenced = first.commit(CheckpointId(1), b"one", &outputs).await.unwrap_err();
        assert!(
            matches!(fenced, JetStreamError::Fenced { .. }) && first.is_final(&fenced),
            "{fenced}"
        );
        let fenced = first.is_committed(CheckpointId(1)).await.unwrap_err();
        assert!(first.is_final(&fenced), "{fenced}");
    }
    second.commit(CheckpointId(1), b"two", &[number(1)]).await.unwrap();
    assert_eq!(first.claim().await.unwrap(), loaded(1, b"two"));
    let fenced = second.commit(CheckpointId(2), b"old", &[number(7)]).await.unwrap_err();
    assert!(second.is_final(&fenced), "{fenced}");
    first.commit(CheckpointId(2), b"new", &[number(2)]).await.unwrap();
    assert_eq!(read(&context, "fenced").await, [1, 2]);
}

// K10, K15: claims at the same time leave one owner, which has what was committed.
#[tokio::test(flavor = "multi_thread")]
async fn claims_at_the_same_time_leave_one_owner() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("race").await;
    for id in 1..20 {
        let claims = (0..4).map(|_| {
            let context = context.clone();
            tokio::spawn(async move { owner(&context, "race").await })
        });
        let mut owners = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            owners.push(claim.await.unwrap());
        }
        let mut commits = 0;
        for owner in &mut owners {
            let commit = owner.commit(CheckpointId(id), b"", &[number(id)]).await;
            commits += u32::from(commit.is_ok());
        }
        assert_eq!(commits, 1);
    }
    assert_eq!(read(&context, "race").await, (1..20).collect::<Vec<_>>());
}

// K10: the future of a commit that is dropped is decided by the question, and not later.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_dropped_is_whole_or_not_at_all() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("dropped").await;
    let mut owner = owner(&context, "dropped").await;
    let (mut expected, mut dropped) = (Vec::new(), 0);
    for id in 1..100 {
        let outputs: Vec<_> = (0..20).map(|n| number(100 * id + n)).collect();
        let commit = owner.commit(CheckpointId(id), b"checkpoint", &outputs);
        let is_committed = match tokio::time::timeout(Duration::from_micros(20 * id), commit).await
        {
            Ok(done) => done.is_ok(),
            Err(_) => {
                dropped += 1;
                owner.is_committed(CheckpointId(id)).await.unwrap()
            }
        };
        if is_committed {
            expected.extend(outputs.iter().map(|output| output.value));
        }
        assert_eq!(owner.is_committed(CheckpointId(id)).await.unwrap(), is_committed, "{id}");
    }
    assert!(dropped > 5, "{dropped}");
    assert_eq!(read(&context, "dropped").await, expected);
}

// Rule 2 of `Transaction`: what a batch cannot take is refused before anything is sent.
#[tokio::test]
async fn outputs_that_cannot_be_in_a_batch_are_refused() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("limits").await;
    let mut many = owner(&context, "limits").await;
    let outputs: Vec<_> = (0..1000).map(number).collect();
    let refused = many.commit(CheckpointId(1), b"", &outputs).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::TooManyOutputs { outputs: 1000, limit: 999 }));
    assert!(many.is_final(&refused));
    many.commit(CheckpointId(1), b"", &outputs[..999]).await.unwrap();
    let large = many.commit(CheckpointId(2), &[0; 1 << 20], &[number(7)]).await.unwrap_err();
    assert!(matches!(large, JetStreamError::TooLarge { .. }) && !many.is_final(&large), "{large}");
    assert_eq!(read(&context, "limits").await, (0..999).collect::<Vec<_>>());

    for subject in ["limits.checkpoint", "elsewhere", "limits", "limits.*", "limits. "] {
        let write = move |_: &Number| Ok(Message::new(subject, "7"));
        let mut foreign = job(&context, "limits").writing(write);
        foreign.claim().await.unwrap();
        let refused = foreign.commit(CheckpointId(2), b"", &[number(7)]).await.unwrap_err();
        assert!(matches!(refused, JetStreamError::ForeignSubject { .. }), "{subject}: {refused}");
        let mut failing = job(&context, "limits").writing(|_: &Number| Err(WriteError::new("no")));
        failing.claim().await.unwrap();
        let refused = failing.commit(CheckpointId(2), b"", &[number(7)]).await.unwrap_err();
        assert!(matches!(refused, JetStreamError::Write(_)), "{refused}");
    }
    assert_eq!(latest(&context, "limits").await, loaded(1, b""));
}

// Rule 3 of `Transaction`: a commit for which there is no place at the moment waits.
#[tokio::test(flavor = "multi_thread")]
async fn one_batch_too_many_waits() {
    let Some(server) = Server::start() else { return };
    let context = server.stream("batches").await;
    let client = context.client();
    let part = async |id: u64, number: &str, commit: Option<&str>| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Batch-Id", id.to_string());
        headers.insert("Nats-Batch-Sequence", number);
        commit.into_iter().for_each(|commit| headers.insert("Nats-Batch-Commit", commit));
        client.request_with_headers("batches.out", headers, id.to_string().into()).await.unwrap()
    };
    for id in 0..50 {
        assert!(part(id, "1", None).await.payload.is_empty());
    }
    let mut owner = owner(&context, "batches").await;
    let outputs = [number(50)];
    let mut commit = std::pin::pin!(owner.commit(CheckpointId(1), b"", &outputs));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut commit).await;
    assert!(early.is_err(), "{early:?}");
    part(0, "2", Some("eob")).await;
    commit.await.unwrap();
    assert_eq!(read(&context, "batches").await, [0, 50]);
}

// K15: without a claim, and without the stream's settings, nothing is committed.
#[tokio::test]
async fn a_stream_that_would_break_a_promise_is_refused() {
    let Some(server) = Server::shared() else { return };
    let context = server.context().await;
    let unclaimed = numbers(&context, "none").commit(CheckpointId(1), b"", &[]).await.unwrap_err();
    assert!(matches!(unclaimed, JetStreamError::NotClaimed));
    let missing = numbers(&context, "none").claim().await.unwrap_err();
    assert!(matches!(missing, JetStreamError::Server(_)), "{missing}");
    let good = || output_stream("unsuitable", ["unsuitable.>"]);
    let second = Duration::from_secs(1);
    let bad = [
        Config { allow_atomic_publish: false, ..good() },
        Config { allow_rollup: false, ..good() },
        Config { retention: RetentionPolicy::WorkQueue, ..good() },
        Config { max_messages: 1000, ..good() },
        Config { max_bytes: 1 << 20, ..good() },
        Config { max_age: second, duplicate_window: second, allow_message_ttl: false, ..good() },
        Config { no_ack: true, ..good() },
        Config { subjects: vec!["unsuitable.out".to_owned()], ..good() },
    ];
    for config in bad {
        create(&context, config.clone()).await;
        let refused = numbers(&context, "unsuitable").claim().await;
        assert!(
            matches!(refused, Err(JetStreamError::Unsuitable { .. })),
            "{config:?}: {refused:?}"
        );
        context.delete_stream("unsuitable").await.unwrap();
    }
}

// K9: the age that deletes outputs does not delete the checkpoint.
#[tokio::test]
async fn the_checkpoint_outlives_the_outputs() {
    let Some(server) = Server::shared() else { return };
    let context = server.context().await;
    let (max_age, duplicate_window) = (Duration::from_millis(200), Duration::from_millis(200));
    let config = output_stream("aged", ["aged.>"]);
    create(&context, Config { max_age, duplicate_window, ..config }).await;
    let mut first = owner(&context, "aged").await;
    first.commit(CheckpointId(1), b"one", &[number(0)]).await.unwrap();
    let stream = context.get_stream("aged").await.unwrap();
    while stream.get_info().await.unwrap().state.messages > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(numbers(&context, "aged").claim().await.unwrap(), loaded(1, b"one"));
}

// K9: a message that is not a checkpoint is an error, and not a new job.
#[tokio::test]
async fn a_foreign_message_is_not_a_checkpoint() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("foreign").await;
    context.publish("foreign.checkpoint", "hello".into()).await.unwrap().await.unwrap();
    let refused = numbers(&context, "foreign").claim().await.unwrap_err();
    assert!(matches!(refused, JetStreamError::Unreadable { sequence: 1, .. }), "{refused}");
}

// K10: a position of another stream is refused, as one whose messages are deleted.
#[tokio::test]
async fn a_source_refuses_positions_that_it_cannot_go_to() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("positions").await;
    for _ in 0..4 {
        context.publish("positions.in", "".into()).await.unwrap().await.unwrap();
    }
    let open = async |position| {
        let mut source = JetStreamSource::new(context.clone(), "positions");
        source.open(Some(position)).await
    };
    assert!(open(5).await.is_ok());
    let refused = open(6).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::Ahead { position: 6, last: 4 }), "{refused}");
    context.get_stream("positions").await.unwrap().purge().sequence(3).await.unwrap();
    assert!(open(3).await.is_ok());
    let refused = open(2).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::Deleted { position: 2, first: 3 }), "{refused}");
    let mut forgiving = JetStreamSource::new(context.clone(), "positions").past_deleted();
    forgiving.open(Some(2)).await.unwrap();
    assert_eq!((forgiving.position(), forgiving.lag()), (3, Some(2)));
}

// A server before 2.12 ignores the fence without an error.
#[tokio::test]
async fn an_old_server_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let info = r#"{"server_id":"X","version":"2.11.9","max_payload":1048576,"headers":true,"jetstream":true}"#;
        client.write_all(format!("INFO {info}\r\n").as_bytes()).await.unwrap();
        let mut bytes = [0; 4096];
        while client.read(&mut bytes).await.is_ok_and(|read| read > 0) {
            client.write_all(b"PONG\r\n").await.unwrap();
        }
    });
    let context = context(port).await;
    let refused = numbers(&context, "old").claim().await.unwrap_err();
    assert!(
        matches!(&refused, JetStreamError::TooOld { version } if version == "2.11.9"),
        "{refused}"
    );
    let refused = JetStreamSource::new(context, "old").open(None).await.unwrap_err();
    assert!(matches!(refused, JetStreamError::TooOld { .. }), "{refused}");
}
