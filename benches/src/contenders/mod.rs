//! Who is compared: this library in its modes, its peers, and some limits.

mod bare;
mod limit;
mod ours;
mod peers;

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;

use anyhow::Result;
use futures::{Stream, StreamExt};

use crate::cells::{self, Pick, Responder};
use crate::meter::{Amount, Answer, Clock, Measured, Meter};
use crate::runtimes::{ForStages, Rt};
use crate::workloads::{Plain, Within, Workload};

/// How this library runs its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The stage is polled by its consumer and polls its requests.
    InPlace,
    /// The stage is on a task of its own and polls its requests.
    OnTask,
    /// Each request is on a task of its own.
    Spawned,
}

/// The order in which this library hands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// All of it.
    Ordered,
    /// None.
    Unordered,
    /// That of each of 1,000,000 keys.
    ByKey,
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// This library.
    Inflight(Mode, Order),
    /// This library in place, on a stream with a watermark every 100 records.
    Watermarks(Order),
    /// `futures-buffered`, `buffered_ordered`.
    FuturesBufferedOrdered,
    /// `futures-buffered`, `buffered_unordered`.
    FuturesBufferedUnordered,
    /// `futures`, `buffered`.
    Buffered,
    /// `futures`, `buffer_unordered`.
    BufferUnordered,
    /// A task each, in a `JoinSet`, behind a semaphore (tokio only).
    JoinSet,
    /// A task each, their handles in a `VecDeque`.
    SpawnVecDeque,
    /// One request after the other.
    Sequential,
    /// A ring that keeps order and does nothing else.
    Limit,
    /// `capacity` tasks that each loop over requests: nothing is collected, nothing ordered.
    NoStage,
    /// A window of requests after the other: nothing is handed out or asked until all of it is answered.
    Alone,
}

use Contender::*;
use Mode::*;
use Order::*;

impl Contender {
    /// All of them, in the order of the tables.
    pub(crate) const ALL: &[Self] = &[
        Inflight(InPlace, Ordered),
        Inflight(InPlace, Unordered),
        Inflight(InPlace, ByKey),
        Watermarks(Ordered),
        Watermarks(Unordered),
        Inflight(OnTask, Ordered),
        Inflight(OnTask, Unordered),
        Inflight(OnTask, ByKey),
        Inflight(Spawned, Ordered),
        Inflight(Spawned, Unordered),
        Inflight(Spawned, ByKey),
        FuturesBufferedOrdered,
        FuturesBufferedUnordered,
        Buffered,
        BufferUnordered,
        JoinSet,
        SpawnVecDeque,
        Sequential,
        Limit,
        NoStage,
        Alone,
    ];

    /// Whether its results come in the order of the records.
    fn is_ordered(self) -> bool {
        matches!(
            self,
            Inflight(_, Ordered)
                | Watermarks(Ordered)
                | FuturesBufferedOrdered
                | Buffered
                | SpawnVecDeque
                | Sequential
                | Limit
                | Alone
        )
    }

    /// Whether it is among the few that sleep in a quick comparison.
    pub(crate) fn is_in_quick_sleep(self) -> bool {
        matches!(
            self,
            Inflight(InPlace | OnTask, Ordered)
                | FuturesBufferedOrdered
                | Buffered
                | SpawnVecDeque
                | NoStage
        )
    }

    /// Whether it can keep many requests in flight.
    pub(crate) fn is_concurrent(self) -> bool {
        self != Sequential
    }

    /// Whether a timeout can be put around its requests. The limits do without.
    pub(crate) fn can_time_out(self) -> bool {
        !matches!(self, Limit | Alone)
    }

