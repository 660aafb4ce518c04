//! Memory: bytes per slot, beyond the record, its answer and the request itself.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use anyhow::Result;
use futures::StreamExt;
use futures::stream::iter;
use futures_lite::future::poll_once;
use inflight::prelude::*;
use inflight::{AsyncWaitExt, KeySelector};

use crate::memory;
use crate::runtimes::{ForStages, Rt, Tokio};
use crate::workloads::{Plain, TIMEOUT};

/// Requests in flight when memory is measured.
const PLACES: usize = 1 << 16;

/// Never ready.
struct Stuck {
    _value: u64,
}

impl Future for Stuck {
    type Output = Plain;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Plain> {
        Poll::Pending
    }
}

/// The record, its answer (an output or an error), and the request.
const PAYLOAD: usize = size_of::<u64>() + size_of::<Plain>() + size_of::<Stuck>();

/// The memory of a full stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes {
    /// Bytes per slot, when all are occupied.
    pub(crate) held: f64,
    /// Bytes per slot at the peak before that.
    pub(crate) peak: f64,
}

/// Fills a stage and measures it.
fn measure<K>(policy: AsyncWait<NoRetry, K>, on_task: bool) -> Bytes
where
    K: KeySelector<u64> + Send + 'static,
{
    let places = PLACES as f64;
    let runtime = Tokio { workers: 0 };
    let (held, peak) = runtime.run(async move {
        let taken = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&taken);
        let source = iter(0..2 * PLACES as u64).inspect(move |_| _ = seen.fetch_add(1, Relaxed));
        memory::start_here();
        let stage = source.async_wait(policy, |record: &u64| Stuck { _value: *record });
        let mut stage = if on_task {
            stage.spawn(ForStages(runtime)).expect("a stage").boxed()
        } else {
            stage.in_place(ForStages(runtime)).expect("a stage").boxed()
        };
        while taken.load(Relaxed) < PLACES {
            assert!(poll_once(stage.next()).await.is_none(), "nothing comes of it");
            tokio::task::yield_now().await;
        }
        let measured = (memory::bytes(), memory::peak_bytes());
        memory::stop();
        measured
    });
    let beyond = |bytes: u64| bytes as f64 / places - PAYLOAD as f64;
    Bytes { held: beyond(held), peak: beyond(peak) }
}

/// The measured stages.
fn all() -> Vec<(&'static str, Bytes)> {
    let key = |record: &u64| *record;
    let ordered = AsyncWait::ordered(PLACES);
    vec![
        ("in place, ordered", measure(ordered, false)),
        ("in place, ordered, timeout", measure(ordered.timeout(TIMEOUT), false)),
        (
            "in place, unordered, timeout",
            measure(AsyncWait::unordered(PLACES).timeout(TIMEOUT), false),
        ),
        ("in place, by key", measure(AsyncWait::ordered_by_key(PLACES, key), false)),
        (
            "in place, by key, timeout",
            measure(AsyncWait::ordered_by_key(PLACES, key).timeout(TIMEOUT), false),
        ),
        ("on its own task, ordered", measure(ordered, true)),
        ("on its own task, ordered, timeout", measure(ordered.timeout(TIMEOUT), true)),
    ]
}

/// Bytes of a stage with 1,000,000 unused slots.
fn empty() -> u64 {
    memory::start_here();
    let stage = iter(0..1_u64)
        .async_wait(AsyncWait::ordered(1_000_000).timeout(TIMEOUT), |record: &u64| Stuck {
            _value: *record,
        });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let _inside = runtime.as_ref().expect("a runtime").enter();
    let before = memory::bytes();
    let stage = stage.in_place(inflight::Tokio).expect("a stage");
    let bytes = memory::bytes() - before;
    memory::stop();
    drop(stage);
    bytes
}

/// Prints the table.
pub(crate) fn places() -> Result<()> {
    println!("bytes per slot beyond record, answer and request, {PLACES} in flight");
    println!("{:<38} {:>8} {:>8}", "", "held", "peak");
    for (name, bytes) in all() {
        println!("{name:<38} {:>8.1} {:>8.1}", bytes.held, bytes.peak);
    }
    println!("a stage with 1,000,000 unused slots: {} bytes in all", empty());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    // The figures of the docs, rounded up. It is one test, because there is one count. Another thread allocates all the time, as other
    // tests do, and must not count.
    #[test]
    fn a_place_is_small_and_no_record_allocates() {
        let ends = Arc::new(AtomicBool::new(false));
        let other = std::thread::spawn({
            let ends = Arc::clone(&ends);
            move || {
                while !ends.load(Relaxed) {
                    drop(std::hint::black_box(Box::new(0)));
                }
            }
        });
        check_places_and_allocations();
        ends.store(true, Relaxed);
        other.join().expect("it only allocates");
    }

    fn check_places_and_allocations() {
        const AT_MOST: [f64; 7] = [76.0, 92.0, 92.0, 96.0, 112.0, 172.0, 188.0];
        for ((name, bytes), at_most) in all().into_iter().zip(AT_MOST) {
            assert!(bytes.held <= at_most, "{name}: {:.1} bytes per slot", bytes.held);
        }
        assert!(empty() < 4096, "{} bytes without a record", empty());
        crate::compare::tests::no_record_allocates();
    }
}
