//! Kafka for inflight: the partitions of a topic as pipelines, each with its output, its offset and its checkpoint in one transaction.
//!
//! ```no_run
//! use inflight_core::pipeline::{Output, one_transaction};
//! use inflight_core::{AsyncWait, AsyncWaitExt, Outcome, Tracked};
//! use inflight_kafka::{KafkaJob, KafkaRecord, Message, WriteError};
//! use inflight_partitions::{Partition, Partitions};
//! use inflight_tokio::Tokio;
//! use rdkafka::ClientConfig;
//! use std::time::Duration;
//!
//! type Asked = Outcome<KafkaRecord, Vec<u8>, String>;
//!
//! # async fn ask(record: KafkaRecord) -> Result<Vec<u8>, String> { Ok(record.value.unwrap_or_default()) }
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let mut config = ClientConfig::new();
//! config.set("bootstrap.servers", "kafka:9092");
//! let client = KafkaJob::new(config, "enrich", "orders").start()?; // the group, and the topic that it reads
//! let job = Partitions::new(client.group()?);
//! job.run(Tokio, async move |partition: Partition<i32>| {
//!     let id = *partition.id();
//!     let write = |output: &Output<Asked>| -> Result<_, WriteError> {
//!         let Outcome { input, result, .. } = &output.value;
//!         let answer = result.as_ref().ok(); // failed calls write nothing
//!         Ok(answer.map(|answer| Message {
//!             key: input.key.clone(),
//!             ..Message::new("enriched", answer.clone())
//!         }))
//!     };
//!     let (sink, store) = one_transaction(client.transaction(id, write));
//!     partition
//!         .pipeline(client.source(id), sink, store)
//!         .interval(Duration::from_secs(1))
//!         .run_positions_only(Tokio, |records, recovery| {
//!             records
//!                 .async_wait(AsyncWait::ordered(100), |record: &Tracked<KafkaRecord>| {
//!                     ask((**record).clone()) // a real one asks a service
//!                 })
//!                 .positions_only(recovery)
//!                 .spawn(Tokio)
//!         })
//!         .await
//! })
//! .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Where the checkpoint is
//!
//! In the metadata of the partition's committed offset, in the group whose name is the job's. There is no other store. Brokers take
//! 4,096 bytes there (`offset.metadata.max.bytes`), so the checkpoints must be short: those of
//! [`run_positions_only`](inflight_core::pipeline::Pipeline::run_positions_only) are, with an ordered stage about 200 bytes of metadata. A longer
//! one is refused before anything is sent ([`KafkaJobError::CheckpointTooLarge`]). Checkpoints that contain records fit only if
//! [few and short ones](KafkaJob::metadata_limit) are in flight; the crate has no topic for larger ones.
//!
//! The committed offset itself is the source's position, for programs that watch the group's lag. An offset that another program has
//! committed in the group is refused ([`KafkaJobError::ForeignOffset`]), and nobody begins anew because of it.
//!
//! # The fence
//!
//! Each partition has a transactional producer, whose `transactional.id` is group, topic and partition.
//!
//! * A **claim** is `init_transactions`: the brokers decide the transaction of the owner before, and refuse whatever that one sends from then on. Then the
//!   claim reads the committed offset, which nobody can change any more but this owner.
//! * A **commit** is one transaction: the messages, the offset with the checkpoint, the end. It is opened when the checkpoint is due and
//!   closed at once, so a transaction lasts as long as its messages take; it is given up after the job's [limit](KafkaJob::limit).
//! * **After a lost answer** the same producer repeats the end of the transaction until the brokers tell whether it was committed. No
//!   other producer is asked, which would take the partition from an owner that has claimed it since.
//! * A commit whose future is dropped goes on on its thread; the next call waits for it.
//!
//! The group does not fence: its generation is not part of a commit, because it would refuse a right owner's commit while the group
//! changes. A wrong decision of the group therefore delays, and does not damage (P4).
//!
//! Readers of the output must be `read_committed`. They wait behind an open transaction: after a process has died in one, until the
//! partition is claimed, or for the limit.
//!
//! # One member, one consumer
//!
//! In a process one consumer is the member of the group, on a thread of its own that does nothing else, so that the group sees this
//! process alive however busy its tasks are. When the group takes partitions away, the callback [holds up](KafkaJob::hand_over_limit)
//! the change until the job has handed them over; the others go on. A second consumer, which is no member, reads all partitions of the process, each from
//! the position of its checkpoint and into a queue of its own, so a partition that is slow does not hold up the others, and a change of the group
//! disturbs nobody.
//!
//! A job reads one topic: the partition's number is its number in the job (K17), and there are at most 1,024. A second topic is a second job.
//!
//! Each partition costs a producer, which has threads of its own: one, and one for each broker that it talks to. And it costs memory when
//! its pipeline is slower than its log: records that were read ahead, up to `queued.max.messages.kbytes` of librdkafka **for each
//! partition**, 64 MiB if the configuration does not say less. Let `fetch.queue.backoff.ms` be shorter than its second then, since a
//! partition whose queue is full is read again only after that time.
//!
//! # Assumptions
//!
//! * Committed offsets are kept. Brokers forget those of a group that has been without members for `offsets.retention.minutes` (7 days),
//!   and a forgotten offset looks like a new job, which begins where the log begins. Set it to longer than a job may pause. The same counts for
//!   partitions that are read without a [group](KafkaClient::group), from their last commit on.
//! * The log is kept for longer than the job may pause. If not, the source does not open ([`KafkaJobError::OutOfRange`]), and says so.
//! * Output topics and the offsets are replicated as the data deserves, and `min.insync.replicas` is set; the producers wait for all replicas.
//! * The crate builds librdkafka with a C compiler and `make`, without TLS and without gzip and zstd. Programs that need them turn on the features
//!   of `rdkafka` with that name (`ssl`, `libz`, `zstd`) themselves.
//!
//! # What was tested with what
//!
//! **Apache Kafka itself was not run**: it could not be had on the machines where the tests run. Three stand-ins were, each for what it gets right:
//!
//! | promise | librdkafka's mock 2.12 | noida-db 0.2.3 | tansu 0.6 |
//! | --- | --- | --- | --- |
//! | a source's rules (the suite for sources), gaps, positions that are gone | | yes | |
//! | partitions side by side, brokers that go and come back | yes | | |
//! | a store's rules (the suite for stores) | | yes | |
//! | output and checkpoint together or not at all; aborted output is not read | | yes | no: it shows aborted output, and forgets the metadata of offsets in transactions |
//! | the fence: zombies, frozen and killed owners, with the control without it | no fence | yes | |
//! | hand-over before the group goes on, leaving | yes | | yes |
//! | hand-over that takes too long, members that are given up, that are dropped | yes | | |
//! | whole jobs whose partitions move: each record once, in order | the group, with noida's log | yes, without kills | |
//! | whole jobs whose workers are killed: each record once, in order | | the log, with tansu's group | the group |
//!
//! What none of them proves: a coordinator that moves to another broker in the middle of a transaction, replicas that fail, lost answers of an `EndTxn`.
//!
//! The crate needs tokio: the client's blocking calls go to its threads for such calls, and a runtime that shuts down waits for those that
//! are under way, for up to the limit.
#![forbid(unsafe_code)]

mod blocking;
mod client;
mod error;
mod fetcher;
mod group;
mod metadata;
mod record;
mod source;
mod transaction;
mod writer;

pub use client::{KafkaClient, KafkaJob};
pub use error::{KafkaJobError, WriteError};
pub use group::KafkaGroup;
pub use record::{KafkaRecord, Message};
pub use source::KafkaSource;
pub use transaction::KafkaTransaction;
