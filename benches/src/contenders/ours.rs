//! The contenders of this library.

use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::iter;
use inflight::prelude::*;
use inflight::{KeySelector, Outcome, RetryStrategy};

use super::{Mode, Order, Sample};
use crate::meter::{Answer, Meter};
use crate::runtimes::{ForStages, Rt};
use crate::workloads::{Plain, TIMEOUT, Workload};

/// The number of keys.
const KEYS: u64 = 1_000_000;

/// Records between two watermarks.
const WATERMARK_EVERY: u64 = 100;

impl Answer for Outcome<u64, u64, u64> {
    #[inline(always)]
    fn value(self) -> Option<u64> {
        self.result.ok()
    }
}

fn all_or_none(order: Order, capacity: usize) -> AsyncWait {
    match order {
        Order::Ordered => AsyncWait::ordered(capacity),
        _ => AsyncWait::unordered(capacity),
    }
}

fn retries() -> impl RetryStrategy<u64, u64, u64> + Send + Unpin + 'static {
    ExponentialBackoff::new(Duration::from_millis(10)).when_error(|error: &u64| *error > 0)
}

fn key(record: &u64) -> u64 {
    record % KEYS
}

/// Without timeout and retries.
pub(crate) fn plain<R, W>(
    runtime: ForStages<R>,
    place: Mode,
    order: Order,
    work: W,
    capacity: usize,
    meter: Meter,
) -> Sample
where
    R: Rt,
    W: Workload<Answer = Plain>,
{
    if order == Order::ByKey {
        return start(runtime, place, AsyncWait::ordered_by_key(capacity, key), work, meter);
    }
    start(runtime, place, all_or_none(order, capacity), work, meter)
}

/// With a timeout, and ready to retry.
pub(crate) fn armed<R, W>(
    runtime: ForStages<R>,
    place: Mode,
    order: Order,
    work: W,
    capacity: usize,
    meter: Meter,
) -> Sample
where
    R: Rt,
    W: Workload<Answer = Plain>,
{
    if order == Order::ByKey {
        let policy = AsyncWait::ordered_by_key(capacity, key).timeout(TIMEOUT).retry(retries());
        return start(runtime, place, policy, work, meter);
    }
    let policy = all_or_none(order, capacity).timeout(TIMEOUT).retry(retries());
    start(runtime, place, policy, work, meter)
}

fn start<R, W, S, K>(
    runtime: ForStages<R>,
    place: Mode,
    policy: AsyncWait<S, K>,
    work: W,
    mut meter: Meter,
) -> Sample
where
    R: Rt,
    W: Workload<Answer = Plain>,
    S: RetryStrategy<u64, u64, u64> + Send + 'static,
    K: KeySelector<u64> + Send + 'static,
{
    let unstarted =
        iter(meter.records()).async_wait(policy, move |record: &u64| work.request(*record));
    match place {
        Mode::InPlace => Box::pin(async move {
            let mut stage = pin!(unstarted.in_place(runtime).expect("a stage"));
            while let Some(outcome) = stage.next().await {
                meter.take(outcome);
            }
            meter
        }),
        Mode::OnTask => Box::pin(async move {
            let mut stage = unstarted.spawn(runtime).expect("a stage");
            while let Some(outcome) = stage.next().await {
                meter.take(outcome);
            }
            meter
        }),
        Mode::Spawned => Box::pin(async move {
            let unstarted = unstarted.spawn_requests(runtime);
            let mut stage = pin!(unstarted.in_place(runtime).expect("a stage"));
            while let Some(outcome) = stage.next().await {
                meter.take(outcome);
            }
            meter
        }),
    }
}

/// In place, with all work of the operator for a record: a timeout, enabled retries, timestamps, and a
/// watermark every 100 records.
pub(crate) fn watermarks<R, W>(
    runtime: ForStages<R>,
    order: Order,
    work: W,
    capacity: usize,
    mut meter: Meter,
) -> Sample
where
    R: Rt,
    W: Workload<Answer = Plain>,
{
    let policy = all_or_none(order, capacity).timeout(TIMEOUT).retry(retries());
    let records = meter.records().end;
    Box::pin(async move {
        let unstarted =
            iter(elements(records)).async_wait(policy, move |record: &u64| work.request(*record));
        let mut stage = pin!(unstarted.in_place(runtime).expect("a stage"));
        let mut watermarks = 0;
        while let Some(element) = stage.next().await {
            match element {
                StreamElement::Record { value, .. } => meter.take(value),
                StreamElement::Watermark(_) => watermarks += 1,
                _ => unreachable!("there is nothing else in the source"),
            }
        }
        assert_eq!(watermarks, 1 + records / WATERMARK_EVERY, "a watermark is lost");
        meter
    })
}

fn elements(records: u64) -> impl Iterator<Item = StreamElement<u64>> {
    let mut next = 0;
    let mut mark = false;
    std::iter::from_fn(move || {
        let timestamp = Timestamp::from_millis(next as i64);
        if std::mem::take(&mut mark) {
            return Some(StreamElement::Watermark(timestamp));
        }
        let element = (next < records).then(|| StreamElement::record(next, timestamp));
        next += 1;
        // One more at the start, because the first watermark allocates the memory for all.
        mark = (next == 1 || next % WATERMARK_EVERY == 0) && next <= records;
        element
    })
}
