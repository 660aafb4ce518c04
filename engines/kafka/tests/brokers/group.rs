//! The group as an assignment: librdkafka's mock, and the server whose groups are right.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::time::Duration;

use inflight_kafka::{KafkaGroup, KafkaJob};
use inflight_partitions::{Assignment, Change};
use rdkafka::ClientConfig;
use rdkafka::mocking::MockCluster;

use crate::broker::{Broker, config_of};
use crate::topic::{PATIENCE, create};

/// A member of a group, and what it has.
struct Worker {
    group: KafkaGroup,
    has: BTreeSet<i32>,
    /// Revoked, and not released.
    revoked: BTreeSet<i32>,
    lost: BTreeSet<i32>,
    /// How often it was asked to hand over.
    revocations: usize,
}

impl Worker {
    fn join(config: &ClientConfig, topic: &str, limit: Duration) -> Self {
        let job = KafkaJob::new(config.clone(), topic, topic).hand_over_limit(limit);
        let group = job.start().unwrap().group().unwrap();
        Self {
            group,
            has: BTreeSet::new(),
            revoked: BTreeSet::new(),
            lost: BTreeSet::new(),
            revocations: 0,
        }
    }

    async fn take_change(&mut self) {
        let change = poll_fn(|cx| self.group.poll_change(cx)).await.unwrap().unwrap();
        match change {
            Change::Assigned(partition) => assert!(self.has.insert(partition), "{partition}"),
            Change::Revoked(partition) => {
                assert!(self.has.contains(&partition), "{partition}");
                self.revoked.insert(partition);
                self.revocations += 1;
            }
            Change::Lost(partition) => {
                assert!(self.has.remove(&partition), "{partition}");
                self.revoked.remove(&partition);
                self.lost.insert(partition);
            }
            _ => {}
        }
    }

    /// Takes changes until it is so.
    async fn until(&mut self, is_so: impl Fn(&Self) -> bool) {
        let changes = async {
            while !is_so(self) {
                self.take_change().await;
            }
        };
        if tokio::time::timeout(2 * PATIENCE, changes).await.is_err() {
            panic!("it has {:?}, revoked {:?}, lost {:?}", self.has, self.revoked, self.lost);
        }
    }

    /// Whether no change comes for a while.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(Duration::from_millis(1500), self.take_change()).await.is_err()
    }

    fn release(&mut self) {
        for partition in std::mem::take(&mut self.revoked) {
            self.has.remove(&partition);
            self.group.released(&partition);
        }
    }

    fn owns(&self, partitions: usize) -> bool {
        self.has.len() - self.revoked.len() == partitions
    }
}

/// Short times, so that the tests are.
pub(crate) fn quick(mut config: ClientConfig) -> ClientConfig {
    config.set("session.timeout.ms", "6000").set("heartbeat.interval.ms", "200");
    config.set("topic.metadata.refresh.interval.ms", "500");
    config
}

/// Another member comes, waits until the first one has handed over, and leaves again.
async fn hands_over(config: ClientConfig, topic: &str) {
    let mut first = Worker::join(&config, topic, PATIENCE);
    first.until(|it| it.owns(4)).await;
    let mut second = Worker::join(&config, topic, PATIENCE);
    first.until(|it| it.revoked.len() == 2).await;
    // P4: nobody gets what is not released.
    assert!(second.is_quiet().await, "{:?}", second.has);
    assert!(second.has.is_empty());
    first.release();
    second.until(|it| it.owns(2)).await;
    assert!(first.has.is_disjoint(&second.has), "{:?} {:?}", first.has, second.has);
    assert_eq!(first.has.len(), 2);

    // It leaves, after its partitions were released.
    for partition in std::mem::take(&mut second.has) {
        second.group.released(&partition);
    }
    tokio::time::timeout(PATIENCE, second.group.leave()).await.unwrap().unwrap();
    let change = poll_fn(|cx| second.group.poll_change(cx)).await;
    assert!(change.is_none(), "{change:?}");
    first.until(|it| it.owns(4)).await;
    assert!(first.lost.is_empty());
}

// P4
#[tokio::test(flavor = "multi_thread")]
async fn a_member_hands_over_before_the_group_goes_on() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("hands", 4, 1).unwrap();
    hands_over(quick(config_of(&cluster)), "hands").await;
}

// P4
#[tokio::test(flavor = "multi_thread")]
async fn a_member_hands_over_to_another_client_of_a_server() {
    let Some(broker) = Broker::groups() else { return };
    create(&broker.config(), "hands", 4).await;
    hands_over(quick(broker.config()), "hands").await;
}

// P4: the group waits, but not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_released_in_time_is_lost() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("late", 2, 1).unwrap();
    let config = quick(config_of(&cluster));
    let mut first = Worker::join(&config, "late", Duration::from_millis(500));
    first.until(|it| it.owns(2)).await;
    let mut second = Worker::join(&config, "late", Duration::from_millis(500));
    first.until(|it| it.lost.len() == 1).await;
    second.until(|it| it.owns(1)).await;
    assert_eq!(first.lost, second.has);
    // Too late, and tolerated.
    for partition in first.lost.clone() {
        first.group.released(&partition);
    }
    assert!(first.is_quiet().await);
}

// P4: a member that is given up loses its partitions without being asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_the_group_has_given_up_loses_its_partitions() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("given-up", 2, 1).unwrap();
    let config = quick(config_of(&cluster));
    let mut worker = Worker::join(&config, "given-up", PATIENCE);
    worker.until(|it| it.owns(2)).await;
    // The brokers are away for longer than the session.
    cluster.broker_down(1).unwrap();
    worker.until(|it| it.lost.len() == 2).await;
    assert_eq!(worker.revocations, 0);
    cluster.broker_up(1).unwrap();
    worker.until(|it| it.owns(2)).await;
}

// P4: dropping the assignment leaves the group without waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_dropped_leaves() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("dropped", 2, 1).unwrap();
    let config = quick(config_of(&cluster));
    let mut first = Worker::join(&config, "dropped", 10 * PATIENCE);
    first.until(|it| it.owns(2)).await;
    let mut second = Worker::join(&config, "dropped", PATIENCE);
    first.until(|it| it.revoked.len() == 1).await;
    drop(first); // while the group waits for it
    second.until(|it| it.owns(2)).await;
}
