//! NATS JetStream for inflight: [`JetStreamSource`] reads a partition of a stream, [`JetStreamTransaction`] commits outputs and checkpoint
//! in one atomic batch with the fence in it, and [`JetStreamLeases`] shares partitions among workers. Each outcome is in the output stream exactly
//! once and in order, whatever is killed, frozen or cut off, workers or servers. The server must be 2.12 or later; an older one is refused.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use async_nats::jetstream;
//! use inflight_core::pipeline::{Output, Pipeline};
//! use inflight_core::{AsyncWait, AsyncWaitExt, Outcome};
//! use inflight_jetstream::{JetStreamJob, JetStreamSource, Message, Record, output_stream};
//! use inflight_tokio::Tokio;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! type Length = Outcome<Record, usize, String>;
//!
//! let context = jetstream::new(async_nats::connect("localhost").await?);
//! context.create_stream(output_stream("lengths", ["lengths.>"])).await?;
//!
//! // The third partition of the stream `lines`, whose subjects are `lines.<partition>.<key>`.
//! let source = JetStreamSource::new(context.clone(), "lines").filter("lines.3.>");
//! let job = JetStreamJob::new(context, "lengths", "lengths.checkpoint.3");
//! let (sink, store) = job
//!     .writing(|output: &Output<Length>| {
//!         let length = output.value.result.as_ref().ok(); // empty if the call has failed
//!         let payload = length.map(usize::to_string).unwrap_or_default();
//!         Ok(Message::new("lengths.out.3", payload))
//!     })
//!     .sink_and_store();
//! Pipeline::new(source, sink, store)
//!     .interval(Duration::from_secs(1))
//!     .run(Tokio, |lines, recovery| {
//!         lines
//!             .async_wait(AsyncWait::ordered(100), |line: &Record| {
//!                 let length = line.payload.len();
//!                 async move { Ok::<_, String>(length) } // a real one asks a service
//!             })
//!             .checkpointed("lengths", 1)
//!             .restore(recovery)
//!             .spawn(Tokio)
//!     })
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Partitions
//!
//! A partition of the input is a part of a stream by subject, or a stream. The publisher may put the partition into the subject, as above, or
//! the stream's subject transform does: `{{partition(8,1)}}` hashes the first wildcard's token into 8 partitions. The number of partitions stays
//! as it is for the life of a job, because the keys would move to others.
//!
//! Each partition has a pipeline of its own, with a checkpoint subject of its own; all of them may have one output stream. [`JetStreamLeases`]
//! decides which worker has which partition, for a job of `inflight-partitions`. Its decisions need not be safe: the fence is (P4).
//!
//! # What is in the output stream
//!
//! The outputs, and on each checkpoint subject one message, the latest checkpoint, with the token of its owner as a header. That message
//! replaces the one before, and its sequence is the fence.
//!
//! * A **claim** reads the last message, and publishes it again with a new token, under the condition that it is still the last one
//!   (`Nats-Expected-Last-Subject-Sequence`). Of two claims at a time the second one is refused, and reads again.
//! * A **commit** is one atomic batch: the outputs, and the checkpoint under the condition that this owner's last message is still the last
//!   one. The server stores all of them, next to each other, or none. An owner after whose message another one was published commits
//!   nothing more and gets [`JetStreamError::Fenced`], however long it was frozen, and whatever it had sent before.
//! * **After a lost answer** the last message is read again. If it is not that of the commit, it is published once more, under the same
//!   condition. So the commit cannot take place later: it would come to a last message that is not the one it expects.
//!
//! To start a job from the beginning, stop it, and purge its checkpoint subjects and its outputs.
//!
//! # Limits
//!
//! * A batch has at most 1,000 messages, so a commit has at most 999 outputs. With [`sink_and_store`](JetStreamTransaction::sink_and_store) the
//!   sink is full at 500 and a checkpoint begins; what the stages have done by then still comes before it. So let the capacity of the last stage be
//!   at most 499, also if each record has several outputs: `capacity × outputs`. While commits fail, more and more outputs wait; above 999 the
//!   pipeline ends with [`JetStreamError::TooManyOutputs`], and its next run begins at the last checkpoint. Nothing is lost, calls are made again.
//! * A checkpoint is one message: at most the server's `max_payload` (1 MiB by default) or the stream's `max_msg_size`, less 512 bytes. A
//!   longer one is [`JetStreamError::TooLarge`]; the next one may be shorter. It holds the records in flight, so the capacity times the
//!   length of a record bounds it; a pipeline with positions only needs a few bytes.
//! * A stream has at most 50 batches under way. A commit that is one too many waits, for as long as the [limit](JetStreamJob::limit).
//!
//! # Leases
//!
//! See [`JetStreamLeases`]. They are this crate's own because the server's own means do not go far enough. Consumers that are *pinned to a
//! client* (`priority_policy: pinned_client`), one for each partition, were measured with server 2.15.1, 3 clients and 8 consumers:
//!
//! * a partition in which nothing happens has no owner: the pin comes with a message, and goes when none came for the consumer's time-out. So an
//!   owner that is quiet loses its partition, and restored records would wait for the next message;
//! * the first client that waits gets the pin, so all partitions went to one client while two had none, and after its death all of them to
//!   one other;
//! * a client cannot ask for less, and nothing tells it that it was unpinned before it asks again, so there is no hand-over; nor does a
//!   consumer tell which clients there are.
//!
//! The price of leases is a message of each worker in a third of the time to live, which all workers read, and nothing for each partition.
//!
//! # Assumptions
//!
//! * The **output stream** has the settings of [`output_stream`], and no others that would delete checkpoints; a claim checks that
//!   ([`JetStreamError::Unsuitable`]). Outputs may be deleted by `max_age`, or by `max_msgs_per_subject`. Who purges a stream, or deletes messages,
//!   takes care to leave the checkpoint subjects alone.
//! * **Replicas.** With one server a commit survives the end of the server's process at any moment. With three replicas it survives that of
//!   any one of them, and waits while two are away.
//! * **Power.** By default a server tells the operating system to write at once, and the disk only every two minutes (`sync_interval`).
//!   A machine that loses power may lose what it had acknowledged since. With one server, or when several lose power at a time, that breaks the
//!   promise; set `sync_interval: always` then, at the cost of a write to the disk for each commit. With three replicas on machines that do not fail
//!   together, a server that comes back without its latest messages gets them from the others.
//!   Input, output and checkpoints may be lost to different extents: a source whose position lies behind the end of its stream is an error.
//! * A stream's **limits** delete input whether or not it was read. A position whose messages may be gone is an error
//!   ([`JetStreamError::Deleted`]). Limits that overtake a source while it reads are not noticed.
//!
//! The crate needs tokio. Connections, TLS and credentials are those of the `async_nats` client that is given to it.
#![forbid(unsafe_code)]

mod assignment;
mod batch;
mod checkpoint;
mod error;
mod reader;
mod server;
mod source;
mod stream;
mod subject;
mod transaction;

pub use assignment::{JetStreamAssignment, JetStreamLeases};
pub use batch::Message;
pub use error::{BoxError, JetStreamError, WriteError};
pub use source::{JetStreamSource, Record};
pub use stream::output_stream;
pub use transaction::{JetStreamJob, JetStreamTransaction};
