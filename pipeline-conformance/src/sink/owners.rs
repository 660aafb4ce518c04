//! Two owners of one output at a time: the first one was taken for dead, and goes on when the second one has taken over.

use std::pin::pin;

use futures_lite::future::block_on;
use inflight_core::CheckpointId;
use inflight_core::pipeline::TransactionalSink;

use super::probe::{Prepared, Probe};
use super::{Medium, New, Owners};
use crate::{Verdict, drive};

/// The moment at which the first owner freezes.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Frozen {
    /// A new job has no checkpoint yet.
    BeforeTheFirstCheckpoint,
    AfterACommit,
    AfterAWrite,
    AfterAPreCommit,
    AfterASave,
}

const FROZEN: [Frozen; 5] = [
    Frozen::BeforeTheFirstCheckpoint,
    Frozen::AfterACommit,
    Frozen::AfterAWrite,
    Frozen::AfterAPreCommit,
    Frozen::AfterASave,
];

/// The steps of the second owner after its abort. The first owner goes on before one of them, or after all of them.
const STEPS: usize = 4;

/// The numbers of records that only the first owner writes, after it was replaced.
const STALE: u64 = 1_000_000;

// Rule 8, K15
pub(crate) fn owners<M: Medium>(new: New<'_, M>) -> Verdict {
    for frozen in FROZEN {
        let told = |what| format!("the first owner was frozen {frozen:?}: {what}");
        if new().capabilities().owners == Owners::SecondRefused {
            second_refused(new(), frozen).map_err(told)?;
            continue;
        }
        for wakes in 0..=STEPS {
            first_refused(new(), frozen, wakes).map_err(told)?;
        }
        for operation in [Operation::Write, Operation::PreCommit, Operation::Commit] {
            for polls in 1.. {
                if frozen_half_way(new(), frozen, operation, polls).map_err(told)? {
                    break;
                }
            }
        }
    }
    Ok(())
}

/// A job up to the moment at which its owner freezes, and the checkpoint that is under way.
fn freeze<M: Medium>(medium: M, frozen: Frozen) -> Verdict<(Probe<M>, Option<Prepared>)> {
    let mut probe = Probe::new(medium);
    probe.begin()?;
    if let Frozen::BeforeTheFirstCheckpoint = frozen {
        return Ok((probe, None));
    }
    probe.checkpoint()?;
    probe.write(2)?;
    probe.checkpoint()?;
    if let Frozen::AfterACommit = frozen {
        return Ok((probe, None));
    }
    probe.write(1)?;
    if let Frozen::AfterAWrite = frozen {
        return Ok((probe, None));
    }
    let prepared = probe.pre_commit()?;
    if let Frozen::AfterASave = frozen {
        probe.save(&prepared);
    }
    Ok((probe, Some(prepared)))
}

/// The first owner lives and is not disturbed by a second one.
fn second_refused<M: Medium>(medium: M, frozen: Frozen) -> Verdict {
    let (mut probe, under_way) = freeze(medium, frozen)?;
    for _ in 0..2 {
        if let Ok(mut second) = probe.medium.open()
            && recovers::<M>(&mut second, probe.saved.as_ref())?
        {
            return Err("a second owner was let in".into());
        }
    }
    if let Some(prepared) = under_way {
        probe.save(&prepared);
        probe.commit(&prepared)?;
    }
    probe.expect("after a second owner was refused")?;
    probe.checkpoint()?;
    probe.write(1)?;
    probe.checkpoint()?;
    probe.crash();
    probe.begin()?;
    probe.go_on()
}

/// True if the sink does what a life begins with, without an error.
fn recovers<M: Medium>(sink: &mut M::Sink, saved: Option<&Prepared>) -> Verdict<bool> {
    let saved = saved.map(Prepared::read::<M>).transpose()?;
    Ok(match &saved {
        Some((id, description)) => {
            block_on(sink.commit(*id, description)).is_ok()
                && block_on(sink.abort(Some(description))).is_ok()
        }
        None => block_on(sink.abort(None)).is_ok(),
    })
}