    /// Whether there is such a row.
    pub(crate) fn takes_part(self, on_tokio: bool, sleeping: bool, timeout: bool) -> bool {
        match self {
            // Watermarks go with timeout and retries: all that the operator has to do.
            Watermarks(_) => timeout,
            JoinSet => on_tokio,
            NoStage => sleeping,
            Alone => false, // only where cost against capacity is looked at
            _ => !timeout || self.can_time_out(),
        }
    }
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Inflight(place, order) => {
                let place = match place {
                    InPlace => "in-place",
                    OnTask => "on-task",
                    Spawned => "spawned",
                };
                return f.pad(&format!("inflight {place} {order}"));
            }
            Watermarks(order) => {
                return f.pad(&format!("inflight in-place {order} watermarks"));
            }
            FuturesBufferedOrdered => "futures-buffered ordered",
            FuturesBufferedUnordered => "futures-buffered unordered",
            Buffered => "futures buffered",
            BufferUnordered => "futures buffer_unordered",
            JoinSet => "join-set semaphore",
            SpawnVecDeque => "spawn vecdeque",
            Sequential => "sequential",
            Limit => "limit",
            NoStage => "no stage",
            Alone => "requests alone",
        };
        f.pad(name)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ordered => "ordered",
            Unordered => "unordered",
            ByKey => "by-key",
        })
    }
}

/// A sample under way.
type Sample = Pin<Box<dyn Future<Output = Meter> + Send>>;

/// What a sample is of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// Who.
    pub(crate) contender: Contender,
    /// How many at once.
    pub(crate) capacity: usize,
    /// How many in all.
    pub(crate) amount: Amount,
    /// Whether each request has a timeout.
    pub(crate) timeout: bool,
    /// What time is taken.
    pub(crate) clock: Clock,
    /// Who completes the requests, if another task does.
    pub(crate) responder: Option<Pick>,
}

impl Task {
    /// Runs it.
    pub(crate) fn run<R, W>(self, runtime: R, work: W) -> Result<Measured>
    where
        R: Rt,
        W: Workload<Answer = Plain>,
    {
        let capacity = self.capacity;
        cells::prepare(capacity);
        let meter = Meter::new(self.amount, self.contender.is_ordered(), self.clock);
        let meter = runtime.run(async move {
            // Dropped with the contender: on smol that ends it.
            let _responder = self.responder.map(|pick| R::spawn(Responder::new(pick, capacity)));
            let sample = match self.contender {
                Inflight(place, order) if self.timeout => {
                    ours::armed(ForStages(runtime), place, order, work, capacity, meter)
                }
                Inflight(place, order) => {
                    ours::plain(ForStages(runtime), place, order, work, capacity, meter)
                }
                Watermarks(order) => {
                    ours::watermarks(ForStages(runtime), order, work, capacity, meter)
                }
                peer if self.timeout && peer.can_time_out() => {
                    let work = Within(work, PhantomData::<R>);
                    start_peer::<R, _>(peer, work, capacity, meter)
                }
                peer => start_peer::<R, _>(peer, work, capacity, meter),
            };
            sample.await
        });
        meter.finish()
    }
}

fn start_peer<R: Rt, W: Workload>(
    contender: Contender,
    work: W,
    capacity: usize,
    meter: Meter,
) -> Sample {
    match contender {
        FuturesBufferedOrdered => Box::pin(peers::futures_buffered_ordered(work, capacity, meter)),
        FuturesBufferedUnordered => {
            Box::pin(peers::futures_buffered_unordered(work, capacity, meter))
        }
        Buffered => Box::pin(peers::buffered(work, capacity, meter)),
        BufferUnordered => Box::pin(peers::buffer_unordered(work, capacity, meter)),
        JoinSet => Box::pin(peers::join_set(work, capacity, meter)),
        SpawnVecDeque => Box::pin(peers::spawn_vecdeque::<R, W>(work, capacity, meter)),
        Sequential => Box::pin(peers::sequential(work, meter)),
        Limit => Box::pin(limit::limit(work, capacity, meter)),
        NoStage => Box::pin(bare::no_stage::<R, W>(work, capacity, meter)),
        Alone => Box::pin(bare::alone(work, capacity, meter)),
        Inflight(..) | Watermarks(_) => unreachable!("this library is no peer"),
    }
}

/// Takes everything that comes.
#[inline(always)]
async fn drain<S>(stream: S, mut meter: Meter) -> Meter
where
    S: Stream<Item: Answer>,
{
    let mut stream = std::pin::pin!(stream);
    while let Some(answer) = stream.next().await {
        meter.take(answer);
    }
    meter
}
