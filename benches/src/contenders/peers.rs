//! The contenders that people use today.

use std::collections::VecDeque;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::iter;
use futures_buffered::BufferedStreamExt;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::drain;
use crate::meter::Meter;
use crate::runtimes::Rt;
use crate::workloads::Workload;

pub(crate) async fn futures_buffered_ordered<W: Workload>(
    work: W,
    capacity: usize,
    meter: Meter,
) -> Meter {
    let requests = iter(meter.records()).map(move |record| work.request(record));
    drain(requests.buffered_ordered(capacity), meter).await
}

pub(crate) async fn futures_buffered_unordered<W: Workload>(
    work: W,
    capacity: usize,
    meter: Meter,
) -> Meter {
    let requests = iter(meter.records()).map(move |record| work.request(record));
    drain(requests.buffered_unordered(capacity), meter).await
}

pub(crate) async fn buffered<W: Workload>(work: W, capacity: usize, meter: Meter) -> Meter {
    let requests = iter(meter.records()).map(move |record| work.request(record));
    drain(requests.buffered(capacity), meter).await
}

pub(crate) async fn buffer_unordered<W: Workload>(work: W, capacity: usize, meter: Meter) -> Meter {
    let requests = iter(meter.records()).map(move |record| work.request(record));
    drain(requests.buffer_unordered(capacity), meter).await
}

pub(crate) async fn join_set<W: Workload>(work: W, capacity: usize, mut meter: Meter) -> Meter {
    let places = Arc::new(Semaphore::new(capacity));
    let mut requests = JoinSet::new();
    for record in meter.records() {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        requests.spawn(async move {
            let answer = work.request(record).await;
            drop(place);
            answer
        });
        while let Some(answer) = requests.try_join_next() {
            meter.take(answer.expect("the task ends by itself"));
        }
    }
    while let Some(answer) = requests.join_next().await {
        meter.take(answer.expect("the task ends by itself"));
    }
    meter
}

pub(crate) async fn spawn_vecdeque<R: Rt, W: Workload>(
    work: W,
    capacity: usize,
    mut meter: Meter,
) -> Meter {
    let mut requests = VecDeque::with_capacity(capacity);
    for record in meter.records() {
        if requests.len() == capacity
            && let Some(earliest) = requests.pop_front()
        {
            let earliest: R::Task<W::Answer> = earliest;
            meter.take(earliest.await);
        }
        requests.push_back(R::spawn(work.request(record)));
    }
    for request in requests {
        meter.take(request.await);
    }
    meter
}

pub(crate) async fn sequential<W: Workload>(work: W, mut meter: Meter) -> Meter {
    for record in meter.records() {
        meter.take(work.request(record).await);
    }
    meter
}
