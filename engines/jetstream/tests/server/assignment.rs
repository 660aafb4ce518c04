//! Workers that join, leave, crash and freeze, and the partitions that they have.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::{Context, kv};
use inflight_jetstream::{JetStreamAssignment, JetStreamError, JetStreamLeases};
use inflight_partitions::{Assignment, Change};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::proxy::{Plan, start};
use crate::server::Server;

/// Twice the shortest one, so that a busy machine does not make a worker lose what it has.
const TTL: Duration = Duration::from_secs(2);

fn partitions(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("p{number}")).collect()
}

fn leases(context: &Context, bucket: &str, worker: &str) -> JetStreamLeases {
    JetStreamLeases::new(context.clone(), bucket, worker, partitions(8)).ttl(TTL)
}

async fn change(assignment: &mut JetStreamAssignment) -> Option<Change<String>> {
    let next = poll_fn(|cx| assignment.poll_change(cx));
    let next = tokio::time::timeout(Duration::from_secs(60), next).await.expect("a change in time");
    next.map(|change| change.expect("a change"))
}

/// The next change that is not only news of an owner.
async fn decision(assignment: &mut JetStreamAssignment) -> Option<Change<String>> {
    loop {
        match change(assignment).await {
            Some(Change::Owner { .. }) => {}
            other => return other,
        }
    }
}

/// Who has which partition, as the workers themselves say.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<BTreeMap<String, String>>>);

impl Held {
    /// The numbers of partitions, the lowest first.
    fn counts(&self) -> Vec<usize> {
        let held = self.0.lock().unwrap();
        let mut counts = BTreeMap::new();
        held.values().for_each(|worker| *counts.entry(worker.clone()).or_insert(0) += 1);
        let mut counts: Vec<_> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    }

