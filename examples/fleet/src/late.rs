//! An engine that tells late of what was lost.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use inflight_partitions::{Assignment, Change};
use tokio::time::{Instant, Sleep, sleep_until};

/// An assignment that keeps the loss of a partition to itself for a while, and with it all changes that come later.
///
/// A worker that was frozen sees by its own clock that its leases are over, and drops its pipelines before they can commit anything. So a trial
/// would say nothing about the fence. With this one only the fence is left to stop them (P4).
#[derive(Debug)]
pub struct Late<A: Assignment> {
    assignment: A,
    late: Duration,
    /// What was not told yet, each with the moment for it.
    held: VecDeque<(Instant, News<A>)>,
    /// Nothing more is to come.
    has_ended: bool,
    alarm: Pin<Box<Sleep>>,
}

type News<A> = Option<Result<Change<<A as Assignment>::Partition>, <A as Assignment>::Error>>;

impl<A: Assignment> Late<A> {
    pub fn new(assignment: A, late: Duration) -> Self {
        let alarm = Box::pin(sleep_until(Instant::now()));
        Self { assignment, late, held: VecDeque::new(), has_ended: false, alarm }
    }

    fn hold(&mut self, news: News<A>) {
        let is_lost = matches!(news, Some(Ok(Change::Lost(_))));
        let at = Instant::now() + if is_lost { self.late } else { Duration::ZERO };
        let at = self.held.back().map_or(at, |(before, _)| at.max(*before));
        self.has_ended = !matches!(news, Some(Ok(_)));
        self.held.push_back((at, news));
    }
}

impl<A: Assignment> Assignment for Late<A> {
    type Partition = A::Partition;
    type Error = A::Error;

    fn poll_change(&mut self, cx: &mut Context<'_>) -> Poll<News<A>> {
        while !self.has_ended
            && let Poll::Ready(news) = self.assignment.poll_change(cx)
        {
            self.hold(news);
        }
        let Some((at, _)) = self.held.front() else { return Poll::Pending };
        let at = *at;
        if at > Instant::now() {
            self.alarm.as_mut().reset(at);
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
        match self.held.pop_front() {
            Some((_, news)) => Poll::Ready(news),
            None => Poll::Pending,
        }
    }

    fn number(&self, partition: &A::Partition) -> u16 {
        self.assignment.number(partition)
    }

    fn released(&mut self, partition: &A::Partition) {
        self.assignment.released(partition);
    }

    fn finished(&mut self, partition: &A::Partition) {
        self.assignment.finished(partition);
    }

    async fn leave(&mut self) -> Result<(), A::Error> {
        self.assignment.leave().await
    }
}
