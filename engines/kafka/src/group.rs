//! The consumer group as the job's assignment: this process is one member.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use inflight_partitions::{Assignment, Change};
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::types::RDKafkaRespErr;

use crate::error::KafkaJobError;

/// How often the member looks whether it is to leave, and whether it still has the partitions that it hands over.
const LOOK: Duration = Duration::from_millis(100);

/// The membership of this process in the group: [`KafkaClient::group`](crate::KafkaClient::group) makes it.
///
/// A thread keeps it alive. It reads nothing. When the group takes partitions away, the thread holds up the group's change until each of
/// them was [released](Assignment::released), for up to the job's [limit](crate::KafkaJob::hand_over_limit); partitions that are not
/// released by then are [lost](Change::Lost). Only those partitions wait that move: the group's protocol is cooperative. If the group
/// has given up this member, its partitions are lost at once.
///
/// Dropping it leaves the group too, without any waiting.
///
/// The partitions of a topic have no end. One that was [finished](Assignment::finished) is not assigned to this process again; another
/// process has to find out from its checkpoint.
pub struct KafkaGroup {
    member: Arc<Member>,
}

impl KafkaGroup {
    pub(crate) fn join(
        config: &ClientConfig,
        group: &str,
        topic: &str,
        hand_over_limit: Duration,
    ) -> Result<Self, KafkaJobError> {
        let mut config = config.clone();
        config.set("group.id", group).set("enable.auto.commit", "false");
        config.set("partition.assignment.strategy", "cooperative-sticky");
        if config.get("max.poll.interval.ms").is_none() {
            let interval = hand_over_limit.saturating_mul(2).max(Duration::from_secs(300));
            let interval = interval.as_millis().min(86_400_000); // the client's most
            config.set("max.poll.interval.ms", interval.to_string());
        }
        let member =
            Arc::new(Member { state: Mutex::default(), changed: Condvar::new(), hand_over_limit });
        let context = MemberContext(Arc::clone(&member));
        let consumer: BaseConsumer<MemberContext> = config.create_with_context(context)?;
        consumer.subscribe(&[topic])?;
        let of_thread = Arc::clone(&member);
        let thread = thread::Builder::new().name("inflight-kafka-group".into());
        thread.spawn(move || of_thread.run(consumer)).map_err(KafkaJobError::Thread)?;
        Ok(Self { member })
    }
}

impl Assignment for KafkaGroup {
    type Partition = i32;
    type Error = KafkaJobError;

    fn poll_change(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change<i32>, KafkaJobError>>> {
        let mut state = self.member.lock();
        if let Some(change) = state.changes.pop_front() {
            return Poll::Ready(Some(Ok(change)));
        }
        if let Some(error) = state.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        if state.has_left {
            return Poll::Ready(None);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn number(&self, partition: &i32) -> u16 {
        // Others are not assigned.
        u16::try_from(*partition).unwrap_or(0)
    }

    fn released(&mut self, partition: &i32) {
        self.member.lock().handing_over.remove(partition);
        self.member.changed.notify_all();
    }

    fn finished(&mut self, partition: &i32) {
        let mut state = self.member.lock();
        state.finished.insert(*partition);
        state.handing_over.remove(partition);
        self.member.changed.notify_all();
    }

    /// Leaves the group, and waits until it has been told so, or the client has given up telling it.
    async fn leave(&mut self) -> Result<(), KafkaJobError> {
        self.member.close();
        poll_fn(|cx| {
            let mut state = self.member.lock();
            if state.has_left {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        Ok(())
    }
}

impl Drop for KafkaGroup {
    fn drop(&mut self) {
        self.member.close();
    }
}

impl fmt::Debug for KafkaGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaGroup").finish_non_exhaustive()
    }
}

/// What the thread and the job share.
struct Member {
    state: Mutex<State>,
    /// A partition was released, or the member is to leave.
    changed: Condvar,
    hand_over_limit: Duration,
}

#[derive(Default)]
struct State {
    /// Changes that the job has not taken.
    changes: VecDeque<Change<i32>>,
    error: Option<KafkaJobError>,
    waker: Option<Waker>,
    /// Revoked partitions that were not released.
    handing_over: BTreeSet<i32>,
    finished: BTreeSet<i32>,
    is_leaving: bool,
    has_left: bool,
}

impl Member {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes the job.
    fn tell(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn close(&self) {
        self.lock().is_leaving = true;
        self.changed.notify_all();
    }

    /// The thread.
    fn run(&self, consumer: BaseConsumer<MemberContext>) {
        while !self.lock().is_leaving {
            // The client repeats what may pass, and has logged it.
            if let Some(Err(error @ ClientError::MessageConsumptionFatal(_))) = consumer.poll(LOOK)
            {
                self.tell(|state| state.error = Some(error.into()));
                break;
            }
        }
        self.lock().is_leaving = true; // nobody is waited for
        drop(consumer); // leaves the group
        self.tell(|state| state.has_left = true);
    }

    fn assign(&self, partitions: &[i32]) {
        self.tell(|state| {
            for partition in partitions.iter().copied() {
                if partition >= 1024 {
                    state.error = Some(KafkaJobError::TooManyPartitions { partition });
                } else if !state.finished.contains(&partition) {
                    state.changes.push_back(Change::Assigned(partition));
                }
            }
        });
    }

    fn lose(&self, partitions: &[i32]) {
        self.tell(|state| state.changes.extend(partitions.iter().copied().map(Change::Lost)));
    }

    /// Waits until the job has released the partitions, or they are lost.
    fn hand_over(&self, partitions: &[i32], is_lost: impl Fn() -> bool) {
        self.tell(|state| {
            let partitions = partitions.iter().filter(|it| !state.finished.contains(it));
            let partitions: Vec<i32> = partitions.copied().collect();
            state.handing_over.extend(&partitions);
            state.changes.extend(partitions.into_iter().map(Change::Revoked));
        });
        let deadline = Instant::now() + self.hand_over_limit;
        let mut state = self.lock();
        while !state.handing_over.is_empty() && !state.is_leaving {
            if Instant::now() >= deadline || is_lost() {
                break;
            }
            let waited = self.changed.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let left: Vec<i32> = std::mem::take(&mut state.handing_over).into_iter().collect();
        drop(state);
        self.lose(&left);
    }
}

/// What the client calls, on the thread.
struct MemberContext(Arc<Member>);

impl ClientContext for MemberContext {}

impl ConsumerContext for MemberContext {
    /// The group's assignment is taken or given up, but nothing is read by this consumer.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        what: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let Self(member) = self;
        let partitions: Vec<i32> = partitions.elements().iter().map(|it| it.partition()).collect();
        let (nothing, is_leaving) = (TopicPartitionList::new(), member.lock().is_leaving);
        let done = if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if !is_leaving {
                member.assign(&partitions);
            }
            consumer.incremental_assign(&nothing)
        } else {
            match consumer.assignment_lost() {
                _ if is_leaving => {}
                true => member.lose(&partitions),
                false => member.hand_over(&partitions, || consumer.assignment_lost()),
            }
            consumer.incremental_unassign(&nothing)
        };
        if let Err(error) = done {
            member.tell(|state| state.error = Some(error.into()));
        }
    }
}
