//! All orders of what a pipeline does with its sink, up to a number of steps.

use super::probe::{Prepared, Probe};
use super::{Medium, New};
use crate::Verdict;

#[derive(Clone, Copy, Debug)]
enum Step {
    Write,
    /// A checkpoint begins.
    PreCommit,
    /// Its save succeeds.
    Save,
    /// Its save fails.
    Fail,
    Commit,
    Crash,
    /// A crash, and another one in the recovery from it, between commit and abort.
    CrashTwice,
}

/// The checkpoint that is under way.
#[derive(Clone, Copy)]
enum UnderWay {
    Nothing,
    PreCommitted,
    Saved,
}

impl UnderWay {
    fn possible(self) -> &'static [Step] {
        match self {
            Self::Nothing => &[Step::Write, Step::PreCommit, Step::Crash, Step::CrashTwice],
            Self::PreCommitted => {
                &[Step::Write, Step::Save, Step::Fail, Step::Crash, Step::CrashTwice]
            }
            Self::Saved => &[Step::Write, Step::Commit, Step::Crash, Step::CrashTwice],
        }
    }

    fn after(self, step: Step) -> Self {
        match step {
            Step::Write => self,
            Step::PreCommit => Self::PreCommitted,
            Step::Save => Self::Saved,
            Step::Fail | Step::Commit | Step::Crash | Step::CrashTwice => Self::Nothing,
        }
    }
}

// K10
pub(crate) fn orders<M: Medium>(new: New<'_, M>) -> Verdict {
    let steps = new().capabilities().steps;
    each_order(steps, UnderWay::Nothing, &mut Vec::new(), &mut |order| {
        run(new(), order).map_err(|what| format!("{order:?}: {what}"))
    })
}

/// Calls `each` with every possible order of as many steps.
fn each_order(
    left: usize,
    under_way: UnderWay,
    order: &mut Vec<Step>,
    each: &mut dyn FnMut(&[Step]) -> Verdict,
) -> Verdict {
    if left == 0 {
        return each(order);
    }
    for step in under_way.possible() {
        order.push(*step);
        each_order(left - 1, under_way.after(*step), order, each)?;
        order.pop();
    }
    Ok(())
}

fn run<M: Medium>(medium: M, order: &[Step]) -> Verdict {
    let mut probe = Probe::begun(medium)?;
    let mut under_way = None;
    for step in order {
        take(&mut probe, *step, &mut under_way)?;
        probe.expect(&format!("after {step:?}"))?;
    }
    for _ in 0..2 {
        probe.crash();
        probe.begin()?;
    }
    probe.write(1)?;
    probe.checkpoint()
}

fn take<M: Medium>(probe: &mut Probe<M>, step: Step, under_way: &mut Option<Prepared>) -> Verdict {
    match step {
        Step::Write => probe.write(1),
        Step::PreCommit => {
            *under_way = Some(probe.pre_commit()?);
            Ok(())
        }
        Step::Save => {
            probe.save(under_way.as_ref().expect("one is under way"));
            Ok(())
        }
        Step::Fail => {
            *under_way = None;
            Ok(())
        }
        Step::Commit => probe.commit(&under_way.take().expect("one is under way")),
        Step::Crash | Step::CrashTwice => {
            *under_way = None;
            probe.crash();
            if let (Step::CrashTwice, Some(saved)) = (step, probe.saved.clone()) {
                probe.open()?;
                probe.commit(&saved)?;
                probe.crash();
            }
            probe.begin()
        }
    }
}
