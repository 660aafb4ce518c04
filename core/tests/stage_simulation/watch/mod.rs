//! What the stage does to its surroundings, and the model that is told of it.
//!
//! The source, the function, the requests, the timer and the consumer report here. Each report goes to
//! the model as what it means, and what the model answers must be what the stage does next. So the two
//! are compared at every step that can be seen from outside.

mod consumer;
mod desk;
mod gates;
mod requests;
mod source;
mod turn;

use std::cell::{RefCell, RefMut};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::rc::Rc;
use std::task::{Context, Poll};

use inflight_core::{AttemptInfo, JoinError, StreamElement};

use self::consumer::OnItsWay;
pub(crate) use self::consumer::SavedPoint;
use self::desk::Desk;
use self::gates::Gate;
pub(crate) use self::gates::NOT_OPENED;
pub(crate) use self::requests::{Act, Seen};
pub(crate) use self::source::Feed;
pub(crate) use self::turn::{Limits, Stop};
use self::turn::{Part, Turn};
use crate::clock::Clock;
use crate::executor::Task;
use crate::ledger::Ledger;
use crate::model::{Model, Output, TimeoutAction};
use crate::plan::Plan;
use crate::run::Planned;
use crate::subject::Element;
use crate::values::Record;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Watch>>> = const { RefCell::new(None) };
}

pub(crate) struct Watch(RefCell<Inner>);

/// Where the stage is in its life, as far as its function shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Life {
    Opening,
    Running,
    /// Opening has failed.
    Failed,
    /// The function has been closed.
    Closed,
}

pub(crate) struct Inner {
    pub(crate) plan: Plan,
    pub(crate) clock: Rc<Clock>,
    pub(crate) model: Model,
    pub(crate) ledger: Ledger,
    pub(crate) attempts: Vec<Seen>,
    pub(crate) feed: Feed,
    pub(crate) opening: Gate,
    pub(crate) closing: Gate,
    pub(crate) life: Life,
    pub(crate) opening_failed: bool,
    turn: Turn,
    pub(crate) limits: Limits,
    /// What the stage knows of them, and of what the consumer has not taken.
    pub(crate) limits_seen: Limits,
    held_seen: usize,
    pub(crate) stop: Option<Stop>,
    /// The stage takes no more input.
    pub(crate) stopped: bool,
    /// Handed over by the stage's task, and not taken.
    pub(crate) ring: VecDeque<Output>,
    /// How many outputs a stage in place may hand out before its next turn.
    before_turn: usize,
    pub(crate) desk: Desk,
    barriers: Vec<OnItsWay>,
    pub(crate) saved: Option<SavedPoint>,
    checkpoints: u64,
    pub(crate) counts: Counts,
    /// The stream has been dropped, or the stage's task cancelled.
    pub(crate) going: bool,
    /// The stage has panicked as planned.
    pub(crate) panicked: bool,
    pub(crate) function_lives: bool,
    pub(crate) failure: Option<String>,
    pub(crate) story: Option<Vec<String>>,
}

/// Counted in one life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) attempts: u64,
    pub(crate) emitted: u64,
    pub(crate) dropped: u64,
    /// Elements that a restore brought.
    pub(crate) restored: u64,
    /// Control elements inside; `None` when it cannot be told.
    pub(crate) controls: Option<usize>,
    /// Of these, places of barriers that have failed, or fewer.
    pub(crate) gone: usize,
    /// Wakes of requests that were gone by then.
    pub(crate) stale_wakes: usize,
    /// How often the timer was armed, and how often it fired.
    pub(crate) arms: usize,
}

impl Watch {
    pub(crate) fn new(plan: &Plan, tells: bool) -> Rc<Self> {
        let inner = Inner {
            plan: *plan,
            clock: Clock::new(0, plan.resolution),
            model: Model::new(&plan.setup),
            ledger: Ledger::default(),
            attempts: Vec::new(),
            feed: Feed::default(),
            opening: Gate::default(),
            closing: Gate::default(),
            life: Life::Opening,
            opening_failed: false,
            turn: Turn::default(),
            limits: Limits::of(&plan.setup),
            limits_seen: Limits::of(&plan.setup),
            held_seen: 0,
            stop: None,
            stopped: false,
            ring: VecDeque::new(),
            before_turn: 0,
            desk: Desk::default(),
            barriers: Vec::new(),
            saved: None,
            checkpoints: 0,
            counts: Counts::default(),
            going: false,
            panicked: false,
            function_lives: false,
            failure: None,
            story: tells.then(Vec::new),
        };
        let watch = Rc::new(Self(RefCell::new(inner)));
        watch.look().begin_life();
        watch.look().model.delivered = 0;
        CURRENT.set(Some(Rc::clone(&watch)));
        watch
    }

