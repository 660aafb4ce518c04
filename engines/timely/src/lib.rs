//! [`async_wait`](AsyncWaitOperator::async_wait) as an operator of [timely dataflow](https://docs.rs/timely): many requests in flight for
//! each worker, in an order of choice, with timeouts, retries and everything else that a policy of inflight has.
//!
//! ```
//! use inflight_core::AsyncWait;
//! use inflight_timely::AsyncWaitOperator;
//! use inflight_tokio::Tokio;
//! use std::time::Duration;
//! use timely::dataflow::StreamVec;
//!
//! # async fn look_up(user: u64) -> Result<String, String> { Ok(user.to_string()) }
//! fn names<'scope>(
//!     users: StreamVec<'scope, u64, u64>,
//! ) -> Result<StreamVec<'scope, u64, Option<String>>, inflight_core::StartError> {
//!     use timely::dataflow::operators::vec::Map;
//!
//!     let policy = AsyncWait::ordered(100).timeout(Duration::from_secs(5));
//!     let names = users.async_wait(policy, |user: &u64| look_up(*user), Tokio)?;
//!     Ok(names.map(|done| done.result.ok()))
//! }
//! ```
//!
//! # The frontier is the watermark
//!
//! A frontier says which times may still come, a watermark which may not: the frontier `t` is the watermark `t - 1` ([`EventTime`]). The
//! operator hands each new frontier to its stage as that watermark, and holds a single capability, which it lowers when the watermark
//! comes out. So the promises of inflight about watermarks are promises about frontiers: no frontier passes a record in flight (O5),
//! and a frontier leaves as soon as everything before it has left (O4). Records are sent at the times at which they came.
//!
//! Records that come in under an empty stamp make no claim on the frontier; their outcomes are sent at the earliest time that is open.
//!
//! The order of a policy is that in which the operator sends. timely's own `map`, `inspect` and others sort what they find by
//! time, with a sort that may change the order of batches of the same time. To read in order, use an operator with `input.for_each`.
//!
//! # Where futures run
//!
//! The worker's thread polls the requests, in the schedule of the operator. What they wait for is driven by other threads, so take a
//! runtime that has some, such as tokio's with several threads, and [enter it on the worker's thread](AsyncWaitOperator::async_wait). A
//! wake-up activates the operator and unparks the worker. With `spawn_requests` requests run on tasks of that runtime
//! ([`async_stages`](AsyncWaitOperator::async_stages)). Answers reach the worker from another thread, so what the limits of rule T6 say
//! about runtimes with several threads holds here.
//!
//! # What timely does not have
//!
//! * **No backpressure.** A full stage leaves records in front of it in memory. The source has to stop: see [`Throttle`].
//! * **A fixed number of workers.** It is said at the start, and changing it means to stop and to share the state out anew.
//! * **Its minor versions break**, every few months. This crate is for timely 0.32.0 and says so exactly, since a dataflow cannot mix two versions.
//! * **No state that survives**, which is the next section.
//!
//! # When a worker dies
//!
//! *All stop.* When a process dies, timely's threads in the others panic, and these processes end: within 0.1 s with a panic hook
//! as below, in seconds without. But when a worker panics, the other workers of its process wait for it for ever. So let a panic end the process, with the
//! hook of the example below, or with `panic = "abort"`. Something has to start all processes again.
//!
//! *What was in memory is gone*: records in flight, in queues, in stages. What goes on is what the program has saved, and timely's frontier says
//! when to save: **a time that the frontier has passed is complete on all workers**, so it is a checkpoint, without barriers
//! and without records in it. The program `examples/exactly_once` does this, and `tests/kills.rs` kills it:
//!
//! 1. The source sends its records at times 0, 1, 2 .., the *epochs*, and notes its position behind each.
//! 2. The last operator keeps the answers of an epoch until the frontier has passed it. Then it appends them to the worker's journal,
//!    together with the source's position, in one write. It holds a capability until then; so a probe behind it passes an epoch when all workers
//!    have written it, and throttles the source.
//! 3. After a restart the workers tell each other how many epochs they have. Each cuts its journal off behind the smallest number,
//!    and its source goes on at the position there.
//!
//! Records are exchanged by their key in front of the operator, so an answer is in another worker's journal than its source's position; the
//! agreement in step 3 is what makes the two fit.
//!
//! | tried: 2 processes, saves of one of them 10 ms late (20 ms in the controls) | records | lost | doubled | out of order |
//! | --- | --- | --- | --- | --- |
//! | 10 × `kill -9` | 16,000 | 0 | 0 | 0 |
//! | the control without the agreement: each goes on at its own last epoch; 5 kills | 4,000 | 170 to 280 | 0 | 0 |
//! | the control that cuts nothing off; 5 kills | 4,000 | 0 | 520 to 780 | 165 to 200 |
//!
//! What it costs:
//!
//! * **Time.** 1.0 to 1.4 s from the kill to the next saved epoch, once 2.1 s. Nearly all of it is a second (or two) that timely sleeps between two
//!   attempts to connect its processes. Sockets that the program has connected itself avoid it
//!   (`timely::communication::allocator::zero_copy::initialize`).
//! * **Calls.** All calls of epochs that were not saved are made again, as new calls: attempts, backoffs and results are not kept, and request ids begin
//!   anew in each life. Where the service has to recognise a record, tell it the record's partition and number.
//! * **Latency.** An epoch is saved when its slowest call has ended. This is the opposite of a pipeline of inflight, whose checkpoints wait for
//!   no call (K11). Set a timeout.
//! * **Throughput.** Through the operator, 8 to 16 million records a second with a function that answers at once, where `map` passes 28 to 49
//!   million; 5 to 12 million if each request is polled twice (`examples/cost`: one worker, capacity 1,000, 1,000 records at each time, two cores
//!   shared with other work, so the figures vary). That is 0.1 µs a record: a service is slower.
//!
//! Where the log can do a transaction, a pipeline of inflight for each partition has less to lose than this: only the partitions of the process
//! that has died stop, and their number of workers can change. timely is for what a pipeline cannot do: exchanges, joins, loops.
#![forbid(unsafe_code)]

mod activation;
mod event_time;
mod operator;
mod records;
mod throttle;

pub use event_time::EventTime;
pub use operator::AsyncWaitOperator;
pub use records::Records;
pub use throttle::Throttle;
