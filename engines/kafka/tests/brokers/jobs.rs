//! Whole jobs over a group: the partitions go from worker to worker, and each record comes out.

use std::collections::BTreeMap;
use std::env;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inflight_core::pipeline::{Output, one_transaction};
use inflight_core::{AsyncWait, AsyncWaitExt, Tracked};
use inflight_kafka::{KafkaJob, KafkaJobError, KafkaRecord, Message, WriteError};
use inflight_partitions::{Event, JobError, JobHandle, Partition, Partitions};
use inflight_tokio::Tokio;
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;
use tokio::task::JoinHandle;

use crate::broker::{Broker, config, config_of};
use crate::group::quick;
use crate::owner::{Done, message, number, square};
use crate::topic::{PATIENCE, append, create, read};

const PARTITIONS: i32 = 4;
const RECORDS: u64 = 400;

type Outcome = Result<(), JobError<KafkaJobError>>;

/// A worker of a job, in this process.
struct Worker {
    handle: JobHandle<i32>,
    job: JoinHandle<Outcome>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Worker {
    fn start(log: &ClientConfig, group: &ClientConfig, topic: &str) -> Self {
        let job = |config: &ClientConfig| KafkaJob::new(config.clone(), topic, topic);
        let group = job(group).start().unwrap().group().unwrap();
        let (client, out) = (job(log).start().unwrap(), format!("{topic}-out"));
        let events: Arc<Mutex<Vec<String>>> = Arc::default();
        let told = Arc::clone(&events);
        let job = Partitions::new(group).on_event(move |event: Event<'_, i32>| {
            told.lock().unwrap().push(format!("{event:?}"));
        });
        let handle = job.handle();
        let run = job.run(Tokio, async move |partition: Partition<i32>| {
            let (id, out) = (*partition.id(), out.clone());
            let write = move |output: &Output<Done>| -> Result<Option<Message>, WriteError> {
                Ok(Some(message(&out, id, output)))
            };
            let (sink, store) = one_transaction(client.transaction(id, write));
            let pipeline = partition.pipeline(client.source(id), sink, store);
            let pipeline = pipeline.interval(Duration::from_millis(20));
            let ended = pipeline.run_positions_only(Tokio, |records, recovery| {
                records
                    .async_wait(AsyncWait::ordered(5), |record: &Tracked<KafkaRecord>| {
                        square(number(record))
                    })
                    .positions_only(recovery)
                    .spawn(Tokio)
            });
            ended.await
        });
        let job = tokio::spawn(run);
        Self { handle, job, events }
    }

    /// The number of partitions that it has and that run.
    fn partitions(&self) -> usize {
        self.handle.view().partitions.len()
    }

    async fn leave(self) {
        self.handle.leave();
        let left = tokio::time::timeout(PATIENCE, self.job).await;
        left.expect("it leaves").unwrap().unwrap();
        let events = self.events.lock().unwrap();
        let is_bad = |event: &&String| {
            ["Failed", "Fenced", "Lost", "TimedOut"].iter().any(|bad| event.contains(bad))
        };
        assert_eq!(events.iter().find(is_bad), None);
    }
}

/// A worker in a process of its own, which is killed when this is dropped.
struct Process(Child);

impl Process {
    fn start(log: u16, group: u16, topic: &str) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args(["--exact", "jobs::process", "--ignored", "--test-threads=1"]);
        command.env("WORKER", format!("{log} {group} {topic}"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        Self(child.expect("this program, again"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A worker until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other tests start it"]
async fn process() {
    let Ok(order) = env::var("WORKER") else { return };
    let order: Vec<_> = order.split(' ').collect();
    let [log, group, topic] = order[..] else { panic!("{order:?}") };
    let of_port = |port: &str| config(port.parse().unwrap());
    Worker::start(&of_port(log), &quick(of_port(group)), topic).job.await.unwrap().unwrap();
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < 2 * PATIENCE, "not {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The numbers in each partition of the output.
fn output(config: &ClientConfig, topic: &str) -> BTreeMap<i32, Vec<u64>> {
    let of = |it| (it, read(config, &format!("{topic}-out"), it, "read_committed"));
    (0..PARTITIONS).map(of).collect()
}

/// Two workers come, and one goes, while records come.
async fn partitions_move(log: &ClientConfig, group: &ClientConfig, topic: &str) {
    create(log, topic, PARTITIONS).await;
    create(log, &format!("{topic}-out"), PARTITIONS).await;
    let append_to_all = |numbers: std::ops::Range<u64>| {
        (0..PARTITIONS).for_each(|it| append(log, topic, it, numbers.clone()));
    };
    append_to_all(0..RECORDS / 4);
    let first = Worker::start(log, group, topic);
    until("all with the first", || first.partitions() == 4).await;
    append_to_all(RECORDS / 4..RECORDS / 2);
    let second = Worker::start(log, group, topic);
    until("shared", || first.partitions() == 2 && second.partitions() == 2).await;
    append_to_all(RECORDS / 2..RECORDS * 3 / 4);
    first.leave().await;
    until("all with the second", || second.partitions() == 4).await;
    append_to_all(RECORDS * 3 / 4..RECORDS);
    let all: Vec<_> = (0..RECORDS).collect();
    until("all out", || output(log, topic).values().all(|it| it.len() >= all.len())).await;
    second.leave().await;
    for (partition, numbers) in output(log, topic) {
        assert!(numbers == all, "partition {partition}: {numbers:?}");
    }
}

// P3, P4: the group of one broker, and the log of another, because none of those that can be had has both.
#[tokio::test(flavor = "multi_thread")]
async fn each_record_comes_out_once_while_partitions_move() {
    let Some(broker) = Broker::transactions() else { return };
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("moves", PARTITIONS, 1).unwrap();
    partitions_move(&broker.config(), &quick(config_of(&cluster)), "moves").await;
}

// P3, P4: both of one broker, where nobody is killed.
#[tokio::test(flavor = "multi_thread")]
async fn each_record_comes_out_once_while_partitions_of_one_broker_move() {
    let Some(broker) = Broker::transactions() else { return };
    partitions_move(&broker.config(), &quick(broker.config()), "one").await;
}

// P3, P4: workers that are killed, of which the group learns only when their sessions are over.
#[tokio::test(flavor = "multi_thread")]
async fn each_record_comes_out_once_while_workers_are_killed() {
    let (Some(log), Some(group)) = (Broker::transactions(), Broker::groups()) else { return };
    let (config, topic) = (log.config(), "killed-workers");
    for config in [&config, &group.config()] {
        create(config, topic, PARTITIONS).await;
    }
    create(&config, "killed-workers-out", PARTITIONS).await;
    let start = || Process::start(log.port(), group.port(), topic);
    let mut workers = [start(), start()];
    for kill in 0..5 {
        let numbers = RECORDS / 5 * kill..RECORDS / 5 * (kill + 1);
        (0..PARTITIONS).for_each(|it| append(&config, topic, it, numbers.clone()));
        // In the middle of it, as far as the worker has partitions then.
        let some = |it: &Vec<u64>| it.len() as u64 > RECORDS / 5 * kill + 5;
        until("some more", || output(&config, topic).values().any(some)).await;
        workers[kill as usize % 2] = start(); // the earlier one is killed then
    }
    let all: Vec<_> = (0..RECORDS).collect();
    until("all out", || output(&config, topic).values().all(|it| it.len() >= all.len())).await;
    for (partition, numbers) in output(&config, topic) {
        assert!(numbers == all, "partition {partition}: {numbers:?}");
    }
}