    /// That of the schedule that runs on this thread.
    pub(crate) fn current() -> Rc<Self> {
        CURRENT.with_borrow(|current| current.clone()).expect("a schedule runs")
    }

    pub(crate) fn forget() {
        CURRENT.set(None);
    }

    pub(crate) fn look(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }

    pub(crate) fn turn_begins(&self) {
        self.look().turn_begins();
    }

    pub(crate) fn turn_ends(&self) {
        self.look().turn_ends();
    }

    pub(crate) fn timer_armed(&self, before: Option<i64>, at: Option<i64>) {
        self.look().timer_armed(before, at);
    }

    pub(crate) fn timer_fired(&self, at: i64) {
        self.look().timer_fired(at);
    }

    pub(crate) fn open_polled(&self, cx: &Context<'_>) -> Poll<Result<(), u32>> {
        self.look().open_polled(cx)
    }

    pub(crate) fn close_polled(&self, cx: &Context<'_>) -> Poll<()> {
        self.look().close_polled(cx)
    }

    pub(crate) fn function_dropped(&self) {
        self.look().function_lives = false;
    }

    pub(crate) fn source_polled(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Record>, Planned>>> {
        self.look().source_polled(cx)
    }

    pub(crate) fn source_dropped(&self) {
        self.look().feed.lives = false;
    }

    pub(crate) fn polls_requests_in_place(&self) -> bool {
        !self.look().plan.mode.has_request_tasks()
    }

    pub(crate) fn invoked(&self, number: u32, attempt: AttemptInfo) -> usize {
        self.look().invoked(number, attempt)
    }

    pub(crate) fn request_spawned(&self, at: usize, task: Rc<Task>) {
        self.look().attempts[at].task = Some(task);
    }

    pub(crate) fn stage_polls(&self, at: usize, finished: Option<bool>) {
        self.look().stage_polls(at, finished);
    }

    pub(crate) fn request_polled(&self, at: usize, cx: &Context<'_>) -> Act {
        self.look().request_polled(at, cx)
    }

    pub(crate) fn request_dropped(&self, at: usize) {
        self.look().request_dropped(at);
    }

    pub(crate) fn stage_has_answer(&self, at: usize, joined: Result<Result<u32, u32>, JoinError>) {
        self.look().stage_has_answer(at, requests::answer(joined));
    }

    pub(crate) fn stage_drops(&self, at: usize) {
        self.look().stage_drops(at);
    }

    /// The consumer that is run with the stage is given an element.
    pub(crate) fn given(&self, element: Element) {
        self.look().given(element);
    }

    pub(crate) fn desk_polled(&self, cx: &Context<'_>) -> Poll<()> {
        self.look().desk.poll(cx)
    }

    pub(crate) fn timed_out(&self, number: u32) -> TimeoutAction {
        self.look().timed_out(number)
    }
}

impl Inner {
    /// Everything but what is kept over a crash is as at the start.
    pub(crate) fn begin_life(&mut self) {
        let setup = &self.plan.setup;
        self.limits = Limits::of(setup);
        (self.limits_seen, self.held_seen) = (self.limits, 0);
        self.feed.begin_life();
        (self.opening, self.closing) = (Gate::default(), Gate::default());
        (self.life, self.opening_failed) = (Life::Opening, false);
        self.turn = Turn::default();
        (self.stop, self.stopped) = (None, false);
        self.ring.clear();
        self.before_turn = 0;
        self.desk = Desk::default();
        self.barriers.clear();
        self.counts = Counts { controls: Some(0), ..Counts::default() };
        (self.going, self.panicked) = (false, false);
        self.function_lives = true;
    }

    /// Keeps the first thing that goes wrong.
    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        if self.failure.is_none() {
            self.failure = Some(what.into());
        }
    }

    pub(crate) fn same<T: PartialEq + Debug>(&mut self, what: &str, stage: &T, model: &T) {
        if stage != model {
            self.fail(format!("{what}\n    stage: {stage:?}\n    model: {model:?}"));
        }
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    pub(crate) fn now(&self) -> i64 {
        self.clock.now()
    }

    /// Records that were handed over and not taken.
    pub(crate) fn held(&self) -> usize {
        self.ring.iter().filter(|output| matches!(output, Output::Outcome { .. })).count()
    }

    /// How many outputs a stage in place hands out before it looks at anything else: a quarter of its
    /// window.
    fn refill_after(&self) -> usize {
        (self.limits.capacity / 4).clamp(1, 32)
    }

    /// Nothing is expected of the stage any more.
    pub(crate) fn is_over(&self) -> bool {
        self.going || self.panicked
    }

    /// Whether what was promised is still to be judged.
    pub(crate) fn is_part_of_turn(&self) -> bool {
        !matches!(self.turn.part, Part::Outside | Part::Passing)
    }
}