/// The second owner takes over, and the first one goes on before its step `wakes`, and again after all of them.
fn first_refused<M: Medium>(medium: M, frozen: Frozen, wakes: usize) -> Verdict {
    let (mut probe, under_way) = freeze(medium, frozen)?;
    let mut stale = Stale::new(take_over(&mut probe)?, under_way);
    let mut prepared = None;
    for step in 0..=STEPS {
        if step == wakes {
            stale.go_on(&mut probe)?;
        }
        match step {
            0 if probe.saved.is_none() => probe.checkpoint()?,
            0 => probe.write(2)?,
            1 => prepared = Some(probe.pre_commit()?),
            2 => probe.write(1)?,
            3 => {
                let prepared = prepared.take().expect("it was pre-committed");
                probe.save(&prepared);
                probe.commit(&prepared)?;
            }
            _ => probe.checkpoint()?,
        }
        probe
            .expect(&format!("after step {step} of its successor, which it met at step {wakes}"))?;
    }
    stale.go_on(&mut probe)?;
    if !stale.is_told {
        return Err("no call of the first owner has returned an error".into());
    }
    drop(stale);
    probe.crash();
    probe.begin()?;
    probe.go_on()
}

/// Replaces the owner of the job, and returns the first one's sink.
fn take_over<M: Medium>(probe: &mut Probe<M>) -> Verdict<M::Sink> {
    let second = probe.open_another()?;
    let first = probe.sink.replace(second).expect("it is open");
    probe.recover()?;
    probe.expect("after a second owner has taken over")?;
    Ok(first)
}

/// An owner that was replaced and does not know it.
struct Stale<M: Medium> {
    sink: M::Sink,
    /// The checkpoint that was under way when it froze.
    under_way: Option<Prepared>,
    is_told: bool,
    written: u64,
}

impl<M: Medium> Stale<M> {
    fn new(sink: M::Sink, under_way: Option<Prepared>) -> Self {
        Self { sink, under_way, is_told: false, written: 0 }
    }

    /// Does what a pipeline does next: commits what was under way, writes, and takes a checkpoint. Its errors are right.
    fn go_on(&mut self, probe: &mut Probe<M>) -> Verdict {
        if let Some(under_way) = self.under_way.clone() {
            let (id, description) = under_way.read::<M>()?;
            let committed = block_on(self.sink.commit(id, &description));
            self.is_told |= committed.is_err();
            probe.expect("after the first owner has committed what it had pre-committed")?;
        }
        for round in 1..=2 {
            let record = probe.medium.record(STALE + self.written);
            self.written += 1;
            self.is_told |= block_on(self.sink.write(record, None)).is_err();
            probe.expect("after the first owner has written")?;
            let id = CheckpointId(STALE + round);
            let prepared = block_on(self.sink.pre_commit(id));
            probe.expect("after the first owner has pre-committed")?;
            match prepared {
                Ok(description) => {
                    let committed = block_on(self.sink.commit(id, &description));
                    self.is_told |= committed.is_err();
                }
                Err(_) => self.is_told = true,
            }
            probe.expect("after the first owner has committed")?;
        }
        Ok(())
    }
}

/// An operation of the first owner that was under way when it froze.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Write,
    PreCommit,
    Commit,
}

/// The first owner was frozen in the middle of an operation, which goes on after the second one has taken over. Returns true if it had
/// ended before.
fn frozen_half_way<M: Medium>(
    medium: M,
    frozen: Frozen,
    operation: Operation,
    polls: usize,
) -> Verdict<bool> {
    let (mut probe, under_way) = freeze(medium, frozen)?;
    let patience = probe.medium.capabilities().patience;
    let mut first = probe.sink.take().expect("it is open");
    let record = probe.medium.record(STALE);
    let under_way = under_way.map(|prepared| prepared.read::<M>()).transpose()?;
    let mut under_way = pin!(async move {
        match (operation, &under_way) {
            (Operation::Write, _) => _ = first.write(record, None).await,
            (Operation::PreCommit, _) => _ = first.pre_commit(CheckpointId(STALE)).await,
            // It commits only what was saved.
            (Operation::Commit, Some((id, description))) if frozen == Frozen::AfterASave => {
                _ = first.commit(*id, description).await;
            }
            (Operation::Commit, _) => {}
        }
    });
    if drive::poll_times(under_way.as_mut(), polls, patience).is_some() {
        return Ok(true);
    }
    probe.begin()?;
    probe.write(1)?;
    let prepared = probe.pre_commit()?;
    block_on(under_way);
    let half_way =
        |what| format!("{operation:?} of the first owner went on after {polls} polls: {what}");
    probe.expect("then").map_err(half_way)?;
    probe.save(&prepared);
    probe.commit(&prepared)?;
    probe.expect("after a commit").map_err(half_way)?;
    probe.write(1)?;
    probe.checkpoint().map_err(half_way)?;
    probe.crash();
    probe.begin()?;
    probe.go_on()?;
    Ok(false)
}
