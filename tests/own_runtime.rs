//! Runs the conformance suite on the executor of the example `own_runtime`.

#[allow(unreachable_pub, reason = "it is a module of an example")]
#[path = "../examples/own_runtime/executor.rs"]
mod executor;

use std::time::{Duration, Instant};

use inflight_conformance::Harness;

use crate::executor::Executor;

struct ByHand(Instant);

impl Harness for ByHand {
    type Runtime = Executor;

    fn run(&self, test: impl AsyncFnOnce(Executor)) {
        let executor = Executor::default();
        executor.block_on(test(executor.clone()));
    }

    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn resolution(&self) -> Option<Duration> {
        None
    }
}

#[test]
fn an_executor_written_by_hand_is_a_runtime() {
    let harness = ByHand(Instant::now());
    inflight_conformance::runtime(&harness);
    inflight_conformance::spawner(&harness);
}
