//! The events of a stream so far, from all its threads.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use futures::channel::oneshot;
use inflight::{AttemptInfo, Order};

use super::plan::{Habit, KEYS, Plan};

/// Counters, and the faults found.
pub struct Tally {
    pub plan: Plan,
    alive: AtomicU32,
    pub opened: AtomicU32,
    pub closed: AtomicU32,
    /// Records that the stage has taken from its source.
    pub pulled: AtomicU32,
    /// Attempts that have begun.
    pub invoked: AtomicU32,
    /// Attempts that have come to an end of their own.
    pub answered: AtomicU32,
    /// Records that the consumer has received.
    pub received: AtomicU32,
    /// Other steps of the consumer.
    pub steps: AtomicU32,
    /// For each record: its request id plus one, or zero.
    request_ids: Box<[AtomicU64]>,
    /// For each record: the number of its attempts.
    attempts: Box<[AtomicU32]>,
    running: [AtomicU32; KEYS],
    cut: Mutex<Option<oneshot::Sender<()>>>,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    pub fn new(plan: Plan) -> Self {
        let records = plan.records as usize;
        Self {
            alive: 0.into(),
            opened: 0.into(),
            closed: 0.into(),
            pulled: 0.into(),
            invoked: 0.into(),
            answered: 0.into(),
            received: 0.into(),
            steps: 0.into(),
            request_ids: (0..records).map(|_| 0.into()).collect(),
            attempts: (0..records).map(|_| 0.into()).collect(),
            running: [const { AtomicU32::new(0) }; KEYS],
            cut: Mutex::default(),
            wrong: Mutex::default(),
            plan,
        }
    }

    fn counters(&self) -> [(&str, u32); 7] {
        let counters = [
            ("opened", &self.opened),
            ("closed", &self.closed),
            ("pulled", &self.pulled),
            ("invoked", &self.invoked),
            ("answered", &self.answered),
            ("received", &self.received),
            ("steps", &self.steps),
        ];
        counters.map(|(name, counter)| (name, counter.load(SeqCst)))
    }

    /// A number that grows with every event.
    pub fn progress(&self) -> u64 {
        self.counters().into_iter().map(|(_, count)| u64::from(count)).sum()
    }

    /// Records a fault.
    pub fn wrong(&self, what: impl Into<String>) {
        self.wrong.lock().unwrap().push(what.into());
    }

    /// The faults.
    pub fn faults(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    pub fn alive(&self) -> u32 {
        self.alive.load(SeqCst)
    }

    /// C2: the records taken in and not handed out fit into the capacity. The consumer counts a record after it has
    /// been handed out, so one more may have been taken in already.
    pub fn pull(&self) {
        let pulled = self.pulled.fetch_add(1, SeqCst) + 1;
        let inside = pulled - self.received.load(SeqCst).min(pulled);
        let most = self.plan.max_capacity as u32 + 1;
        if inside > most && !self.plan.may_drop_records() {
            self.wrong(format!("C2: {inside} records inside, the consumer's included"));
        }
    }

    /// R6, T4, O3: an attempt begins.
    pub fn invoke(self: &Arc<Self>, record: u32, key: u8, attempt: AttemptInfo) -> Running {
        let before = self.attempts[record as usize].fetch_add(1, SeqCst);
        if (attempt.number, attempt.retry) != (before + 1, before) {
            self.wrong(format!("R6: record {record} after {before} attempts: {attempt:?}"));
        }
        let id = attempt.request_id + 1;
        let known = self.request_ids[record as usize].swap(id, SeqCst);
        if before > 0 && known != id {
            self.wrong(format!("R6: record {record} has had the request id {known}, now {id}"));
        }
        if self.invoked.fetch_add(1, SeqCst) == self.cut_at() {
            self.cut();
        }
        let others = self.running[key as usize].fetch_add(1, SeqCst);
        // The task of an attempt that has timed out is cancelled, and dropped when its runtime comes to it.
        if self.plan.order == Order::ByKey && others > 0 && !self.plan.is_impatient() {
            self.wrong(format!("O3: record {record} with {others} running of its key {key}"));
        }
        Running { tally: Arc::clone(self), key, _alive: Alive::new(self) }
    }

    /// The number of attempts of a record that have begun.
    pub fn attempts_of(&self, record: u32) -> u32 {
        self.attempts[record as usize].load(SeqCst)
    }

    /// R6: no two records have the same request id.
    pub fn check_request_ids(&self) {
        let ids = self.request_ids.iter().map(|id| id.load(SeqCst)).enumerate();
        let mut ids: Vec<_> = ids.filter(|(_, id)| *id != 0).map(|(at, id)| (id, at)).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|two| two[0].0 == two[1].0) {
            self.wrong(format!("R6: one request id of two records: {ids:?}"));
        }
    }

    fn cut_at(&self) -> u32 {
        match self.plan.habit {
            Habit::IsCancelled { at_attempt } => at_attempt,
            _ => u32::MAX,
        }
    }

    /// Resolves at the point at which the plan cancels the consumer.
    pub fn when_cut(&self) -> oneshot::Receiver<()> {
        let (cut, when) = oneshot::channel();
        *self.cut.lock().unwrap() = Some(cut);
        when
    }

    fn cut(&self) {
        if let Some(cut) = self.cut.lock().unwrap().take() {
            _ = cut.send(());
        }
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "INFLIGHT_STRESS_SEED={}", self.plan.seed)?;
        writeln!(f, "{:?}", self.plan)?;
        let running = self.running.each_ref().map(|running| running.load(SeqCst));
        let (counters, alive) = (self.counters(), self.alive());
        write!(f, "{counters:?}, running by key {running:?}, alive {alive}")
    }
}

/// A guard for something that must be dropped when the stream is (L2).
#[derive(Debug)]
pub struct Alive(Arc<Tally>);

impl Alive {
    pub fn new(tally: &Arc<Tally>) -> Self {
        tally.alive.fetch_add(1, SeqCst);
        Self(Arc::clone(tally))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.alive.fetch_sub(1, SeqCst);
    }
}

/// A guard for an attempt that has not ended.
#[derive(Debug)]
pub struct Running {
    tally: Arc<Tally>,
    key: u8,
    _alive: Alive,
}

impl Running {
    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tally.running[self.key as usize].fetch_sub(1, SeqCst);
    }
}
