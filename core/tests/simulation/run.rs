//! Running schedules, and shrinking one that fails.

use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::parts::Parts;
use crate::script::Script;
use crate::setup::{Delays, Order, Setup, Storage};
use crate::values::Record;
use crate::world::World;

/// The result of a schedule: the difference between the operator and the model, and the events up to there.
pub(crate) struct Report {
    pub(crate) failure: Option<String>,
    story: Vec<String>,
}

/// Runs a schedule to its end.
pub(crate) fn run(script: &Script, tells: bool) -> Report {
    Record::start_counting();
    let mut world = World::new(&script.setup, tells);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for step in &script.steps {
            world.step(*step)?;
        }
        world.run_out()
    }));
    let mut failure = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(format!("panic: {}", message(&*panic))),
    };
    let story = world.story.take().unwrap_or_default();
    drop(world);
    if failure.is_none() && Record::alive() != 0 {
        failure = Some(format!("{} records are left after the operator", Record::alive()));
    }
    Report { failure, story }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Shrinks a failing schedule to the steps and settings that it needs to fail.
pub(crate) fn shrink(mut script: Script) -> Script {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    loop {
        let before = (script.steps.len(), script.setup);
        shrink_steps(&mut script);
        shrink_setup(&mut script);
        if before == (script.steps.len(), script.setup) {
            break;
        }
    }
    std::panic::set_hook(quiet);
    script
}

fn fails(script: &Script) -> bool {
    run(script, false).failure.is_some()
}

/// Leaves out chunks of steps, then single ones.
fn shrink_steps(script: &mut Script) {
    let mut chunk = script.steps.len().div_ceil(2);
    while chunk > 0 {
        let mut at = 0;
        while at < script.steps.len() {
            let mut shorter = script.clone();
            let end = (at + chunk).min(shorter.steps.len());
            shorter.steps.drain(at..end);
            if fails(&shorter) {
                *script = shorter;
            } else {
                at += chunk;
            }
        }
        chunk /= 2;
    }
}

/// Removes settings.
fn shrink_setup(script: &mut Script) {
    let simpler: [fn(&mut Setup); 22] = [
        |setup| setup.order = Order::Ordered,
        |setup| setup.order = Order::Unordered,
        |setup| setup.one_per_key = false,
        |setup| setup.storage = Storage::Heap,
        |setup| setup.running_limit = None,
        |setup| setup.timeout = None,
        |setup| setup.attempt_timeout = None,
        |setup| setup.retry_budget = None,
        |setup| setup.keeps_results = false,
        |setup| setup.last_attempts = false,
        |setup| setup.retries.delays = Delays::NoRetry,
        |setup| setup.retries.delays = Delays::Fixed(5),
        |setup| setup.retries.dictated = false,
        |setup| setup.retries.not_yet = false,
        |setup| setup.retries.only_passing = false,
        |setup| setup.parts = None,
        |setup| setup.parts = setup.parts.map(|parts| Parts { batch: None, ..parts }),
        |setup| setup.parts = setup.parts.map(|parts| Parts { limit: None, ..parts }),
        |setup| setup.parts = setup.parts.map(|parts| Parts { rate: None, ..parts }),
        |setup| setup.parts = setup.parts.map(|parts| Parts { weighed: None, ..parts }),
        |setup| setup.parts = setup.parts.map(|parts| Parts { pauses: false, ..parts }),
        |setup| setup.parts = setup.parts.map(|parts| Parts { own_timeouts: false, ..parts }),
    ];
    for simplify in simpler {
        let mut candidate = script.clone();
        simplify(&mut candidate.setup);
        if candidate.setup.order != script.setup.order && script.setup.order == Order::Ordered {
            continue;
        }
        if candidate.setup != script.setup && fails(&candidate) {
            *script = candidate;
        }
    }
}

impl Report {
    /// Prints a schedule.
    pub(crate) fn story(&self, script: &Script) -> String {
        let mut text = format!("{}:\n", script.setup);
        for (at, line) in self.story.iter().enumerate() {
            writeln!(text, "{:3}. {line}", at + 1).expect("a string takes everything");
        }
        if let Some(failure) = &self.failure {
            writeln!(text, "     and then: {failure}").expect("a string takes everything");
        }
        text
    }
}

/// Prints a failing schedule after shrinking it.
pub(crate) fn tell(script: Script) -> String {
    let script = shrink(script);
    run(&script, true).story(&script)
}
