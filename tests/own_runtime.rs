//! Runs the conformance suite on the executor of the example `own_runtime`, and runs the examples that check
//! themselves.

#[allow(unreachable_pub, reason = "it is a module of an example")]
#[path = "../examples/own_runtime/executor.rs"]
mod executor;

use std::process::Command;
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

/// Runs an example that cargo has built with this test. Its exit status is the verdict.
fn run_example(name: &str) -> String {
    let test = std::env::current_exe().expect("it is running");
    let build = test.ancestors().nth(2).expect("tests are in `deps` of the build folder");
    let path = build.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    assert!(path.exists(), "no example: run `cargo build --examples` before this test alone");
    let output = Command::new(path).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {said}{complained}");
    said
}

#[test]
fn the_example_of_a_runtime_checks_itself() {
    assert!(run_example("own_runtime").contains("(7, None)"));
}

#[test]
fn the_example_of_an_engine_checks_itself() {
    assert!(run_example("engine").starts_with("engine: PASS rows=400 failed=2"));
}
