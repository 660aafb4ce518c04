//! Pipelines over a stage in several instances, on two threads: each life has another number of them.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use inflight::pipeline::{Ended, MemorySink, MemorySource, Pipeline};
use inflight::prelude::*;

const RECORDS: u32 = 500;

/// Numbers of instances, one for each life. In all lives but the last one some requests are never answered.
const LIVES: [usize; 4] = [2, 3, 1, 2];

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_time().build().expect("a runtime").block_on(test)
}

async fn answer(number: u32, is_last_life: bool) -> Result<u32, Infallible> {
    if !is_last_life && number.is_multiple_of(100) {
        pending::<()>().await;
    }
    tokio::task::yield_now().await;
    Ok(2 * number)
}

type Done = Outcome<u32, u32, Infallible>;

fn check(sink: &MemorySink<Done>) {
    let inputs: Vec<_> = sink.committed().iter().map(|done| done.input).collect();
    assert_eq!(inputs, (1..=RECORDS).collect::<Vec<_>>());
    assert!(sink.committed().iter().all(|done| done.result == Ok(2 * done.input)));
}

#[test] // P1, P2, K5, K10, K11, O1
fn each_life_has_another_number_of_instances() {
    run(async {
        let (mut sink, mut store) = (MemorySink::<Done>::new(), MemoryStore::new());
        for (life, count) in LIVES.into_iter().enumerate() {
            let is_last = life + 1 == LIVES.len();
            let pipeline = Pipeline::new(MemorySource::new(1..=RECORDS), &mut sink, &mut store);
            let stop = pipeline.stop_handle();
            let job =
                pipeline.interval(Duration::from_millis(5)).run(Tokio, |numbers, recovery| {
                    let ask = move |number: &u32| answer(*number, is_last);
                    let instances = Instances::on(Tokio, count);
                    let stage =
                        numbers.async_wait_parallel(instances, AsyncWait::ordered(20), |_| ask);
                    stage.checkpointed("ask", 1).restore(recovery).spawn(Tokio)
                });
            if is_last {
                assert_eq!(job.await.expect("it runs"), Ended::Finished);
                break;
            }
            // The stage is full before long, with a request that is never answered. A checkpoint comes all the same.
            let crash = async {
                for _ in 0..10 {
                    stop.checkpoint_now().await.expect("it is committed");
                }
            };
            tokio::select! {
                ended = job => panic!("it has ended with {ended:?}"),
                () = crash => {}
            }
        }
        check(&sink);
    });
}

#[test] // P1, P2, K14
fn positions_alone_suffice_for_instances() {
    run(async {
        let (mut sink, mut store) = (MemorySink::<Done>::new(), MemoryStore::new());
        for (life, count) in LIVES.into_iter().enumerate() {
            let is_last = life + 1 == LIVES.len();
            let pipeline = Pipeline::new(MemorySource::new(1..=RECORDS), &mut sink, &mut store);
            let stop = pipeline.stop_handle();
            let job = pipeline.run_positions_only(Tokio, |numbers, recovery| {
                let ask = move |number: &Tracked<u32>| answer(**number, is_last);
                let instances = Instances::on(Tokio, count);
                let stage = numbers.async_wait_parallel(instances, AsyncWait::ordered(20), |_| ask);
                stage.positions_only(recovery).spawn(Tokio)
            });
            if is_last {
                assert_eq!(job.await.expect("it runs"), Ended::Finished);
                break;
            }
            tokio::select! {
                ended = job => panic!("it has ended with {ended:?}"),
                committed = stop.checkpoint_now() => committed.expect("it is committed"),
            }
        }
        check(&sink);
    });
}
