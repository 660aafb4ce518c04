//! A whole job over partitions.

use std::time::Duration;

use inflight_core::pipeline::Output;
use inflight_core::{AsyncWait, AsyncWaitExt, Outcome, Permits};
use inflight_jetstream::{JetStreamJob, JetStreamLeases, JetStreamSource, Message, Record};
use inflight_partitions::{Partition, Partitions};
use inflight_tokio::Tokio;

use crate::server::Server;

type Length = Outcome<Record, usize, String>;

// P3: on a runtime with threads its future is spawned like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_spawned() {
    let Some(server) = Server::shared() else { return };
    let context = server.stream("spawned").await;
    for partition in ["a", "b"] {
        let published = context.publish(format!("spawned.in.{partition}"), "hello".into()).await;
        published.unwrap().await.unwrap();
    }
    let leases = JetStreamLeases::new(context.clone(), "spawned", "worker", ["a", "b"]);
    let permits = Permits::new(10).unwrap();
    let job = Partitions::new(leases.join().await.unwrap());
    let handle = job.handle();
    let run = tokio::spawn(job.run(Tokio, async move |partition: Partition<String>| {
        let id = partition.id().clone();
        let input = format!("spawned.in.{id}");
        let source = JetStreamSource::new(context.clone(), "spawned").filter(input);
        let checkpoint = format!("spawned.checkpoint.{id}");
        let job = JetStreamJob::new(context.clone(), "spawned", checkpoint);
        let (sink, store) = job
            .writing(move |output: &Output<Length>| {
                let length = *output.value.result.as_ref().unwrap_or(&0);
                Ok(Message::new(format!("spawned.out.{id}"), length.to_string()))
            })
            .sink_and_store();
        partition
            .pipeline(source, sink, store)
            .interval(Duration::from_millis(10))
            .run(Tokio, |lines, recovery| {
                lines
                    .async_wait(AsyncWait::ordered(10), |line: &Record| {
                        let length = line.payload.len();
                        async move { Ok::<_, String>(length) }
                    })
                    .permits(&permits)
                    .checkpointed("lengths", 1)
                    .restore(recovery)
                    .spawn(Tokio)
            })
            .await
    }));
    let all_are_out = || {
        let view = handle.view();
        view.partitions.len() == 2 && view.partitions.iter().all(|partition| partition.outputs == 1)
    };
    while !all_are_out() {
        tokio::task::yield_now().await;
    }
    handle.leave();
    run.await.expect("it does not panic").expect("it leaves");
}
