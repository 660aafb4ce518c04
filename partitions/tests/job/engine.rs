//! An engine that says what the test tells it to, and writes down what the job says.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use inflight_partitions::{Assignment, Change};

/// The engine's connection is gone.
#[derive(Debug, PartialEq)]
pub(crate) struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the engine is gone")
    }
}

impl std::error::Error for Gone {}

type Said = Option<Result<Change<u16>, Gone>>;

/// The test's end, and the job's.
#[derive(Clone, Default)]
pub(crate) struct Engine(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    said: VecDeque<Said>,
    waker: Option<Waker>,
    log: Vec<String>,
}

impl Engine {
    fn says(&self, said: Said) {
        let mut inner = self.0.borrow_mut();
        inner.said.push_back(said);
        inner.waker.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn assigns(&self, partition: u16) {
        self.says(Some(Ok(Change::Assigned(partition))));
    }

    pub(crate) fn revokes(&self, partition: u16) {
        self.says(Some(Ok(Change::Revoked(partition))));
    }

    pub(crate) fn takes_away(&self, partition: u16) {
        self.says(Some(Ok(Change::Lost(partition))));
    }

    pub(crate) fn tells_owner(&self, partition: u16, worker: Option<&str>) {
        let worker = worker.map(str::to_owned);
        self.says(Some(Ok(Change::Owner { partition, worker })));
    }

    pub(crate) fn fails(&self) {
        self.says(Some(Err(Gone)));
    }

    pub(crate) fn has_no_more(&self) {
        self.says(None);
    }

    /// Writes something else into the log, to see what came first.
    pub(crate) fn note(&self, what: impl fmt::Display) {
        self.0.borrow_mut().log.push(what.to_string());
    }

    /// Everything that was noted since the last call.
    pub(crate) fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.0.borrow_mut().log)
    }
}

impl Assignment for Engine {
    type Partition = u16;
    type Error = Gone;

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<Said> {
        let mut inner = self.0.borrow_mut();
        let Some(said) = inner.said.pop_front() else {
            inner.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        Poll::Ready(said)
    }

    /// 1 and 2,001 have the same one, which is a mistake.
    fn number(&self, partition: &u16) -> u16 {
        *partition % 2_000
    }

    fn released(&mut self, partition: &u16) {
        self.note(format!("released {partition}"));
    }

    fn finished(&mut self, partition: &u16) {
        self.note(format!("finished {partition}"));
    }

    async fn leave(&mut self) -> Result<(), Gone> {
        self.note("left");
        Ok(())
    }
}