    async fn wait_for(&self, counts: &[usize]) {
        let arrived = async {
            while self.counts() != counts {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let arrived = tokio::time::timeout(Duration::from_secs(60), arrived).await;
        assert!(arrived.is_ok(), "{:?} and not {counts:?}", self.counts());
    }

    /// No other worker has it at the time.
    fn take(&self, partition: &str, worker: &str) {
        let before = self.0.lock().unwrap().insert(partition.to_owned(), worker.to_owned());
        assert_eq!(before, None, "{worker} got {partition}");
    }

    fn give(&self, partition: &str) {
        assert!(self.0.lock().unwrap().remove(partition).is_some(), "{partition}");
    }

    fn forget(&self, worker: &str) {
        self.0.lock().unwrap().retain(|_, holder| holder != worker);
    }
}

struct Worker {
    task: JoinHandle<()>,
    leave: oneshot::Sender<()>,
}

impl Worker {
    async fn start(context: &Context, bucket: &str, name: &str, held: &Held) -> Self {
        let assignment = leases(context, bucket, name).join().await.expect("a new worker");
        let (leave, told) = oneshot::channel();
        Self { task: tokio::spawn(work(assignment, name.to_owned(), held.clone(), told)), leave }
    }

    async fn leave(self) {
        self.leave.send(()).expect("it works");
        self.task.await.expect("it leaves");
    }
}

/// Hands over at once.
async fn work(
    mut assignment: JetStreamAssignment,
    name: String,
    held: Held,
    mut leave: oneshot::Receiver<()>,
) {
    let mut mine = Vec::new();
    loop {
        let change = tokio::select! {
            change = change(&mut assignment) => change,
            _ = &mut leave => break,
        };
        match change.expect("it goes on") {
            Change::Assigned(partition) => {
                held.take(&partition, &name);
                mine.push(partition);
            }
            Change::Revoked(partition) => {
                mine.retain(|other| *other != partition);
                held.give(&partition);
                assignment.released(&partition);
            }
            Change::Owner { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    for partition in mine {
        held.give(&partition);
        assignment.released(&partition);
    }
    assignment.leave().await.expect("it leaves");
    // There may be decisions that were made before.
    while decision(&mut assignment).await.is_some() {}
}

// P4: each partition has one worker, and all workers have as many.
#[tokio::test(flavor = "multi_thread")]
async fn workers_share_the_partitions() {
    let Some(server) = Server::shared() else { return };
    let (context, held) = (server.context().await, Held::default());
    let first = Worker::start(&context, "share", "first", &held).await;
    held.wait_for(&[8]).await;
    let second = Worker::start(&context, "share", "second", &held).await;
    held.wait_for(&[4, 4]).await;
    let third = Worker::start(&context, "share", "third", &held).await;
    held.wait_for(&[2, 3, 3]).await;
    second.leave().await;
    held.wait_for(&[4, 4]).await;
    let mut more = Vec::new();
    for name in ["fourth", "fifth", "sixth"] {
        more.push(Worker::start(&context, "share", name, &held).await);
    }
    held.wait_for(&[1, 1, 2, 2, 2]).await;
    first.leave().await;
    third.leave().await;
    held.wait_for(&[2, 3, 3]).await;
    for worker in more {
        worker.leave().await;
    }
    assert!(held.counts().is_empty());
}

// P4: a worker that has just joined is left alone by one that takes partitions meanwhile, and has not been told of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_worker_keeps_what_it_takes_while_another_one_takes() {
    let Some(server) = Server::shared() else { return };
    let (context, names) = (server.context().await, partitions(64));
    let join = |worker| JetStreamLeases::new(context.clone(), "new", worker, names.clone()).join();
    let mut first = join("first").await.unwrap();
    let mut second = join("second").await.unwrap();
    let (mut firsts, mut seconds) = (0, 0);
    while (firsts, seconds) != (32, 32) {
        let (assignment, held, decision) = tokio::select! {
            next = decision(&mut first) => (&mut first, &mut firsts, next),
            next = decision(&mut second) => (&mut second, &mut seconds, next),
        };
        match decision {
            Some(Change::Assigned(_)) => *held += 1,
            Some(Change::Revoked(partition)) => {
                *held -= 1;
                assignment.released(&partition);
            }
            other => panic!("{other:?}"),
        }
    }
}

// P4: the partitions of a worker that has crashed go to others after its time to live, and not before.
#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_crashed_worker_are_taken() {
    let Some(server) = Server::shared() else { return };
    let (context, held) = (server.context().await, Held::default());
    let first = Worker::start(&context, "crash", "first", &held).await;
    let second = Worker::start(&context, "crash", "second", &held).await;
    held.wait_for(&[4, 4]).await;
    let since = std::time::Instant::now();
    first.task.abort();
    let _ = first.task.await;
    held.forget("first");
    held.wait_for(&[8]).await;
    // It was last seen up to a third of its time to live before.
    assert!(since.elapsed() > TTL / 2, "after {:?}", since.elapsed());
    second.leave().await;
}

// P4: what a worker gives back is taken while it still has the rest, and is seen alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_leaves_is_seen_alive_until_the_end() {
    let Some(server) = Server::shared() else { return };
    let (context, held) = (server.context().await, Held::default());
    let mut leaving = leases(&context, "leaving", "leaving").join().await.unwrap();
    let mut mine = Vec::new();
    while mine.len() < 8 {
        match decision(&mut leaving).await {
            Some(Change::Assigned(partition)) => mine.push(partition),
            other => panic!("{other:?}"),
        }
    }
    let other = Worker::start(&context, "leaving", "other", &held).await;
    for (given, partition) in (1..).zip(&mine) {
        assert!(workers(&context, "leaving").await.contains(&"leaving".to_owned()));
        leaving.released(partition);
        held.wait_for(&[given]).await;
    }
    leaving.leave().await.unwrap();
    assert_eq!(workers(&context, "leaving").await, ["other"]);
    other.leave().await;
}

/// The names of the workers that are seen alive.
async fn workers(context: &Context, bucket: &str) -> Vec<String> {
    let stream = context.get_stream(format!("KV_{bucket}")).await.unwrap();
    let filter = format!("$KV.{bucket}.worker.*");
    let mut subjects = stream.info_with_subjects(filter).await.unwrap();
    let mut names = Vec::new();
    while let Some(Ok((subject, _))) = futures_util::StreamExt::next(&mut subjects).await {
        let Ok(message) = stream.get_last_raw_message_by_subject(&subject).await else { continue };
        let text = String::from_utf8(message.payload.to_vec()).unwrap();
        names.extend(text.split('"').nth(5).map(str::to_owned));
    }
    names
}

// P4: a worker that was frozen for longer than its time to live learns that it has lost everything, and begins again.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_was_frozen_has_lost_everything() {
    let Some(server) = Server::shared() else { return };
    let held = Held::default();
    let (assigned, is_assigned) = oneshot::channel();
    let port = server.port;
    // A process of its own would be stopped by a signal; this thread stops its only one.
    let frozen = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let context = crate::server::context(port).await;
            let mut assignment = leases(&context, "frozen", "frozen").join().await.unwrap();
            for _ in 0..8 {
                let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
            }
            assigned.send(()).unwrap();
            std::thread::sleep(4 * TTL);
            let mut lost = Vec::new();
            while lost.len() < 8 {
                match decision(&mut assignment).await {
                    Some(Change::Lost(partition)) => lost.push(partition),
                    Some(Change::Revoked(_)) => {}
                    other => panic!("{other:?}"),
                }
            }
            lost.sort_unstable();
            assert_eq!(lost, partitions(8));
            // It is a new worker now, with its share.
            for _ in 0..4 {
                let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
            }
        });
    });
    is_assigned.await.unwrap();
    let context = server.context().await;
    let other = Worker::start(&context, "frozen", "other", &held).await;
    held.wait_for(&[8]).await;
    tokio::task::block_in_place(|| frozen.join().unwrap());
    other.leave().await;
}

