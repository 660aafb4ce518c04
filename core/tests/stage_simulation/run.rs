//! Schedules run one after the other, and what is left of one that fails.

use std::any::Any;
use std::cell::Cell;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::parts::Parts;
use crate::plan::{Home, Opening, Plan};
use crate::script::Script;
use crate::setup::{Delays, Order};
use crate::values::Record;
use crate::watch::Watch;
use crate::world::World;

/// What planned panics carry.
#[derive(Debug)]
pub(crate) struct Planned;

thread_local! {
    /// Whether panics on this thread are told by whoever catches them.
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

pub(crate) fn hush_planned_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !IS_QUIET.get() {
                usual(panic);
            }
        }));
    });
}

/// What came of a schedule: how the stage and the model parted, and the story up to there.
pub(crate) struct Report {
    pub(crate) failure: Option<String>,
    story: Vec<String>,
}

/// Runs a schedule to its end.
pub(crate) fn run(script: &Script, tells: bool) -> Report {
    Record::start_counting();
    IS_QUIET.set(true);
    let mut world = World::new(&script.plan, tells);
    let result = catch_unwind(AssertUnwindSafe(|| {
        for step in &script.steps {
            world.step(*step)?;
        }
        world.run_out()
    }));
    let watch = Watch::current();
    let mut failure = match result {
        Ok(result) => result.err(),
        Err(panic) => Some(format!("panic: {}", message(&*panic))),
    };
    drop(world);
    Watch::forget();
    IS_QUIET.set(false);
    failure = failure.or(watch.look().failure.take());
    if failure.is_none() && Record::alive() != 0 {
        failure = Some(format!("{} records are left after the stage (L2)", Record::alive()));
    }
    let story = watch.look().story.take().unwrap_or_default();
    Report { failure, story }
}

pub(crate) fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// A failing schedule without what it does not need to fail.
fn shrink(mut script: Script) -> Script {
    loop {
        let before = (script.steps.len(), script.plan);
        shrink_steps(&mut script);
        shrink_plan(&mut script);
        if before == (script.steps.len(), script.plan) {
            return script;
        }
    }
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

/// Takes settings away.
fn shrink_plan(script: &mut Script) {
    let simpler: [fn(&mut Plan); 27] = [
        |plan| plan.home = Home::Heap,
        |plan| plan.setup.order = Order::Ordered,
        |plan| plan.setup.one_per_key = false,
        |plan| plan.permits = None,
        |plan| plan.setup.running_limit = None,
        |plan| plan.setup.timeout = None,
        |plan| plan.setup.attempt_timeout = None,
        |plan| plan.setup.retry_budget = None,
        |plan| plan.setup.keeps_results = false,
        |plan| plan.setup.last_attempts = false,
        |plan| plan.setup.retries.delays = Delays::NoRetry,
        |plan| plan.setup.parts = None,
        |plan| simpler_parts(plan, |parts| parts.rate = None),
        |plan| simpler_parts(plan, |parts| parts.weighed = None),
        |plan| simpler_parts(plan, |parts| parts.pauses = false),
        |plan| simpler_parts(plan, |parts| parts.own_timeouts = false),
        |plan| plan.plain = false,
        |plan| plan.opening = Opening::AtOnce,
        |plan| plan.closes_later = false,
        |plan| plan.eager = 0,
        |plan| plan.restless = 0,
        |plan| plan.timeout_actions = false,
        |plan| plan.resolution = 1,
        |plan| plan.fresh_wakers = false,
        |plan| plan.cancels_late = false,
        |plan| plan.busy_for = 0,
        |plan| plan.prompt = true,
    ];
    for simplify in simpler {
        let mut candidate = script.clone();
        simplify(&mut candidate.plan);
        if candidate.plan != script.plan && fails(&candidate) {
            *script = candidate;
        }
    }
}

fn simpler_parts(plan: &mut Plan, simplify: impl FnOnce(&mut Parts)) {
    if let Some(parts) = &mut plan.setup.parts {
        simplify(parts);
    }
}

impl Report {
    /// Something to read.
    pub(crate) fn story(&self, script: &Script) -> String {
        let mut text = format!("{}:\n", script.plan);
        for (at, line) in self.story.iter().enumerate() {
            writeln!(text, "{:3}. {line}", at + 1).expect("a string takes everything");
        }
        if let Some(failure) = &self.failure {
            writeln!(text, "     and then: {failure}").expect("a string takes everything");
        }
        text
    }
}

/// A failing schedule, shrunk, as something to read.
pub(crate) fn tell(script: Script) -> String {
    let script = shrink(script);
    run(&script, true).story(&script)
}
