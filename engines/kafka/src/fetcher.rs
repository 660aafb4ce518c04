//! One consumer for all partitions that are read in this process, each with a queue of its own. A thread serves it.
//!
//! It is not a member of the group: it is told what to read, and reads the group's committed offsets. So a rebalance does not touch
//! it, and a partition may be read without a group.

use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::oneshot;

use crate::error::KafkaJobError;

/// A partition's records.
pub(crate) type Queue = PartitionQueue<Context>;

const UNKNOWN: ClientError = ClientError::OffsetFetch(RDKafkaErrorCode::UnknownPartition);

/// How often the client's logs, errors and statistics are taken.
const SERVICE: Duration = Duration::from_millis(100);

/// The consumer.
pub(crate) struct Fetcher {
    // In this order: the thread has the last reference to the consumer, whose end takes its time.
    consumer: Arc<BaseConsumer<Context>>,
    orders: Sender<Order>,
    topic: String,
}

enum Order {
    Read { partition: i32, offset: i64, wake: Arc<Wake>, reply: Reply },
    Leave { partition: i32, queue: Queue },
}

type Reply = oneshot::Sender<Result<Queue, KafkaJobError>>;

impl Fetcher {
    pub(crate) fn start(
        config: &ClientConfig,
        group: &str,
        topic: &str,
    ) -> Result<Self, KafkaJobError> {
        let mut config = config.clone();
        config.set("group.id", group).set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        // A position that is not there is an error, and nobody goes on elsewhere.
        config.set("auto.offset.reset", "error");
        if config.get("statistics.interval.ms").is_none() {
            config.set("statistics.interval.ms", "5000");
        }
        let context = Context { topic: topic.to_owned(), ends: Mutex::default() };
        let consumer: BaseConsumer<Context> = config.create_with_context(context)?;
        let consumer = Arc::new(consumer);
        let (orders, received) = channel();
        let service = Service {
            consumer: Arc::clone(&consumer),
            topic: topic.to_owned(),
            reading: BTreeSet::new(),
        };
        let thread = thread::Builder::new().name("inflight-kafka-fetch".into());
        thread.spawn(move || service.run(&received)).map_err(KafkaJobError::Thread)?;
        Ok(Self { consumer, orders, topic: topic.to_owned() })
    }

    /// The offset of the first record, and the one behind the last committed record. It blocks.
    pub(crate) fn range(
        &self,
        partition: i32,
        limit: Duration,
    ) -> Result<(u64, u64), KafkaJobError> {
        let low = self.look_up(partition, Offset::Beginning, limit)?;
        let high = self.look_up(partition, Offset::End, limit)?;
        self.consumer.context().note_end(partition, high);
        Ok((low.cast_unsigned(), high.cast_unsigned()))
    }

    /// One offset. `fetch_watermarks` asks for two at once, and takes the end for the beginning when the answer about the beginning
    /// is an error.
    fn look_up(
        &self,
        partition: i32,
        which: Offset,
        limit: Duration,
    ) -> Result<i64, KafkaJobError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, which)?;
        let found = self.consumer.offsets_for_times(list, limit)?;
        let elements = found.elements();
        let element = elements.first().ok_or(UNKNOWN)?;
        element.error()?;
        match element.offset() {
            Offset::Offset(offset) => Ok(offset),
            _ => Err(UNKNOWN.into()),
        }
    }

    /// The group's committed offset. It blocks.
    pub(crate) fn committed(
        &self,
        partition: i32,
        limit: Duration,
    ) -> Result<TopicPartitionList, KafkaJobError> {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        Ok(self.consumer.committed_offsets(list, limit)?)
    }

    /// The group, without a member of it: the fence of a partition is its producer, and a generation of the group would refuse
    /// commits of the right owner while the group changes.
    pub(crate) fn group(&self) -> Result<ConsumerGroupMetadata, KafkaJobError> {
        self.consumer.group_metadata().ok_or(KafkaJobError::ThreadEnded)
    }

    /// Begins to read a partition.
    pub(crate) async fn read(
        &self,
        partition: i32,
        position: u64,
        wake: Arc<Wake>,
    ) -> Result<Queue, KafkaJobError> {
        let (reply, answer) = oneshot::channel();
        let offset = i64::try_from(position).unwrap_or(i64::MAX);
        let _ = self.orders.send(Order::Read { partition, offset, wake, reply });
        let mut waiting = Waiting { fetcher: self, partition, answer };
        (&mut waiting.answer).await.map_err(|_| KafkaJobError::ThreadEnded)?
    }

    /// Ends reading a partition.
    pub(crate) fn leave(&self, partition: i32, queue: Queue) {
        let _ = self.orders.send(Order::Leave { partition, queue });
    }

    /// The offset behind the last record that is known of.
    pub(crate) fn end(&self, partition: i32) -> Option<u64> {
        self.consumer.context().end(partition)
    }
}