// P4: nobody gets a partition that is finished, and the assignment ends when all are.
#[tokio::test(flavor = "multi_thread")]
async fn finished_partitions_are_not_assigned_again() {
    let Some(server) = Server::shared() else { return };
    let context = server.context().await;
    let mut first = leases(&context, "finished", "first").join().await.unwrap();
    for done in 0..8 {
        let Some(Change::Assigned(partition)) = decision(&mut first).await else { panic!() };
        let number = first.number(&partition);
        assert_eq!(partitions(8)[usize::from(number)], partition);
        // The last one is left to the next worker.
        if done < 7 {
            first.finished(&partition);
        } else {
            first.released(&partition);
        }
    }
    first.leave().await.unwrap();
    let mut second = leases(&context, "finished", "second").join().await.unwrap();
    let Some(Change::Assigned(partition)) = decision(&mut second).await else { panic!() };
    second.finished(&partition);
    assert_eq!(decision(&mut second).await, None);
    let mut third = leases(&context, "finished", "third").join().await.unwrap();
    assert_eq!(decision(&mut third).await, None);
}

// P4: a server that is started again within the time to live takes nothing away.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_crashes_takes_no_partition_away() {
    let Some(server) = Server::start() else { return };
    let (context, ttl) = (server.context().await, Duration::from_secs(9));
    let mut assignment = leases(&context, "restart", "first").ttl(ttl).join().await.unwrap();
    for _ in 0..8 {
        let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
    }
    tokio::task::block_in_place(|| {
        server.tell("down");
        // The worker tries to write its key meanwhile: every third of its time to live, and a try without an answer takes as long. So
        // there is time for one more after this.
        std::thread::sleep(ttl / 3);
        server.tell("up");
    });
    let quiet = tokio::time::timeout(2 * ttl, decision(&mut assignment)).await;
    assert!(quiet.is_err(), "{quiet:?}");
}

// P4: by its own clock, because others see the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_cannot_be_seen_loses_its_partitions() {
    let Some(server) = Server::start() else { return };
    let mut assignment = leases(&server.context().await, "unseen", "first").join().await.unwrap();
    for _ in 0..8 {
        let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
    }
    tokio::task::block_in_place(|| server.tell("down"));
    for _ in 0..8 {
        let Some(Change::Lost(_)) = decision(&mut assignment).await else { panic!() };
    }
    tokio::task::block_in_place(|| server.tell("up"));
    for _ in 0..8 {
        let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
    }
}

// P4: a worker stays alive while it takes more partitions than it can in its time to live.
#[tokio::test(flavor = "multi_thread")]
async fn many_partitions_are_taken_behind_a_slow_connection() {
    let Some(server) = Server::shared() else { return };
    let port = start(server.port, &Plan::slow(Duration::from_millis(10))).await;
    let (context, names) = (crate::server::context(port).await, partitions(100));
    let leases = JetStreamLeases::new(context, "many", "first", names).ttl(TTL / 2);
    let mut assignment = leases.join().await.unwrap();
    for _ in 0..100 {
        let decision = decision(&mut assignment).await;
        assert!(matches!(decision, Some(Change::Assigned(_))), "{decision:?}");
    }
}

