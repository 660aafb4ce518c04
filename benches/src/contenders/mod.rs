//! The contenders: this library in its modes, its peers, and some limits.

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

/// The three ways in which this library runs requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// The stage is polled by its consumer and polls its requests.
    InPlace,
    /// The stage is on a task of its own and polls its requests.
    OnTask,
    /// Each request is on a task of its own.
    Spawned,
}

/// The order of this library's outcomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// The order of all records.
    Ordered,
    /// No order.
    Unordered,
    /// The order of the records of each of 1,000,000 keys.
    ByKey,
}

/// The contenders.
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
    /// A task per request, in a `JoinSet`, behind a semaphore (tokio only).
    JoinSet,
    /// A task per request, their handles in a `VecDeque`.
    SpawnVecDeque,
    /// One request after the other.
    Sequential,
    /// A ring that keeps order and does nothing else.
    Limit,
    /// `capacity` tasks that each loop over requests: it collects no results and keeps no order.
    NoStage,
    /// One window of requests after the other: a window is handed out when all of it is answered, and then
    /// the next begins.
    Alone,
}

use Contender::*;
use Mode::*;
use Order::*;

impl Contender {
    /// All contenders, in the order of the tables.
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

    /// True if its results come in the order of the records.
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

    /// True if it is among the few contenders with a sleep in a quick comparison.
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

    /// True if it can have many requests in flight.
    pub(crate) fn is_concurrent(self) -> bool {
        self != Sequential
    }

    /// True if its requests can have a timeout. The limits have none.
    pub(crate) fn can_time_out(self) -> bool {
        !matches!(self, Limit | Alone)
    }

    /// True if the contender has such a row.
    pub(crate) fn takes_part(self, on_tokio: bool, sleeping: bool, timeout: bool) -> bool {
        match self {
            // Watermarks are measured with timeout and retries, so that the operator has all its work to do.
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

/// The parameters of a sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Task {
    /// The contender.
    pub(crate) contender: Contender,
    /// The number of requests in flight.
    pub(crate) capacity: usize,
    /// The number of records.
    pub(crate) amount: Amount,
    /// True if each request has a timeout.
    pub(crate) timeout: bool,
    /// The clock.
    pub(crate) clock: Clock,
    /// The responder, if another task completes the requests.
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
            // Dropped with the contender, which ends the task on smol.
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

/// Takes all results of a stream.
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
