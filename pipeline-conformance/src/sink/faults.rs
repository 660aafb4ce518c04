//! An output that vanishes.

use std::panic::{AssertUnwindSafe, catch_unwind};

use futures_lite::future::block_on;
use inflight_core::pipeline::TransactionalSink;

use super::probe::Probe;
use super::{Medium, New, Visible};
use crate::{Verdict, told};

// Rule 7
pub(crate) fn vanished<M: Medium>(new: New<'_, M>) -> Verdict {
    // While records are written, and while a checkpoint is saved.
    for is_saved in [false, true] {
        let mut probe = Probe::begun(new())?;
        probe.write(2)?;
        probe.checkpoint()?;
        probe.write(1)?;
        let prepared = probe.pre_commit()?;
        if is_saved {
            probe.save(&prepared);
        }
        probe.medium.take_away();
        // A write may be buffered, but a pre-commit has to reach the medium.
        let written = caught("a write", || probe.try_write())?;
        if is_saved {
            let (id, description) = prepared.read::<M>()?;
            let committed = caught("a commit", || block_on(probe.sink().commit(id, &description)))?;
            if committed.is_ok() && probe.medium.capabilities().visible == Visible::Committed {
                return Err("it has committed though the output is gone".into());
            }
        }
        let id = probe.next_id();
        let again = caught("a pre-commit", || block_on(probe.sink().pre_commit(id)))?;
        if written.is_ok() && again.is_ok() {
            return Err("it has pre-committed a record though the output is gone".into());
        }
        probe.medium.bring_back();
        probe.crash();
        probe.begin().map_err(|what| format!("after the output was back: {what}"))?;
        probe.go_on()?;
    }
    Ok(())
}

fn caught<T>(what: &str, operation: impl FnOnce() -> T) -> Verdict<T> {
    catch_unwind(AssertUnwindSafe(operation))
        .map_err(|_| told(format_args!("{what} has panicked"))("the output is gone"))
}
