//! The suite reports each kind of wrong sink, and passes the same sink without the fault, because otherwise the report would prove
//! nothing.

mod refused;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures_lite::future::yield_now;
use inflight_core::pipeline::TransactionalSink;
use inflight_core::{CheckpointId, Timestamp};
use inflight_pipeline_conformance::sink::{Capabilities, Check, Medium, Owners, Visible, check};

use crate::refused::Refused;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    LosesARecord,
    ShowsItTooEarly,
    CommitsWhatCameLater,
    KeepsItInMemory,
    ForgetsToSync,
    DescribesOnlyWhatIsNew,
    CommitsTwice,
    RefusesARepetition,
    ForgetsToUndo,
    UndoesOnlyTheLast,
    UndoesWhatWasCommitted,
    TakesForeignOutputOver,
    ClearsForeignOutput,
    ForgetsToUndoInANewJob,
    CommitsHalfWay,
    AbortsHalfWay,
    DoesNotSeeThatItIsGone,
    PanicsWhenItIsGone,
    LetsAStaleOwnerCommit,
    LetsAStaleOwnerPreCommit,
    LooksForTheOwnerBeforeItWaits,
    TellsAStaleOwnerNothing,
    LetsAStaleOwnerComeBack,
    LetsASecondOwnerIn,
    DisturbsTheFirstOwner,
    RefusesAnEmptyCheckpointAfterAFailedOne,
}

/// Lines, each committed or not: like a file with a mark.
#[derive(Default)]
struct Disk {
    lines: Vec<(u64, bool)>,
    /// So many of them survive a crash.
    synced: usize,
    /// The latest owner, from its abort on.
    owner: u32,
    is_locked: bool,
    is_gone: bool,
    /// For the mistakes: the beginning of the latest pre-commit, the lines of a commit that has begun, and pre-commits that were not
    /// committed.
    latest: usize,
    begun: usize,
    failed: u32,
}

struct Sink {
    disk: Rc<RefCell<Disk>>,
    owner: u32,
    /// Lines that are not on the disk yet.
    buffer: Vec<u64>,
    mistake: Mistake,
    is_locked: bool,
    /// The checkpoint that this life has committed last.
    committed: Option<CheckpointId>,
    /// The life before had a failed checkpoint, and this one has written nothing.
    is_behind_a_failure: bool,
}

impl Drop for Sink {
    fn drop(&mut self) {
        if self.is_locked {
            self.disk.borrow_mut().is_locked = false;
        }
    }
}

/// The first line that is described, and the one behind the last.
type Range = (u64, u64);

impl Sink {
    /// Sees whether the disk is there and this is its owner. With the mistake `let_in` everybody is.
    fn look(&self, let_in: Option<Mistake>) -> Result<(), Refused> {
        let disk = self.disk.borrow();
        if disk.is_gone {
            assert_ne!(self.mistake, Mistake::PanicsWhenItIsGone);
            return Err(Refused);
        }
        let is_owner = disk.owner == self.owner || let_in == Some(self.mistake);
        if is_owner { Ok(()) } else { Err(Refused) }
    }

    fn flush(&mut self) {
        let mut disk = self.disk.borrow_mut();
        if self.mistake == Mistake::LosesARecord && self.buffer.len() > 2 {
            self.buffer.pop();
        }
        let is_shown = self.mistake == Mistake::ShowsItTooEarly;
        disk.lines.extend(self.buffer.drain(..).map(|line| (line, is_shown)));
    }

    /// True if this call does as if all were well.
    fn is_blind(&self) -> bool {
        let disk = self.disk.borrow();
        match self.mistake {
            Mistake::DoesNotSeeThatItIsGone => disk.is_gone,
            Mistake::TellsAStaleOwnerNothing => disk.owner != self.owner,
            _ => false,
        }
    }
}

impl TransactionalSink<u64> for Sink {
    type Prepared = Range;
    type Error = Refused;

