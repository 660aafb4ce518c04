//! What becomes of each record of a stage in virtual time.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use crate::virtual_time::VirtualTime;

/// Writes down what becomes of records, which have numbers. The source, the function and the consumer of a stage have a clone each.
#[derive(Clone)]
pub(super) struct Trace {
    clock: VirtualTime,
    lives: Rc<RefCell<BTreeMap<u32, Life>>>,
}

/// A record's way through the stage.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    /// Its attempts, the first one first.
    pub(super) attempts: Vec<Attempt>,
    /// When its outcome left.
    pub(super) left: Option<Duration>,
}

/// One attempt of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempt {
    pub(super) start: Duration,
    /// When it ended, and true if it succeeded.
    pub(super) end: Option<(Duration, bool)>,
}

impl Trace {
    pub(super) fn new(clock: &VirtualTime) -> Self {
        Self { clock: clock.clone(), lives: Rc::default() }
    }

    /// The stage has taken a record in.
    pub(super) fn taken(&self, record: u32) {
        self.lives.borrow_mut().insert(record, Life::default());
    }

    /// An attempt: `work`, with its start and its end written down.
    pub(super) fn attempt<T, E, F: Future<Output = Result<T, E>>>(
        &self,
        record: u32,
        work: F,
    ) -> impl Future<Output = Result<T, E>> + use<T, E, F> {
        let trace = self.clone();
        async move {
            let start = trace.clock.now();
            trace.change(record, |life| life.attempts.push(Attempt { start, end: None }));
            let result = work.await;
            let end = Some((trace.clock.now(), result.is_ok()));
            trace.change(record, |life| {
                if let Some(attempt) = life.attempts.last_mut() {
                    attempt.end = end;
                }
            });
            result
        }
    }

    /// The consumer has the record's outcome.
    pub(super) fn left(&self, record: u32) {
        let now = self.clock.now();
        self.change(record, |life| life.left = Some(now));
    }

    /// All records so far.
    pub(super) fn lives(&self) -> BTreeMap<u32, Life> {
        self.lives.borrow().clone()
    }

    fn change(&self, record: u32, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.lives.borrow_mut().get_mut(&record) {
            change(life);
        }
    }
}
