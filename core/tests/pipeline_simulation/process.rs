//! One process: its steps, its end, and an oracle for its progress.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use inflight_core::pipeline::{NoCheckpoint, StopHandle};
use inflight_core::{CheckpointId, Permits};

use crate::executor::Virtual;
use crate::plan::{Drive, Event, Flaw, Keeps, Order, Plan};
use crate::world::{Refused, World};

/// The most time that a step takes, in nanoseconds.
pub(crate) const STEP: i64 = 3_000_000;

/// The state of a process.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    Runs,
    IsFrozen,
    IsDead,
}

pub(crate) struct Process {
    pub(crate) world: Rc<World>,
    pub(crate) runtime: Virtual,
    pub(crate) keeps: Keeps,
    /// Those that all its stages share.
    permits: Option<Permits>,
    pub(crate) state: Cell<State>,
    /// Futures that wait until the process goes on.
    frozen: RefCell<Vec<Waker>>,
    handle: RefCell<Option<StopHandle>>,
    /// The number of this owner of the job; 0 until it has claimed the job.
    pub(crate) owner: Cell<u32>,
    /// A medium has told it that another owner has the job.
    pub(crate) is_fenced: Cell<bool>,
    /// The next request panics.
    pub(crate) panics: Cell<bool>,
    /// A task or a request was made to fail.
    pub(crate) is_hurt: Cell<bool>,
    /// A task is to be cancelled.
    pub(crate) cancels: Cell<bool>,
    /// Requests that are never answered.
    pub(crate) stuck: Cell<u32>,
    /// Outputs that have come out of the last adapter, that the sink was given, and that are committed.
    pub(crate) emitted: Cell<u64>,
    pub(crate) written: Cell<u64>,
    pub(crate) committed: Cell<u64>,
    /// The number of outputs that were written before each pre-commit.
    prepared: RefCell<BTreeMap<u64, u64>>,
    /// Since when there is output that is not committed.
    uncommitted_since: Cell<Option<i64>>,
    /// Since when there is an attempt that no checkpoint has seen.
    unseen_since: Cell<Option<i64>>,
    hand_over_since: Cell<Option<i64>>,
    /// Since when each checkpoint is waited for.
    asks: RefCell<BTreeMap<u64, i64>>,
    /// Checkpoints that have failed.
    pub(crate) failures: Cell<u64>,
    pub(crate) is_saving: Cell<bool>,
    /// Transactions that are prepared and not committed.
    pub(crate) open: Cell<usize>,
    /// Records that the source has handed out.
    pub(crate) handed_out: Cell<u64>,
    /// The source's position in the checkpoint that was committed last.
    pub(crate) committed_position: Cell<u64>,
    /// When each value was answered for good.
    answered: RefCell<BTreeMap<u32, i64>>,
    /// When the first checkpoint of this life was committed.
    opened: Cell<Option<i64>>,
}

fn pool(permits: Option<usize>) -> Option<Permits> {
    permits.map(|permits| Permits::new(permits).expect("it makes sense"))
}

impl Process {
    pub(crate) fn new(world: &Rc<World>, runtime: &Virtual) -> Rc<Self> {
        Rc::new(Self {
            world: Rc::clone(world),
            runtime: runtime.clone(),
            keeps: world.keeps(),
            permits: pool(world.plan.parts.permits),
            state: Cell::new(State::Runs),
            frozen: RefCell::default(),
            handle: RefCell::default(),
            owner: Cell::new(0),
            is_fenced: Cell::new(false),
            panics: Cell::new(false),
            is_hurt: Cell::new(false),
            cancels: Cell::new(false),
            stuck: Cell::new(0),
            emitted: Cell::new(0),
            written: Cell::new(0),
            committed: Cell::new(0),
            prepared: RefCell::default(),
            uncommitted_since: Cell::new(None),
            unseen_since: Cell::new(None),
            hand_over_since: Cell::new(None),
            asks: RefCell::default(),
            failures: Cell::new(0),
            is_saving: Cell::new(false),
            open: Cell::new(0),
            handed_out: Cell::new(0),
            committed_position: Cell::new(0),
            answered: RefCell::default(),
            opened: Cell::new(None),
        })
    }

    /// The pool of a stage. A stage that another one polls cannot share that one's pool: while that is full, and waits for a permit, it
    /// polls nobody, and so nobody gives a permit back.
    pub(crate) fn permits_of_stage(&self) -> Option<Permits> {
        match self.plan().drive {
            Drive::OnTask => self.permits.clone(),
            Drive::InPlace | Drive::Run => pool(self.plan().parts.permits),
        }
    }