    async fn write(&mut self, record: u64, _: Option<Timestamp>) -> Result<(), Refused> {
        yield_now().await;
        self.is_behind_a_failure = false;
        self.buffer.push(record);
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<Range, Refused> {
        if self.is_blind() {
            return Ok((0, 0));
        }
        if self.is_behind_a_failure
            && self.mistake == Mistake::RefusesAnEmptyCheckpointAfterAFailedOne
        {
            return Err(Refused);
        }
        if self.mistake == Mistake::LooksForTheOwnerBeforeItWaits {
            self.look(None)?;
        }
        yield_now().await;
        if self.mistake == Mistake::LetsAStaleOwnerComeBack {
            self.disk.borrow_mut().owner = self.owner;
        }
        if self.mistake != Mistake::LooksForTheOwnerBeforeItWaits {
            self.look(Some(Mistake::LetsAStaleOwnerPreCommit))?;
        }
        let latest = self.disk.borrow().lines.len();
        if self.mistake != Mistake::KeepsItInMemory {
            self.flush();
        }
        let mut disk = self.disk.borrow_mut();
        if self.mistake != Mistake::ForgetsToSync {
            disk.synced = disk.lines.len();
        }
        disk.failed += 1;
        disk.latest = latest;
        let first = if self.mistake == Mistake::DescribesOnlyWhatIsNew { latest } else { 0 };
        Ok((first as u64, (disk.lines.len() + self.buffer.len()) as u64))
    }

    async fn commit(&mut self, id: CheckpointId, prepared: &Range) -> Result<(), Refused> {
        if self.is_blind() {
            return Ok(());
        }
        yield_now().await;
        self.look(Some(Mistake::LetsAStaleOwnerCommit))?;
        if matches!(self.mistake, Mistake::KeepsItInMemory | Mistake::CommitsWhatCameLater) {
            self.flush();
        }
        let (first, end) = (prepared.0 as usize, prepared.1 as usize);
        if self.mistake == Mistake::CommitsHalfWay {
            if self.disk.borrow().begun >= end {
                return Ok(()); // it was committed before, or was it?
            }
            self.disk.borrow_mut().begun = end;
            yield_now().await;
        }
        let mut disk = self.disk.borrow_mut();
        let end = match self.mistake {
            Mistake::CommitsWhatCameLater => disk.lines.len(),
            _ => end.min(disk.lines.len()),
        };
        let before = self.committed.replace(id);
        if before == Some(id) {
            match self.mistake {
                Mistake::CommitsTwice => {
                    let again = disk.lines[end - 1];
                    disk.lines.push(again);
                }
                Mistake::RefusesARepetition => return Err(Refused),
                _ => {}
            }
        }
        if before.is_some() {
            disk.failed = 0;
        }
        disk.lines[first..end].iter_mut().for_each(|(_, committed)| *committed = true);
        disk.synced = disk.synced.max(end);
        Ok(())
    }

    async fn abort(&mut self, kept: Option<&Range>) -> Result<(), Refused> {
        yield_now().await;
        self.look(None)?;
        if self.mistake == Mistake::AbortsHalfWay {
            let lines = std::mem::take(&mut self.disk.borrow_mut().lines);
            yield_now().await;
            self.disk.borrow_mut().lines = lines;
        }
        let mut disk = self.disk.borrow_mut();
        let is_foreign = kept.is_none() && disk.lines.iter().any(|(_, committed)| *committed);
        match self.mistake {
            Mistake::TakesForeignOutputOver => {}
            Mistake::ClearsForeignOutput if is_foreign => disk.lines.clear(),
            _ if is_foreign => return Err(Refused),
            _ => {}
        }
        let latest = disk.latest;
        match (self.mistake, kept) {
            (Mistake::ForgetsToUndo, _) | (Mistake::ForgetsToUndoInANewJob, None) => {}
            (Mistake::UndoesOnlyTheLast, Some(_)) if latest < disk.lines.len() => {
                let last = disk.lines.split_off(latest);
                disk.lines.extend(last.into_iter().filter(|(_, committed)| *committed));
            }
            (Mistake::UndoesWhatWasCommitted, Some(kept)) => disk.lines.truncate(kept.1 as usize),
            _ => disk.lines.retain(|(_, committed)| *committed),
        }
        disk.synced = disk.lines.len();
        disk.owner += 1;
        self.owner = disk.owner;
        self.is_behind_a_failure = disk.failed > 0 && kept.is_some();
        disk.failed = 0;
        Ok(())
    }
}

struct Shelf {
    disk: Rc<RefCell<Disk>>,
    mistake: Mistake,
    owners: Owners,
}

impl Shelf {
    fn new(mistake: Mistake, owners: Owners) -> Self {
        Self { disk: Rc::default(), mistake, owners }
    }
}

impl Medium for Shelf {
    type Record = u64;
    type Sink = Sink;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            visible: Visible::Committed,
            is_ordered: true,
            owners: self.owners,
            crashes: true,
            vanishes: true,
            steps: 5,
            patience: Duration::from_millis(20),
        }
    }

    fn open(&mut self) -> Result<Sink, Refused> {
        let mut disk = self.disk.borrow_mut();
        let is_locked = self.owners == Owners::SecondRefused;
        if is_locked && disk.is_locked {
            match self.mistake {
                Mistake::LetsASecondOwnerIn => {}
                Mistake::DisturbsTheFirstOwner => {
                    disk.owner += 1;
                    return Err(Refused);
                }
                _ => return Err(Refused),
            }
        }
        disk.is_locked = is_locked;
        Ok(Sink {
            disk: Rc::clone(&self.disk),
            owner: disk.owner,
            buffer: Vec::new(),
            mistake: self.mistake,
            is_locked,
            committed: None,
            is_behind_a_failure: false,
        })
    }

    fn record(&mut self, number: u64) -> u64 {
        number
    }

    fn read(&mut self) -> Vec<u64> {
        let disk = self.disk.borrow();
        disk.lines.iter().filter(|(_, committed)| *committed).map(|(line, _)| *line).collect()
    }

    fn crash(&mut self) {
        let mut disk = self.disk.borrow_mut();
        let synced = disk.synced;
        disk.lines.truncate(synced);
    }

    fn take_away(&mut self) {
        self.disk.borrow_mut().is_gone = true;
    }

    fn bring_back(&mut self) {
        self.disk.borrow_mut().is_gone = false;
    }
}

