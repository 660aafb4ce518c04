//! Topics, written and read without the crate.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn create(config: &ClientConfig, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let created = admin.create_topics(&[new], &AdminOptions::new()).await.unwrap();
    created.into_iter().for_each(|topic| drop(topic.unwrap()));
}

/// Appends a record for each number, with its time.
pub(crate) fn append(
    config: &ClientConfig,
    topic: &str,
    partition: i32,
    numbers: impl IntoIterator<Item = u64>,
) {
    // Brokers delete what is old.
    static NOW: OnceLock<SystemTime> = OnceLock::new();
    let now = NOW.get_or_init(SystemTime::now).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let first = i64::try_from(now.as_millis()).unwrap();
    let producer: BaseProducer = config.create().unwrap();
    for number in numbers {
        let (text, time) = (number.to_string(), first + number as i64);
        let record = BaseRecord::to(topic).partition(partition).key(&text).payload(&text);
        producer.send(record.timestamp(time)).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// The numbers that a reader sees that hides what is not committed.
pub(crate) fn committed(config: &ClientConfig, topic: &str, partition: i32) -> Vec<u64> {
    read(config, topic, partition, "read_committed")
}

pub(crate) fn read(
    config: &ClientConfig,
    topic: &str,
    partition: i32,
    isolation: &str,
) -> Vec<u64> {
    let mut config = config.clone();
    config.set("group.id", "reader").set("enable.auto.commit", "false");
    config.set("isolation.level", isolation).set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    consumer.assign(&list).unwrap();
    let mut numbers = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("a record, or the end") {
            Ok(message) => {
                let text = std::str::from_utf8(message.payload().unwrap()).unwrap();
                numbers.push(text.parse().unwrap());
            }
            Err(KafkaError::PartitionEOF(_)) => return numbers,
            Err(error) => eprintln!("{error}"),
        }
    }
}

/// Deletes the records of partition 0 before an offset.
pub(crate) async fn delete_before(config: &ClientConfig, topic: &str, offset: i64) {
    let admin: AdminClient<DefaultClientContext> = config.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(offset)).unwrap();
    let deleted = admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    deleted.elements().iter().for_each(|element| element.error().unwrap());
}
