//! What an abort undoes, and what it must leave.

use super::probe::Probe;
use super::{Medium, New, Visible};
use crate::Verdict;

/// Output that a life leaves behind without a checkpoint.
#[derive(Clone, Copy, Debug)]
enum Leftover {
    Written,
    PreCommitted,
    PreCommittedTwice,
    PreCommittedAndMore,
}

const LEFTOVERS: [Leftover; 4] = [
    Leftover::Written,
    Leftover::PreCommitted,
    Leftover::PreCommittedTwice,
    Leftover::PreCommittedAndMore,
];

impl Leftover {
    fn leave<M: Medium>(self, probe: &mut Probe<M>) -> Verdict {
        probe.write(2)?;
        match self {
            Self::Written => {}
            Self::PreCommitted => _ = probe.pre_commit()?,
            Self::PreCommittedTwice => {
                probe.pre_commit()?;
                probe.write(1)?;
                probe.pre_commit()?;
            }
            Self::PreCommittedAndMore => {
                probe.pre_commit()?;
                probe.write(3)?;
            }
        }
        Ok(())
    }
}

// Rule 4
pub(crate) fn undo<M: Medium>(new: New<'_, M>) -> Verdict {
    for (first, second) in LEFTOVERS.into_iter().zip(LEFTOVERS.into_iter().cycle().skip(1)) {
        for crashes in [false, true] {
            let undone = leftovers(new(), [first, second], crashes);
            undone.map_err(|what| format!("{first:?}, in the next life {second:?}: {what}"))?;
        }
    }
    if new().capabilities().visible == Visible::Committed {
        let undone = older(new());
        undone.map_err(|what| format!("an older checkpoint is the latest intact one: {what}"))?;
    }
    Ok(())
}

/// `crashes` is true if the recoveries crash, too.
fn leftovers<M: Medium>(medium: M, lives: [Leftover; 2], crashes: bool) -> Verdict {
    let mut probe = Probe::begun(medium)?;
    for leftover in lives {
        leftover.leave(&mut probe)?;
        probe.crash();
        if crashes {
            // Between commit and abort, and then behind the abort.
            probe.open()?;
            let saved = probe.saved.clone().expect("the first checkpoint is saved");
            probe.commit(&saved)?;
            probe.crash();
            probe.begin()?;
            probe.crash();
        }
        probe.begin()?;
        probe.write(1)?;
        probe.checkpoint()?;
    }
    // With nothing to undo, too.
    probe.crash();
    probe.begin()?;
    probe.go_on()
}

/// The newest checkpoint cannot be read any more, but a reader has seen its output.
fn older<M: Medium>(medium: M) -> Verdict {
    let mut probe = Probe::begun(medium)?;
    probe.write(2)?;
    let older = probe.pre_commit()?;
    probe.commit(&older)?;
    probe.write(2)?;
    probe.checkpoint()?;
    probe.crash();
    probe.open()?;
    probe.commit(&older)?;
    probe.abort(Some(&older))?;
    probe.expect("after an abort")?;
    probe.crash();
    Ok(())
}

// Rule 5
pub(crate) fn foreign<M: Medium>(new: New<'_, M>) -> Verdict {
    // Output without any checkpoint, which was never committed: it may be undone, or refused because nothing tells whose it is.
    for leftover in LEFTOVERS {
        let mut probe = Probe::new(new());
        probe.begin()?;
        leftover.leave(&mut probe)?;
        probe.crash();
        probe.open()?;
        if probe.abort(None).is_ok() {
            let undone = probe.expect("after the abort of a new job");
            undone.map_err(|what| format!("{leftover:?}, never committed: {what}"))?;
            probe.checkpoint()?;
            probe.go_on()?;
        }
    }

    // Output of another job, which is committed.
    let mut probe = Probe::begun(new())?;
    probe.write(2)?;
    probe.checkpoint()?;
    probe.crash();
    for _ in 0..2 {
        probe.open()?;
        if probe.abort(None).is_ok() {
            return Err("a new job was let in over the committed output of another one".into());
        }
        probe.expect("after a new job was refused")?;
        probe.crash();
    }
    // That one is undisturbed.
    probe.begin()?;
    probe.go_on()
}
