//! What outlives a process: the source, the store, the sink, and when the process dies.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::rc::Rc;

use inflight_core::CheckpointId;

use crate::executor::Virtual;
use crate::plan::{Medium, Order, Plan};
use crate::random::Random;

/// A medium that was planned to fail.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) &'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Refused {}

/// What a store holds under a number.
pub(crate) struct Slot {
    pub(crate) id: CheckpointId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_whole: bool,
    /// It was whole, and cannot be read any more. But who can tell: it may come to light again.
    pub(crate) is_lost: bool,
}

impl Slot {
    pub(crate) fn is_intact(&self) -> bool {
        self.is_whole && !self.is_lost
    }
}

/// When the processes of a job die.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deaths {
    /// The step at which the first of them does.
    pub(crate) first: Option<u64>,
    /// How far the recoveries of the next ones get, each of which dies on its way, and the others do not.
    /// `None`: those that follow die at random.
    pub(crate) recoveries: Option<Vec<u64>>,
}

#[derive(Default)]
pub(crate) struct Media {
    pub(crate) slots: Vec<Slot>,
    /// The sink's: what is committed, or in the file.
    pub(crate) output: Vec<u32>,
    pub(crate) prepared: BTreeMap<u64, Vec<u32>>,
    /// What the source need not keep.
    pub(crate) acknowledged: u64,
    /// The latest checkpoint whose commit has begun.
    pub(crate) committed: Option<CheckpointId>,
    /// Where it was sent to last.
    pub(crate) sought: Option<u64>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    random: RefCell<Random>,
    steps: Cell<u64>,
    deaths: Deaths,
    crash_at: Cell<Option<u64>>,
    /// The steps before this life, while it recovers: until its source is asked for the first time.
    recovering_since: Cell<Option<u64>>,
    /// How many steps each recovery has taken.
    recoveries: RefCell<Vec<u64>>,
    is_dead: Cell<bool>,
    /// Nothing fails from now on, so that it comes to an end.
    is_calm: Cell<bool>,
    pub(crate) media: RefCell<Media>,
    /// A promise that was broken.
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

    /// The next process, which may die as well: while it recovers, or soon after.
    pub(crate) fn next_life(&self, life: u32) {
        self.has_recovered(0); // as far as it came
        self.recovering_since.set(Some(self.steps()));
        self.is_dead.set(false);
        self.is_calm.set(life > 6);
        let step = match &self.deaths.recoveries {
            Some(recoveries) => recoveries.get(life as usize - 1).copied(),
            None => (life < 4 && self.one_in(2)).then(|| 1 + self.below(20) as u64),
        };
        self.crash_at.set(step.map(|step| self.steps() + step));
    }

    /// The source is about to be asked, which is so many steps more.
    pub(crate) fn has_recovered(&self, more: u64) {
        if let Some(since) = self.recovering_since.take() {
            self.recoveries.borrow_mut().push(self.steps() + more - since);
        }
    }

    /// How many steps the recoveries have taken, one after the other.
    pub(crate) fn recoveries(&self) -> Vec<u64> {
        self.recoveries.borrow().clone()
    }

    pub(crate) fn below(&self, end: usize) -> usize {
        self.random.borrow_mut().below(end)
    }

    pub(crate) fn one_in(&self, chances: usize) -> bool {
        self.random.borrow_mut().one_in(chances)
    }

    /// Whether something planned to fail, one time in so many, fails now.
    pub(crate) fn fails(&self, chances: Option<usize>) -> bool {
        !self.is_calm.get() && chances.is_some_and(|chances| self.one_in(chances))
    }

    /// A step that may be the last one; whether it is.
    pub(crate) fn dies_here(&self) -> bool {
        self.steps.set(self.steps.get() + 1);
        if self.crash_at.get() == Some(self.steps.get()) {
            self.is_dead.set(true);
        }
        self.is_dead()
    }

    /// A step that takes some time, perhaps, and may be the last one.
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

    /// Whether the sink holds what the model says.
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
