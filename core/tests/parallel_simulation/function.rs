//! The function of the simulated stage, in instances, and its requests: what they do is up to the schedule.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use inflight_core::{AsyncFunction, AttemptInfo, TimedOutCall, TimeoutAction, hash_key};

use crate::plan::{Plan, Record, is_dropped_late, late_output};
use crate::random::Random;

/// What the simulation knows of one life's requests.
pub(crate) struct Watch {
    pub(crate) plan: Plan,
    pub(crate) clock: Rc<crate::clock::Clock>,
    pub(crate) current: Rc<Cell<Option<usize>>>,
    pub(crate) requests: RefCell<Vec<Seen>>,
    /// The instant of each record's first attempt in this life, unless it was restored.
    started: RefCell<HashMap<u32, i64>>,
    pub(crate) restored: RefCell<Vec<u32>>,
    /// The task of each instance.
    tasks: RefCell<HashMap<usize, Option<usize>>>,
    pub(crate) open: Cell<usize>,
    pub(crate) closed: Cell<usize>,
    pub(crate) dropped: RefCell<Vec<u32>>,
    pub(crate) wrong: RefCell<Option<String>>,
}

/// One request.
pub(crate) struct Seen {
    number: u32,
    instance: usize,
    pub(crate) lives: bool,
    /// The answer, and the instant since which it is there.
    answer: Option<(Result<u32, u32>, i64)>,
    waker: Option<Waker>,
    has_been_polled: bool,
}

impl Watch {
    pub(crate) fn new(
        plan: Plan,
        clock: &Rc<crate::clock::Clock>,
        current: &Rc<Cell<Option<usize>>>,
    ) -> Rc<Self> {
        Rc::new(Self {
            plan,
            clock: Rc::clone(clock),
            current: Rc::clone(current),
            requests: RefCell::default(),
            started: RefCell::default(),
            restored: RefCell::default(),
            tasks: RefCell::default(),
            open: Cell::default(),
            closed: Cell::default(),
            dropped: RefCell::default(),
            wrong: RefCell::default(),
        })
    }

    pub(crate) fn fail(&self, what: String) {
        self.wrong.borrow_mut().get_or_insert(what);
    }

    pub(crate) fn undecided(&self) -> Vec<usize> {
        let requests = self.requests.borrow();
        let is_it = |at: &usize| requests[*at].lives && requests[*at].answer.is_none();
        (0..requests.len()).filter(is_it).collect()
    }

    /// A request's answer comes.
    pub(crate) fn answer(&self, at: usize, succeeds: bool) {
        let mut requests = self.requests.borrow_mut();
        let seen = &mut requests[at];
        let answer = if succeeds { Ok(2 * seen.number) } else { Err(seen.number) };
        seen.answer = Some((answer, self.clock.now()));
        let waker = seen.waker.take();
        drop(requests);
        waker.into_iter().for_each(Waker::wake);
    }

    fn invoked(&self, input: &Record, instance: usize) -> usize {
        let now = self.clock.now();
        self.started.borrow_mut().entry(input.number).or_insert(now);
        let plan = &self.plan;
        let count = plan.instances.unwrap_or(1);
        let expected = hash_key(&input.key) as usize % count;
        if plan.order.has_key() && !plan.is_spread && instance != expected {
            self.fail(format!(
                "record {} meets instance {instance}, not {expected} (P1)",
                input.number
            ));
        }
        let mut requests = self.requests.borrow_mut();
        let random = &mut Random::new(plan.seed ^ (requests.len() as u64) << 20);
        let is_eager = random.one_in(plan.eager);
        requests.push(Seen {
            number: input.number,
            instance,
            lives: true,
            answer: is_eager.then_some((Ok(2 * input.number), now)),
            waker: None,
            has_been_polled: false,
        });
        requests.len() - 1
    }

    /// All requests of an instance are polled on one task, and those of two instances on two (P1).
    fn is_polled_on_its_task(&self, instance: usize) {
        let task = self.current.get();
        let mut tasks = self.tasks.borrow_mut();
        let known = *tasks.entry(instance).or_insert(task);
        let is_shared = tasks.iter().any(|(other, on)| *other != instance && *on == task);
        if known != task || (self.plan.instances.is_some() && (is_shared || task.is_none())) {
            self.fail(format!("instance {instance} is polled on task {task:?}: {tasks:?} (P1)"));
        }
    }

    fn polled(&self, at: usize, cx: &Context<'_>) -> Poll<Result<u32, u32>> {
        let mut requests = self.requests.borrow_mut();
        let seen = &mut requests[at];
        self.is_polled_on_its_task(seen.instance);
        seen.has_been_polled = true;
        match seen.answer {
            Some((answer, _)) => Poll::Ready(answer),
            None => {
                seen.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn timed_out(&self, number: u32) {
        let requests = self.requests.borrow();
        let last = requests.iter().rev().find(|seen| seen.number == number);
        let deadline = self.plan.timeout.map(|timeout| timeout.as_nanos() as i64);
        let deadline = deadline.zip(self.started.borrow().get(&number).copied());
        let is_known = !self.restored.borrow().contains(&number);
        if let (Some(seen), Some((timeout, started))) = (last, deadline)
            && let Some((Ok(_), at)) = seen.answer
            && is_known
            && at < started + timeout
            && seen.has_been_polled
        {
            self.fail(format!("record {number} had its answer at {at}, and timed out (T6)"));
        }
    }
}

/// One instance of the function.
pub(crate) struct Function {
    pub(crate) watch: Rc<Watch>,
    pub(crate) instance: usize,
}

impl AsyncFunction<Record> for Function {
    type Output = u32;
    type Error = u32;
    type Future = Request;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), u32>> {
        self.watch.open.set(self.watch.open.get() + 1);
        Poll::Ready(Ok(()))
    }

    fn invoke(&mut self, input: &Record, _: AttemptInfo) -> Request {
        Request { at: self.watch.invoked(input, self.instance), watch: Rc::clone(&self.watch) }
    }

    fn on_timeout(&mut self, call: TimedOutCall<'_, Record, u32, u32>) -> TimeoutAction<u32, u32> {
        let input = call.input;
        self.watch.timed_out(input.number);
        match late_output(input.number) {
            Some(output) => TimeoutAction::Output(output),
            None if is_dropped_late(input.number) => {
                self.watch.dropped.borrow_mut().push(input.number);
                TimeoutAction::Drop
            }
            None => TimeoutAction::Fail,
        }
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<()> {
        self.watch.closed.set(self.watch.closed.get() + 1);
        Poll::Ready(())
    }
}

pub(crate) struct Request {
    at: usize,
    watch: Rc<Watch>,
}

impl Future for Request {
    type Output = Result<u32, u32>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.watch.polled(self.at, cx)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.watch.requests.borrow_mut()[self.at].lives = false;
    }
}
