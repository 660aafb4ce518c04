//! The things that survive a process: the source, the store and the sink; and the plan of what happens to the processes.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use inflight_core::CheckpointId;

use crate::plan::{Event, Flaw, Keeps, Medium, Plan};
use crate::random::Random;

/// The error of a medium.
#[derive(Debug, PartialEq)]
pub(crate) enum Refused {
    /// It fails as planned.
    For(&'static str),
    /// Another owner has the job.
    Fenced,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::For(reason) => reason,
            Self::Fenced => "another owner has the job",
        })
    }
}

impl std::error::Error for Refused {}

/// The contents of a store under one number.
pub(crate) struct Slot {
    pub(crate) id: CheckpointId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_whole: bool,
    /// A whole checkpoint that cannot be read any more. It may become readable again.
    pub(crate) is_lost: bool,
}

impl Slot {
    pub(crate) fn is_intact(&self) -> bool {
        self.is_whole && !self.is_lost
    }
}

/// The points at which something happens to the processes of a job.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// What happens at which step, in the order of the steps.
    pub(crate) events: Vec<(u64, Event)>,
    /// The steps at which the recoveries of the next processes die, one for each; the processes after them do not
    /// die. `None`: the following processes die at random.
    pub(crate) recoveries: Option<Vec<u64>>,
    /// Each of the first lives dies after so many steps.
    pub(crate) every: Option<u64>,
}

impl Fate {
    pub(crate) fn at(step: u64, event: Event) -> Self {
        Self { events: vec![(step, event)], ..Self::default() }
    }
}

#[derive(Default)]
pub(crate) struct Media {
    pub(crate) slots: Vec<Slot>,
    /// The sink's committed output, or its file.
    pub(crate) output: Vec<u32>,
    /// The committed length of the file.
    pub(crate) length: usize,
    pub(crate) prepared: BTreeMap<u64, Vec<u32>>,
    /// The position up to which the source need not keep records.
    pub(crate) acknowledged: u64,
    /// The latest checkpoint whose commit has begun.
    pub(crate) committed: Option<CheckpointId>,
    /// The position of its latest seek.
    pub(crate) sought: Option<u64>,
    /// The highest watermark that any life has told the sink, in milliseconds.
    pub(crate) watermark: Option<i64>,
    /// The processes that have claimed the store, counted from the start. The last one has the job.
    pub(crate) owners: u32,
    /// The last owner that has claimed the sink.
    pub(crate) sink_owner: u32,
    /// The record of each request id, with the stage if it is the stage's own; and the id of each record.
    pub(crate) requests: BTreeMap<u64, (usize, u32)>,
    pub(crate) ids: BTreeMap<(usize, u32), u64>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    random: RefCell<Random>,
    steps: Cell<u64>,
    fate: Fate,
    /// Events that have not happened yet.
    events: RefCell<Vec<(u64, Event)>>,
    /// The number of steps before this life, during its recovery: until its source is polled for the first time.
    recovering_since: Cell<Option<u64>>,
    /// The number of steps that each recovery has taken.
    recoveries: RefCell<Vec<u64>>,
    /// True if nothing fails from now on, so that the job ends.
    is_calm: Cell<bool>,
    /// A process is frozen that may be about to commit a checkpoint.
    has_frozen: Cell<bool>,
    /// The last life was refused in this mode, so the next one takes the other (K14).
    must_keep_records: Cell<bool>,
    pub(crate) media: RefCell<Media>,
    /// The first promise that was broken.
    broken: RefCell<Option<String>>,
}

/// The life from which on nothing fails.
const CALM_LIFE: u32 = 7;

