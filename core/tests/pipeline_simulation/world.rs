//! The things that survive a process: the source, the store and the sink; and the plan of its death.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::rc::Rc;

use inflight_core::CheckpointId;

use crate::executor::Virtual;
use crate::plan::{Medium, Order, Plan};
use crate::random::Random;

/// The error of a medium that fails as planned.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) &'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
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

/// The points at which the processes of a job die.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deaths {
    /// The step at which the first process dies.
    pub(crate) first: Option<u64>,
    /// The steps at which the recoveries of the next processes die, one for each; the processes after them do not
    /// die. `None`: the following processes die at random.
    pub(crate) recoveries: Option<Vec<u64>>,
}

#[derive(Default)]
pub(crate) struct Media {
    pub(crate) slots: Vec<Slot>,
    /// The sink's committed output, or its file.
    pub(crate) output: Vec<u32>,
    pub(crate) prepared: BTreeMap<u64, Vec<u32>>,
    /// The position up to which the source need not keep records.
    pub(crate) acknowledged: u64,
    /// The latest checkpoint whose commit has begun.
    pub(crate) committed: Option<CheckpointId>,
    /// The position of its latest seek.
    pub(crate) sought: Option<u64>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    random: RefCell<Random>,
    steps: Cell<u64>,
    deaths: Deaths,
    crash_at: Cell<Option<u64>>,
    /// The number of steps before this life, during its recovery: until its source is polled for the first time.
    recovering_since: Cell<Option<u64>>,
    /// The number of steps that each recovery has taken.
    recoveries: RefCell<Vec<u64>>,
    is_dead: Cell<bool>,
    /// True if nothing fails from now on, so that the job ends.
    is_calm: Cell<bool>,
    pub(crate) media: RefCell<Media>,
    /// The first promise that was broken.
    broken: RefCell<Option<String>>,
}

impl World {
    pub(crate) fn new(plan: &Plan, deaths: &Deaths) -> Rc<Self> {
        let seed = plan.seed ^ deaths.first.unwrap_or_default().wrapping_mul(0x9E37_79B9);
        Rc::new(Self {
            plan: *plan,
            random: RefCell::new(Random::new(seed)),
            steps: Cell::new(0),
            deaths: deaths.clone(),
            crash_at: Cell::new(deaths.first),
            recovering_since: Cell::new(None),
            recoveries: RefCell::default(),
            is_dead: Cell::new(false),
            is_calm: Cell::new(false),
            media: RefCell::default(),
            broken: RefCell::default(),
        })
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.get()
    }

    /// Begins the next process, which may die as well: during its recovery, or soon after.
    pub(crate) fn next_life(&self, life: u32) {
        self.has_recovered(0); // the number of steps it made before it died
        self.recovering_since.set(Some(self.steps()));
        self.is_dead.set(false);
        self.is_calm.set(life > 6);
        let step = match &self.deaths.recoveries {
            Some(recoveries) => recoveries.get(life as usize - 1).copied(),
            None => (life < 4 && self.one_in(2)).then(|| 1 + self.below(20) as u64),
        };
        self.crash_at.set(step.map(|step| self.steps() + step));
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

    /// Takes a step that may be the last one; returns true if it is.
    pub(crate) fn dies_here(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        if self.crash_at.get() == Some(self.steps.get()) {
            self.is_dead.set(true);
        }
        self.is_dead()
    }

    /// Takes a step that may take some time and may be the last one.
    pub(crate) async fn step(&self, runtime: &Virtual) {
        if self.dies_here() {
            pending::<()>().await;
        }
        if self.one_in(2) {
            let nanos = 1 + self.below(3_000_000) as i64;
            runtime.sleep(nanos).await;
        }
    }

    pub(crate) fn promise(&self, holds: bool, what: &str) {
        if !holds {
            self.broken.borrow_mut().get_or_insert(what.into());
        }
    }

    pub(crate) fn check_promises(&self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Compares the sink with the model.
    pub(crate) fn check_end(&self) -> Result<(), String> {
        self.check_promises()?;
        let media = self.media.borrow();
        let (mut found, mut expected) = (media.output.clone(), self.plan.outcomes());
        if self.plan.order == Order::ByKey {
            for key in 0..KEYS {
                let of_key = |outputs: &[u32]| -> Vec<u32> {
                    let records = 0..self.plan.records;
                    let of_key = records.filter(|record| record % KEYS == key);
                    let of_key: Vec<_> = of_key.map(|record| self.plan.outcome(record)).collect();
                    outputs.iter().copied().filter(|output| of_key.contains(output)).collect()
                };
                if of_key(&found) != of_key(&expected) {
                    return Err(format!("key {key}: expected {expected:?}, found {found:?}"));
                }
            }
        }
        if self.plan.order != Order::Ordered {
            found.sort_unstable();
            expected.sort_unstable();
        }
        if found != expected {
            return Err(format!("expected {expected:?}, found {found:?}"));
        }
        match (self.plan.medium, media.prepared.is_empty()) {
            (Medium::Transactions, false) => Err("a transaction was left open".into()),
            _ => Ok(()),
        }
    }
}

pub(crate) const KEYS: u32 = 3;
