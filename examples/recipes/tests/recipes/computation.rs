//! Computations for every record (CPU-bound work, parsing, compression, a model): `rayon`, with a channel back.
//!
//! Take it when a record needs more than some hundred microseconds of computing. In the future itself that time would hold up every
//! other request of the thread. rayon has one thread a core; the future waits for its answer, and lookups of the same
//! stage go on.
//!
//! `max_running` near the number of cores leaves the waiting to the stage, where it uses up no timeout. A computation
//! that has begun cannot be cancelled; one whose record has timed out or whose stage was dropped before does not begin.
//! A panic would abort the process, because rayon has nobody to give it to; here it is an error of its record.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::ThreadPool;
use tokio::sync::oneshot;

/// Computes on rayon's threads. Without a pool of its own a program calls `rayon::spawn`.
async fn computed<T: Send + 'static>(
    pool: &ThreadPool,
    computation: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    let (done, answer) = oneshot::channel();
    pool.spawn(move || {
        if !done.is_closed() {
            let _ = done.send(catch_unwind(AssertUnwindSafe(computation)));
        }
    });
    answer.await.ok().and_then(Result::ok).ok_or(Panicked)
}

#[derive(Debug, PartialEq)]
struct Panicked;

mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use futures_util::stream;
    use inflight::prelude::*;
    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::clock::by_hand;
    use crate::gate::Gate;

    fn one_thread() -> Arc<ThreadPool> {
        Arc::new(ThreadPoolBuilder::new().num_threads(1).build().expect("a thread"))
    }

    #[test]
    fn lookups_go_on_while_a_record_is_computed() {
        let (gate, key) = Gate::closed();
        by_hand(async |_clock| {
            let pool = one_thread();
            // The even records are computed, the odd ones looked up.
            let mut answers = stream::iter(0..10_u32)
                .async_wait(AsyncWait::unordered(10), move |record| {
                    let (pool, gate, record) = (pool.clone(), gate.clone(), *record);
                    async move {
                        match record % 2 {
                            0 => computed(&pool, move || gate.pass()).await,
                            _ => Ok(true),
                        }
                    }
                })
                .spawn(Tokio)
                .expect("a stage");

            for _ in 0..5 {
                assert_eq!(answers.next().await.expect("an outcome").input % 2, 1);
            }
            drop(key);
            for expected in [0, 2, 4, 6, 8] {
                let done = answers.next().await.expect("an outcome");
                assert_eq!((done.input, done.result), (expected, Ok(true)));
            }
            assert!(answers.next().await.is_none());
        });
    }

    #[test]
    fn a_panic_is_an_error_of_its_record() {
        by_hand(async |_clock| {
            let pool = one_thread();
            let mut answers = stream::iter([2, 1, 0_u32])
                .async_wait(AsyncWait::ordered(10), move |record| {
                    let (pool, record) = (pool.clone(), *record);
                    async move { computed(&pool, move || 2 / (2 - record)).await }
                })
                .spawn(Tokio)
                .expect("a stage");
            let mut results = Vec::new();
            while let Some(done) = answers.next().await {
                results.push(done.result);
            }
            assert_eq!(results, [Err(Failure::Error(Panicked)), Ok(2), Ok(1)]);
        });
    }

    #[test]
    fn a_computation_that_nobody_waits_for_does_not_begin() {
        let (gate, key) = Gate::closed();
        by_hand(async |clock| {
            let (pool, begun) = (one_thread(), Arc::new(AtomicU32::new(0)));
            let (of_stage, counted) = (pool.clone(), begun.clone());
            let mut answers = stream::iter(0..10_u32)
                .async_wait(AsyncWait::unordered(11), move |_| {
                    let (pool, gate, begun) = (of_stage.clone(), gate.clone(), counted.clone());
                    async move {
                        let computation = move || {
                            begun.fetch_add(1, Relaxed);
                            gate.pass()
                        };
                        computed(&pool, computation).await
                    }
                })
                .in_place(Tokio)
                .expect("a stage");
            tokio::select! {
                _ = answers.next() => panic!("the gate is closed"),
                () = clock.until("a computation begins", || begun.load(Relaxed) == 1) => {}
            }
            assert_eq!(answers.metrics().running, 10, "the others wait for the thread");

            drop(answers);
            drop(key);
            computed(&pool, || ()).await.expect("behind all others");
            assert_eq!(begun.load(Relaxed), 1);
        });
    }
}