#[test]
fn without_a_mistake_it_passes() {
    for owners in [Owners::FirstRefused, Owners::SecondRefused] {
        let report =
            check(|| Shelf::new(Mistake::None, owners)).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!((report.passed.len(), report.skipped.len()), (10, 0));
    }
    let report = check(|| Shelf::new(Mistake::None, Owners::Unchecked)).unwrap();
    assert_eq!(report.skipped, [Check::Owners]);
}

#[track_caller]
fn assert_reported(mistake: Mistake, owners: Owners, expected: Check) {
    let violation = match check(|| Shelf::new(mistake, owners)) {
        Ok(report) => panic!("{mistake:?} passes: {report:?}"),
        Err(violation) => violation,
    };
    assert_eq!(violation.check, expected, "{mistake:?}: {violation}");
    println!("{mistake:?}: {violation}");
}

#[test]
fn every_mistake_is_reported() {
    let mistakes = [
        (Mistake::LosesARecord, Check::Commits),
        (Mistake::ShowsItTooEarly, Check::Commits),
        (Mistake::CommitsWhatCameLater, Check::Commits),
        (Mistake::KeepsItInMemory, Check::Survives),
        (Mistake::ForgetsToSync, Check::Survives),
        (Mistake::DescribesOnlyWhatIsNew, Check::Covers),
        (Mistake::CommitsTwice, Check::CommitAgain),
        (Mistake::RefusesARepetition, Check::CommitAgain),
        (Mistake::ForgetsToUndo, Check::Undo),
        (Mistake::UndoesOnlyTheLast, Check::Undo),
        (Mistake::UndoesWhatWasCommitted, Check::Undo),
        (Mistake::TakesForeignOutputOver, Check::Foreign),
        (Mistake::ClearsForeignOutput, Check::Foreign),
        (Mistake::ForgetsToUndoInANewJob, Check::Foreign),
        (Mistake::CommitsHalfWay, Check::Dropped),
        (Mistake::AbortsHalfWay, Check::Dropped),
        (Mistake::DoesNotSeeThatItIsGone, Check::Vanished),
        (Mistake::PanicsWhenItIsGone, Check::Vanished),
        (Mistake::LetsAStaleOwnerCommit, Check::Owners),
        (Mistake::LetsAStaleOwnerPreCommit, Check::Owners),
        (Mistake::LooksForTheOwnerBeforeItWaits, Check::Owners),
        (Mistake::TellsAStaleOwnerNothing, Check::Owners),
        (Mistake::LetsAStaleOwnerComeBack, Check::Owners),
        (Mistake::RefusesAnEmptyCheckpointAfterAFailedOne, Check::Orders),
    ];
    for (mistake, expected) in mistakes {
        assert_reported(mistake, Owners::FirstRefused, expected);
    }
    for mistake in [Mistake::LetsASecondOwnerIn, Mistake::DisturbsTheFirstOwner] {
        assert_reported(mistake, Owners::SecondRefused, Check::Owners);
    }
}