    pub(crate) fn has_handle(&self, handle: StopHandle) {
        *self.handle.borrow_mut() = Some(handle);
    }

    pub(crate) fn plan(&self) -> &Plan {
        &self.world.plan
    }

    fn now(&self) -> i64 {
        self.runtime.clock.now()
    }

    /// Takes a step. Returns false if it is the last one, or the process is frozen at it.
    pub(crate) fn goes_on(self: &Rc<Self>, cx: Option<&Context<'_>>) -> bool {
        if let Some(event) = self.world.take_step() {
            self.meet(event);
        }
        if self.state.get() == State::IsFrozen {
            self.frozen.borrow_mut().extend(cx.map(|cx| cx.waker().clone()));
        }
        self.state.get() == State::Runs
    }

    /// Takes a step that may take some time, and at which the process may die or freeze.
    pub(crate) async fn step(self: &Rc<Self>) {
        if !self.goes_on(None) {
            poll_fn(|cx| {
                self.frozen.borrow_mut().push(cx.waker().clone());
                if self.state.get() == State::Runs { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
        }
        if self.world.one_in(2) {
            self.runtime.sleep(1 + self.world.below(STEP as usize) as i64).await;
        }
    }

    /// The process was frozen and goes on.
    pub(crate) fn thaw(&self) {
        self.state.set(State::Runs);
        self.frozen.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn meet(self: &Rc<Self>, event: Event) {
        let handle = self.handle.borrow().clone().expect("the pipeline has given its handle");
        match event {
            Event::Crash => self.state.set(State::IsDead),
            Event::Freeze => self.state.set(State::IsFrozen),
            Event::Panic => self.panics.set(true),
            Event::Cancel => self.cancels.set(true),
            Event::Drain => handle.drain(),
            Event::HandOver => {
                handle.hand_over();
                self.hand_over_since.set(self.hand_over_since.get().or(Some(self.now())));
            }
            Event::CheckpointNow => self.ask(&handle),
        }
    }

    pub(crate) fn is_handed_over(&self) -> bool {
        self.hand_over_since.get().is_some()
    }

    /// Asks for a checkpoint; and looks whether the answer is true (K16).
    fn ask(self: &Rc<Self>, handle: &StopHandle) {
        let committed = handle.checkpoint_now();
        let (written, handed_out) = (self.written.get(), self.handed_out.get());
        let failures = self.failures.get();
        let number = self.asks.borrow().last_key_value().map_or(0, |(number, _)| number + 1);
        self.asks.borrow_mut().insert(number, self.now());
        let this = Rc::clone(self);
        self.runtime.detach(async move {
            let result = committed.await;
            let Some(since) = this.asks.borrow_mut().remove(&number) else { return };
            let is_true = match result {
                Ok(()) => {
                    this.committed.get() >= written
                        && (this.keeps == Keeps::Positions
                            || this.committed_position.get() >= handed_out)
                }
                Err(NoCheckpoint::Failed) => this.failures.get() > failures,
                Err(_) => true,
            };
            let what = format!("K16: of the checkpoint asked for at {since}: {result:?}");
            this.world.promise(is_true, &what);
        });
    }

    /// A medium refuses an earlier owner. From then on the process must touch nothing (K15).
    pub(crate) fn check_owner(&self, owner: u32, flaw: Flaw) -> Result<(), Refused> {
        self.world.promise(!self.is_fenced.get(), "K15: a fenced owner ends at once");
        if self.owner.get() < owner && self.plan().flaw != flaw {
            self.is_fenced.set(true);
            return Err(Refused::Fenced);
        }
        Ok(())
    }

    /// A service has answered for good.
    pub(crate) fn answers(&self, value: u32) {
        self.answered.borrow_mut().insert(value, self.now());
    }

    /// An attempt has begun or ended (K13).
    pub(crate) fn attempts(&self) {
        self.unseen_since.set(self.unseen_since.get().or(Some(self.now())));
    }

    pub(crate) fn writes(&self, value: u32) {
        self.written.set(self.written.get() + 1);
        self.uncommitted_since.set(self.uncommitted_since.get().or(Some(self.now())));
        let plan = self.plan();
        // Here nothing but the sink itself is between an answer and its output.
        let is_free = plan.order == Order::Unordered
            && plan.stages == 1
            && plan.sink_room.is_none()
            && !(plan.has_watermarks || plan.drains)
            && !(plan.clones && self.keeps == Keeps::Positions)
            && plan.multiplies_behind.is_none();
        let since = self.answered.borrow().get(&(value / 10)).copied();
        // Nothing leaves the stages before the first checkpoint is committed (K17).
        let since = since.map(|since| since.max(self.opened.get().unwrap_or(i64::MAX)));
        if let Some(since) = since.filter(|_| is_free) {
            let bound = self.travel() + (8 + 4 * self.open.get() as i64) * STEP;
            let held = self.now() - since;
            self.world.promise(held <= bound, &format!("K12: a record was held up for {held} ns"));
        }
    }

    /// The sink has prepared everything that was written.
    pub(crate) fn prepares(&self, id: CheckpointId) {
        self.prepared.borrow_mut().insert(id.0, self.written.get());
        self.unseen_since.set(None);
    }

    pub(crate) fn commits(&self, id: CheckpointId) {
        self.opened.set(self.opened.get().or(Some(self.now())));
        let written = self.prepared.borrow().get(&id.0).copied().unwrap_or_default();
        self.committed.set(written.max(self.committed.get()));
        let all = self.committed.get() == self.written.get();
        self.uncommitted_since.set((!all).then(|| self.now()));
    }

    /// A checkpoint has failed as planned, and the times count anew.
    pub(crate) fn fails(&self) {
        self.failures.set(self.failures.get() + 1);
        let again = |since: &Cell<Option<i64>>| since.set(since.get().map(|_| self.now()));
        again(&self.uncommitted_since);
        again(&self.hand_over_since);
        self.unseen_since.set(Some(self.now()));
        self.asks.borrow_mut().values_mut().for_each(|since| *since = self.now());
    }

    /// The most time that a barrier takes to the sink: the elements in the rings and on the desks before it, and
    /// their writes.
    fn travel(&self) -> i64 {
        let plan = self.plan();
        let elements = 2 * (plan.capacity as i64 + 2) * (plan.stages as i64);
        4 * elements * STEP
    }

    /// The most time from the beginning of a checkpoint to its end. Between two steps of the save an output may be written.
    fn checkpoint(&self) -> i64 {
        let steps = 2 + 2 * (4 + 1 + 1) + 2 * (2 + self.open.get() as i64);
        self.travel() + steps * STEP + self.plan().save_time.as_nanos() as i64
    }

    /// Looks whether everything has happened that must have by now (K11, K12, K13, K16).
    pub(crate) fn check_time(&self) -> Result<(), String> {
        let plan = self.plan();
        let late = |since: Option<i64>, bound: i64| since.is_some_and(|s| self.now() > s + bound);
        let error = |what: &str| Err(format!("{what} at {} ns", self.now()));
        if self.is_fenced.get() {
            return error("K15: a fenced owner goes on");
        }
        if self.is_hurt.get() {
            return Ok(()); // no barrier comes through; the pipeline ends when the later stages have
        }
        let recovery = 12 * STEP;
        let two = recovery + 2 * self.checkpoint();
        if late(self.hand_over_since.get(), two) {
            return error("K16: the job is not handed over");
        }
        if !plan.drains && late(self.asks.borrow().values().min().copied(), two) {
            return error("K16: nobody answers who asked for a checkpoint");
        }
        // The sink has as long to write as it takes to commit, and after a failure an interval passes.
        let pause = (plan.pause.as_nanos() as i64).max(self.checkpoint());
        let rest = 2 * plan.interval.unwrap_or_default().as_nanos() as i64 + pause;
        if plan.is_prompt() && late(self.uncommitted_since.get(), rest + two) {
            return error("K11: output is not committed");
        }
        // Where only positions are kept, a restore loses no attempts.
        let keeps_attempts = self.keeps != Keeps::Positions;
        if plan.is_prompt() && keeps_attempts && late(self.unseen_since.get(), rest + two) {
            return error("K13: attempts are in no checkpoint");
        }
        Ok(())
    }

    /// Nothing will happen any more, but for requests that are never answered: everything else must be committed.
    pub(crate) fn check_standstill(&self) -> Result<(), String> {
        if self.stuck.get() == 0 {
            return Err("nothing will ever happen again".into());
        }
        if self.is_hurt.get() {
            return Ok(());
        }
        if self.is_handed_over() {
            return Err("K16: the hand-over waits for a request".into());
        }
        let (emitted, committed) = (self.emitted.get(), self.committed.get());
        if self.plan().is_prompt() && emitted != committed {
            return Err(format!("K11: {committed} of {emitted} outputs are committed"));
        }
        Ok(())
    }
}
