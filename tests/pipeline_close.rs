//! A pipeline whose functions are slow to close.

use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use inflight::pipeline::{Ended, MemorySink, MemorySource, Pipeline, Report};
use inflight::prelude::*;

/// A function that adds one and never finishes closing.
struct NeverClosed;

impl AsyncFunction<u32> for NeverClosed {
    type Output = u32;
    type Error = ();
    type Future = Ready<Result<u32, ()>>;

    fn invoke(&mut self, input: &u32, _: AttemptInfo) -> Self::Future {
        ready(Ok(*input + 1))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(test)
}

// L4, K10: a function that hangs in closing does not prevent the commit, and a report says that everything is
// committed.
#[test]
fn a_function_that_hangs_in_closing_does_not_hide_completion() {
    macro_rules! on {
        ($way:ident) => {{
            let (mut sink, mut store, mut story) = (MemorySink::new(), MemoryStore::new(), vec![]);
            let running = Pipeline::new(MemorySource::new(1..=9_u32), &mut sink, &mut store)
                .on_report(|report| match report {
                    Report::Saved { id, .. } => story.push(format!("saved {id}")),
                    Report::Complete { id, ended } => story.push(format!("{ended:?} with {id}")),
                    report => panic!("{report:?}"),
                })
                .run(Tokio, |numbers, checkpoint| {
                    let stage = numbers.async_wait_with(AsyncWait::ordered(2), NeverClosed);
                    stage.checkpointed("stage", 1).restore(checkpoint).$way(Tokio)
                });
            let ended = tokio::time::timeout(Duration::from_secs(3600), running).await;
            assert!(ended.is_err(), "the end is not there before all functions are closed");
            assert_eq!(story, ["saved 0", "saved 1", "Finished with 1"]);
            let written: Vec<_> = sink.committed().iter().map(|done| done.result).collect();
            assert!(written.into_iter().eq((2..=10).map(Ok)));

            // Dropping the pipeline is a crash; the next run has nothing to do.
            let again = Pipeline::new(MemorySource::new(1..=9_u32), &mut sink, &mut store);
            let ended = again.run(Tokio, |numbers, checkpoint| {
                let stage = numbers.async_wait(AsyncWait::ordered(2), |_: &u32| ready(Err(())));
                stage.checkpointed("stage", 1).restore(checkpoint).$way(Tokio)
            });
            assert_eq!(ended.await.map_err(|error| error.to_string()), Ok(Ended::Finished));
            assert_eq!(sink.committed().len(), 9);
        }};
    }
    run(async {
        on!(in_place);
        on!(spawn);
    });
}