impl World {
    pub(crate) fn new(plan: &Plan, fate: &Fate) -> Rc<Self> {
        let first = fate.events.first().map_or(0, |(step, _)| *step);
        let events = fate.every.map(|every| (every, Event::Crash));
        Rc::new(Self {
            plan: *plan,
            random: RefCell::new(Random::new(plan.seed ^ first.wrapping_mul(0x9E37_79B9))),
            steps: Cell::new(0),
            fate: fate.clone(),
            events: RefCell::new(fate.events.iter().copied().chain(events).collect()),
            recovering_since: Cell::new(None),
            recoveries: RefCell::default(),
            is_calm: Cell::new(false),
            has_frozen: Cell::new(false),
            must_keep_records: Cell::new(false),
            media: RefCell::default(),
            broken: RefCell::default(),
        })
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(crate) fn has_frozen(&self, has_frozen: bool) {
        self.has_frozen.set(has_frozen);
    }

    /// Whether the newest checkpoint becomes unreadable now.
    pub(crate) fn decays(&self) -> bool {
        !self.has_frozen.get() && self.fails(self.plan.decays)
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.is_calm.get()
    }

    /// Begins the next process, which may die as well: during its recovery, or soon after.
    pub(crate) fn next_life(&self, life: u32) {
        self.has_recovered(0); // the number of steps it made before it died
        self.recovering_since.set(Some(self.steps()));
        self.is_calm.set(life >= CALM_LIFE && self.fate.every.is_none());
        let step = match (&self.fate.recoveries, self.fate.every) {
            (Some(recoveries), _) => recoveries.get(life as usize - 1).copied(),
            (None, Some(every)) => Some(every),
            (None, None) => (life < 4 && self.one_in(2)).then(|| 1 + self.below(20) as u64),
        };
        let event = step.map(|step| (self.steps() + step, Event::Crash));
        *self.events.borrow_mut() = event.into_iter().collect();
    }

    /// Removes what was to come, and lets one event come after so many steps instead.
    pub(crate) fn only(&self, event: Option<(u64, Event)>) {
        let event = event.map(|(steps, event)| (self.steps() + steps, event));
        *self.events.borrow_mut() = event.into_iter().collect();
    }

    /// Ends the recovery: the source is about to be polled, which is that many steps more.
    pub(crate) fn has_recovered(&self, more: u64) {
        if let Some(since) = self.recovering_since.take() {
            self.recoveries.borrow_mut().push(self.steps() + more - since);
        }
    }

    /// The number of steps of each recovery, one after the other.
    pub(crate) fn recoveries(&self) -> Vec<u64> {
        self.recoveries.borrow().clone()
    }

    /// What the checkpoints of the next life keep.
    pub(crate) fn keeps(&self) -> Keeps {
        match self.plan.keeps {
            Keeps::Either if self.must_keep_records.take() || self.one_in(2) => Keeps::Records,
            Keeps::Either => Keeps::Positions,
            keeps => keeps,
        }
    }

    pub(crate) fn keep_records_next(&self) {
        self.must_keep_records.set(true);
    }

    pub(crate) fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    pub(crate) fn one_in(&self, chances: usize) -> bool {
        self.random.borrow_mut().one_in(chances)
    }

    /// Returns true if a planned failure, with a chance of one in that many, happens now.
    pub(crate) fn fails(&self, chances: Option<usize>) -> bool {
        !self.is_calm.get() && chances.is_some_and(|chances| self.one_in(chances))
    }

    /// Takes a step, and returns what happens at it.
    pub(crate) fn take_step(&self) -> Option<Event> {
        self.steps.set(self.steps.get() + 1);
        let mut events = self.events.borrow_mut();
        let at = events.iter().position(|(step, _)| *step == self.steps.get())?;
        Some(events.remove(at).1)
    }

    pub(crate) fn promise(&self, holds: bool, what: &str) {
        if !holds {
            self.broken.borrow_mut().get_or_insert(what.into());
        }
    }

    pub(crate) fn check_promises(&self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// A request is made, of this record (K17).
    pub(crate) fn request(&self, keeps: Keeps, stage: usize, value: u32, id: u64) {
        let id = match self.plan.flaw {
            Flaw::GivesOutNewRequestIds => id + u64::from(self.media.borrow().owners) % 2,
            _ => id,
        };
        // When only positions are kept, all stages share the ids of the source's records.
        let of = match keeps {
            Keeps::Positions => (usize::MAX, crate::model::record_of(value)),
            _ => (stage, value),
        };
        let media = &mut *self.media.borrow_mut();
        let known = *media.requests.entry(id).or_insert(of);
        self.promise(known == of, &format!("K17: {id:x} is of {known:?} and of {of:?}"));
        let is_stable = self.plan.keeps == Keeps::Positions
            || (self.plan.keeps == Keeps::Records && stage == 0);
        let known = *media.ids.entry(of).or_insert(id);
        let what = format!("K17: {of:?} has the ids {known:x} and {id:x}");
        self.promise(known == id || !is_stable, &what);
    }

    /// Compares the sink with the model.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        self.check_promises()?;
        let media = self.media.borrow();
        self.plan.check_output(&media.output)?;
        let marks = i64::from(self.plan.records / 4 * 4);
        let last_mark = (self.plan.has_watermarks && marks > 0).then_some(marks - 1);
        // K14: without records, the last one may be lost if all records behind it were dropped while it was on its way.
        let may_miss = self.plan.keeps != Keeps::Records && self.plan.drops;
        if media.watermark != last_mark && !(may_miss && media.watermark < last_mark) {
            let found = media.watermark;
            return Err(format!("the last watermark is {found:?} and not {last_mark:?}"));
        }
        match (self.plan.medium, media.prepared.is_empty()) {
            (Medium::Transactions, false) => Err("a transaction was left open".into()),
            _ => Ok(()),
        }
    }
}
