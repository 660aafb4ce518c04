//! What the stage does to its surroundings, and the model that is told of it.
//!
//! The source, the function, the requests, the timer and the consumer report here. Each report goes to
//! the model as what it means, and the model says whether the contract allows it. What the contract asks for is looked at
//! when the stage is at rest (`check.rs`). Nothing here knows how the stage goes about its work.

mod allowed;
mod consumer;
mod desk;
mod gates;
mod poll;
mod requests;
mod source;

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
use self::poll::Polled;
pub(crate) use self::poll::{Limits, Stop};
pub(crate) use self::requests::{Act, Seen};
pub(crate) use self::source::Feed;
use crate::clock::Clock;
use crate::executor::Task;
use crate::ledger::Ledger;
use crate::model::{Model, Overtaking, TimeoutAction};
use crate::plan::Plan;
use crate::run::Planned;
use crate::subject::Element;
use crate::values::{Answer, Record};

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
    poll: Polled,
    /// Since the last rest.
    was_polled: bool,
    pub(crate) limits: Limits,
    /// What the stage knows of them for certain.
    pub(crate) limits_seen: Limits,
    /// The stage was told to pause, or to resume, and may not know.
    pub(crate) pause_command: Option<bool>,
    pub(crate) stop: Option<Stop>,
    /// The stage takes no more input.
    pub(crate) stopped: bool,
    /// From when on it may have been shut down.
    shut_down_since: Option<i64>,
    /// What the timer is armed for, and the latest instant for which it has fired.
    pub(crate) armed: Option<i64>,
    fired: i64,
    /// Barriers on their way past everything, and how many events were before each.
    pub(crate) overtaking: VecDeque<(Overtaking, u64)>,
    /// There was more to take than the stage's task has to hand over.
    pub(crate) is_too_much: bool,
    /// Records whose outcomes it has handed over for certain.
    pub(crate) handed_over: Vec<u32>,
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
    /// Wakes of requests that were gone by then.
    pub(crate) stale_wakes: usize,
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
            poll: Polled::default(),
            was_polled: false,
            limits: Limits::of(plan),
            limits_seen: Limits::of(plan),
            pause_command: None,
            stop: None,
            stopped: false,
            shut_down_since: None,
            armed: None,
            fired: 0,
            overtaking: VecDeque::new(),
            is_too_much: false,
            handed_over: Vec::new(),
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

    pub(crate) fn timer_armed(&self, at: Option<i64>) {
        self.look().timer_armed(at);
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
        self.look().source_dropped();
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

    pub(crate) fn timed_out(
        &self,
        number: u32,
        attempts: u32,
        last: Option<Answer>,
    ) -> TimeoutAction {
        self.look().timed_out(number, attempts, last)
    }
}

impl Inner {
    /// Everything but what is kept over a crash is as at the start.
    pub(crate) fn begin_life(&mut self) {
        self.limits = Limits::of(&self.plan);
        self.limits_seen = self.limits;
        self.feed.begin_life();
        (self.opening, self.closing) = (Gate::default(), Gate::default());
        (self.life, self.opening_failed) = (Life::Opening, false);
        self.poll = Polled::default();
        self.pause_command = None;
        (self.stop, self.stopped, self.shut_down_since) = (None, false, None);
        (self.armed, self.fired, self.model.delivered) = (None, 0, 0);
        self.overtaking.clear();
        self.handed_over.clear();
        self.is_too_much = false;
        self.desk = Desk::default();
        self.barriers.clear();
        self.counts = Counts::default();
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

    /// Nothing is expected of the stage any more.
    pub(crate) fn is_over(&self) -> bool {
        self.going || self.panicked
    }
}