/// A wait for a queue. If it is given up, the queue is given back.
struct Waiting<'f> {
    fetcher: &'f Fetcher,
    partition: i32,
    answer: oneshot::Receiver<Result<Queue, KafkaJobError>>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.answer.close();
        if let Ok(Ok(queue)) = self.answer.try_recv() {
            self.fetcher.leave(self.partition, queue);
        }
    }
}

/// The thread's side.
struct Service {
    consumer: Arc<BaseConsumer<Context>>,
    topic: String,
    reading: BTreeSet<i32>,
}

impl Service {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            match orders.recv_timeout(SERVICE) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // Logs, statistics and errors of the connections, after which the client goes on by itself. Records come by the queues. The
            // time is not zero, because a log entry would end a poll without time.
            while self.consumer.poll(Duration::from_millis(1)).is_some() {}
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Read { partition, offset, wake, reply } => {
                let queue = self.read(partition, offset, wake);
                // Nobody waits for it any more.
                if let Err(Ok(queue)) = reply.send(queue) {
                    self.leave(partition, queue);
                }
            }
            Order::Leave { partition, queue } => self.leave(partition, queue),
        }
    }

    fn read(
        &mut self,
        partition: i32,
        offset: i64,
        wake: Arc<Wake>,
    ) -> Result<Queue, KafkaJobError> {
        if self.reading.contains(&partition) {
            return Err(KafkaJobError::Busy { partition });
        }
        // Before the client begins to read: what it has read by then would come by the main queue.
        let queue = self.consumer.split_partition_queue(&self.topic, partition);
        let mut queue = queue.ok_or(KafkaJobError::ThreadEnded)?;
        while queue.poll(Duration::ZERO).is_some() {} // of an earlier reader
        queue.set_nonempty_callback(move || wake.wake());
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, partition, Offset::Offset(offset))?;
        self.consumer.incremental_assign(&list)?;
        self.reading.insert(partition);
        Ok(queue)
    }

    fn leave(&mut self, partition: i32, queue: Queue) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        // It is assigned, because a queue of it was there; at the client's end nothing is.
        let _ = self.consumer.incremental_unassign(&list);
        drop(queue);
        self.reading.remove(&partition);
    }
}

/// The task that waits for a queue.
#[derive(Default)]
pub(crate) struct Wake(Mutex<Option<Waker>>);

impl Wake {
    pub(crate) fn register(&self, waker: &Waker) {
        let mut task = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *task {
            Some(task) => task.clone_from(waker),
            None => *task = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        let task = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// What the client tells: the ends of the partitions.
pub(crate) struct Context {
    topic: String,
    ends: Mutex<HashMap<i32, u64>>,
}

impl Context {
    fn note_end(&self, partition: i32, end: i64) {
        if let Ok(end) = u64::try_from(end) {
            self.ends.lock().unwrap_or_else(PoisonError::into_inner).insert(partition, end);
        }
    }

    fn end(&self, partition: i32) -> Option<u64> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).get(&partition).copied()
    }
}

impl ClientContext for Context {
    fn stats(&self, statistics: Statistics) {
        let Some(topic) = statistics.topics.get(&self.topic) else { return };
        for partition in topic.partitions.values() {
            self.note_end(partition.partition, partition.ls_offset);
        }
    }
}

impl ConsumerContext for Context {}
