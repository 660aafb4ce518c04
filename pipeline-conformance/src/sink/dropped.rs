//! Futures that are dropped half-way, at every await.

use inflight_core::pipeline::TransactionalSink;

use super::probe::{Prepared, Probe};
use super::{Medium, New};
use crate::Verdict;

/// The operation whose future is dropped.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Write,
    PreCommit,
    Commit,
    /// The commit at the beginning of a life, in which the checkpoint may or may not have been committed before.
    CommitAgain,
    Abort,
    /// The abort of a new job.
    AbortOfNewJob,
}

// Rule 6
pub(crate) fn dropped<M: Medium>(new: New<'_, M>) -> Verdict {
    for operation in [
        Operation::Write,
        Operation::PreCommit,
        Operation::Commit,
        Operation::CommitAgain,
        Operation::Abort,
        Operation::AbortOfNewJob,
    ] {
        // Zero polls: the future is dropped before it has begun.
        for polls in 0.. {
            let mut probe = Probe::new(new());
            let has_ended = drop_one(&mut probe, operation, polls)?;
            let goes_on = after(&mut probe);
            goes_on
                .map_err(|what| format!("{operation:?}, dropped after {polls} polls: {what}"))?;
            if has_ended {
                break;
            }
        }
    }
    Ok(())
}

/// Returns true if the future was ready before it was dropped.
fn drop_one<M: Medium>(probe: &mut Probe<M>, operation: Operation, polls: usize) -> Verdict<bool> {
    if let Operation::AbortOfNewJob = operation {
        probe.open()?;
        return drop_abort(probe, None, polls);
    }
    probe.begin()?;
    probe.checkpoint()?;
    probe.write(2)?;
    probe.checkpoint()?;
    probe.write(1)?;
    match operation {
        Operation::Write => {
            let (record, mut sink) = (probe.next_record(), probe.sink.take().expect("it is open"));
            Ok(probe.drop_after(polls, sink.write(record, None)).is_some())
        }
        Operation::PreCommit => {
            let (id, mut sink) = (probe.next_id(), probe.sink.take().expect("it is open"));
            Ok(probe.drop_after(polls, sink.pre_commit(id)).is_some())
        }
        Operation::Commit | Operation::CommitAgain => {
            let prepared = probe.pre_commit()?;
            probe.save(&prepared);
            if let Operation::CommitAgain = operation {
                probe.write(1)?;
                probe.crash();
                probe.open()?;
            }
            drop_commit(probe, &prepared, polls)
        }
        _ => {
            probe.pre_commit()?; // its save fails
            probe.write(2)?;
            probe.crash();
            probe.open()?;
            let saved = probe.saved.clone().expect("two are saved");
            probe.commit(&saved)?;
            drop_abort(probe, Some(&saved), polls)
        }
    }
}

fn drop_commit<M: Medium>(
    probe: &mut Probe<M>,
    prepared: &Prepared,
    polls: usize,
) -> Verdict<bool> {
    let (id, description) = prepared.read::<M>()?;
    let mut sink = probe.sink.take().expect("it is open");
    Ok(probe.drop_after(polls, sink.commit(id, &description)).is_some())
}

fn drop_abort<M: Medium>(
    probe: &mut Probe<M>,
    kept: Option<&Prepared>,
    polls: usize,
) -> Verdict<bool> {
    let kept = kept.map(Prepared::read::<M>).transpose()?.map(|(_, description)| description);
    let mut sink = probe.sink.take().expect("it is open");
    Ok(probe.drop_after(polls, sink.abort(kept.as_ref())).is_some())
}

/// The next lives find the state that a crash leaves.
fn after<M: Medium>(probe: &mut Probe<M>) -> Verdict {
    probe.crash();
    probe.begin()?;
    if probe.saved.is_none() {
        probe.checkpoint()?;
    }
    probe.go_on()
}
