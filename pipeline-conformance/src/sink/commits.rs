//! What is written comes out, once, with the next checkpoint that succeeds.

use inflight_core::pipeline::TransactionalSink;
use inflight_core::{Status, Timestamp};

use super::probe::Probe;
use super::{Medium, New};
use crate::Verdict;

// K10
pub(crate) fn commits<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::new(new());
    probe.begin()?;
    for life in 0..3 {
        probe.checkpoint()?;
        for round in [1, 0, 3, 0, 0, 20] {
            probe.write(round)?;
            probe.expect("after a write")?;
            // A sink may take notice of these, and a reader must not see them.
            probe.sink().watermark(Timestamp::from_millis(life));
            probe.sink().status(Status::Idle);
            probe.sink().status(Status::Active);
            probe.checkpoint()?;
        }
        // More is written while the checkpoint is saved, and before it is committed.
        probe.write(1)?;
        let prepared = probe.pre_commit()?;
        probe.expect("after a pre-commit")?;
        probe.write(2)?;
        probe.save(&prepared);
        probe.write(1)?;
        probe.commit(&prepared)?;
        probe.expect("after the commit of a part of what was written")?;
        probe.checkpoint()?;
        probe.crash();
        probe.begin()?;
    }
    probe.go_on()
}

// Rule 1
pub(crate) fn survives<M: Medium>(new: New<'_, M>) -> Verdict {
    for records in [0, 1, 5] {
        for later in [0, 2] {
            let mut probe = Probe::begun(new())?;
            probe.write(1)?;
            probe.checkpoint()?;
            probe.write(records)?;
            let prepared = probe.pre_commit()?;
            probe.write(later)?;
            probe.save(&prepared);
            probe.crash();
            let survives = probe.begin();
            survives.map_err(|what| format!("{records} records were pre-committed: {what}"))?;
            probe.go_on()?;
        }
    }
    Ok(())
}

// Rule 2
pub(crate) fn covers<M: Medium>(new: New<'_, M>) -> Verdict {
    for failed in 1..4 {
        for between in [0, 1] {
            for crashes in [false, true] {
                let mut probe = Probe::begun(new())?;
                probe.write(2)?;
                for _ in 0..failed {
                    probe.pre_commit()?; // its save fails
                    probe.write(between)?;
                }
                let prepared = probe.pre_commit()?;
                probe.save(&prepared);
                let covered = if crashes {
                    probe.crash();
                    probe.begin()
                } else {
                    probe.commit(&prepared)?;
                    probe.expect("after the next commit")
                };
                covered.map_err(|what| format!("{failed} checkpoints have failed: {what}"))?;
                probe.crash();
                probe.begin()?;
                probe.go_on()?;
            }
        }
    }
    Ok(())
}

// Rule 3
pub(crate) fn commit_again<M: Medium>(new: New<'_, M>) -> Verdict {
    for later in [0, 1] {
        let mut probe = Probe::begun(new())?;
        probe.write(2)?;
        let first = probe.pre_commit()?;
        probe.save(&first);
        for again in ["after a commit", "after the commit came again"] {
            probe.commit(&first)?;
            probe.expect(again)?;
            probe.write(later)?;
        }
        let second = probe.pre_commit()?;
        probe.save(&second);
        probe.commit(&second)?;
        // The earlier one is covered, and is committed again all the same.
        for prepared in [&first, &second] {
            probe.commit(prepared)?;
            probe.expect("after an earlier commit came again")?;
        }
        for _ in 0..3 {
            probe.crash();
            probe.begin().map_err(|what| format!("the next life commits again: {what}"))?;
        }
        probe.go_on()?;
    }
    Ok(())
}