// P4: the job may release a partition before it hears that the worker has lost it, and has it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_of_an_earlier_lease_gives_nothing_back() {
    let Some(server) = Server::start() else { return };
    let context = server.context().await;
    let mut assignment = leases(&context, "earlier", "first").join().await.unwrap();
    for _ in 0..8 {
        let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
    }
    let before = last_lease(&context, "earlier", 7).await;
    tokio::task::block_in_place(|| {
        server.tell("down");
        std::thread::sleep(2 * TTL); // it loses everything
        server.tell("up");
    });
    while last_lease(&context, "earlier", 7).await <= before {
        tokio::task::yield_now().await;
    }
    assignment.released(&"p7".to_owned());
    let mut other = leases(&context, "earlier", "other").join().await.unwrap();
    // What was lost and taken again is shared, so this worker does not leave.
    let (mut mine, mut others) = (0, 0);
    while others < 4 {
        tokio::select! {
            mine_next = decision(&mut assignment) => match mine_next {
                Some(Change::Assigned(_)) => mine += 1,
                Some(Change::Revoked(partition)) => assignment.released(&partition),
                Some(Change::Lost(_)) => {}
                other => panic!("{other:?}"),
            },
            theirs = decision(&mut other) => match theirs {
                Some(Change::Assigned(_)) => others += 1,
                other => panic!("{other:?}"),
            },
        }
    }
    assert_eq!(mine, 8);
}

/// The sequence of a partition's last message; `None` if the server does not answer.
async fn last_lease(context: &Context, bucket: &str, partition: usize) -> Option<u64> {
    let stream = context.get_stream(format!("KV_{bucket}")).await.ok()?;
    let subject = format!("$KV.{bucket}.partition.p{partition}");
    Some(stream.get_last_raw_message_by_subject(&subject).await.ok()?.sequence)
}

// P4: a partition that has finished while it was to be handed over is told both.
#[tokio::test(flavor = "multi_thread")]
async fn a_finished_partition_that_is_released_stays_finished() {
    let Some(server) = Server::start() else { return };
    let (context, ttl) = (server.context().await, Duration::from_secs(6));
    let mut assignment = leases(&context, "both", "first").ttl(ttl).join().await.unwrap();
    for _ in 0..8 {
        let Some(Change::Assigned(_)) = decision(&mut assignment).await else { panic!() };
    }
    tokio::task::block_in_place(|| server.tell("down"));
    while context.client().connection_state() == async_nats::connection::State::Connected {
        tokio::task::yield_now().await;
    }
    for partition in partitions(8) {
        assignment.finished(&partition);
        assignment.released(&partition);
    }
    tokio::task::block_in_place(|| server.tell("up"));
    assert_eq!(decision(&mut assignment).await, None);
}

// P4: everybody sees who has which partition.
#[tokio::test(flavor = "multi_thread")]
async fn owners_are_told() {
    let Some(server) = Server::shared() else { return };
    let (context, held) = (server.context().await, Held::default());
    let first = Worker::start(&context, "told", "first", &held).await;
    held.wait_for(&[8]).await;
    let mut second = leases(&context, "told", "second").join().await.unwrap();
    let mut owners = BTreeMap::new();
    while owners.len() < 8 || owners.values().any(|worker| worker != "first") {
        if let Some(Change::Owner { partition, worker: Some(worker) }) = change(&mut second).await {
            owners.insert(partition, worker);
        }
    }
    drop(second);
    first.leave().await;
}

#[tokio::test]
async fn partitions_and_buckets_that_make_no_sense_are_refused() {
    let Some(server) = Server::shared() else { return };
    let context = server.context().await;
    let many = partitions(1025);
    let bad: [&[&str]; 4] = [&[], &["a", "a"], &["a b"], &["*"]];
    let bad = bad.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    for names in bad.into_iter().chain([many]) {
        let refused = JetStreamLeases::new(context.clone(), "bad", "worker", names).join().await;
        assert!(matches!(refused, Err(JetStreamError::Partitions)), "{refused:?}");
    }
    let config = kv::Config { bucket: "plain".to_owned(), ..kv::Config::default() };
    context.create_key_value(config).await.unwrap();
    let refused = leases(&context, "plain", "worker").join().await;
    assert!(matches!(refused, Err(JetStreamError::Unsuitable { .. })), "{refused:?}");
}
