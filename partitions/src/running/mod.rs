//! The partitions of a job that runs: each is started, handed over, dropped and started again as the engine and its own end say.

mod changes;
mod endings;

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use inflight_core::pipeline::Ended;
use inflight_core::{Instant, RetryStrategy, Timer};

use crate::assignment::Assignment;
use crate::event::Event;
use crate::life::{Life, LifeLine, begin};
use crate::partition::Partition;
use crate::view::Shared;
use crate::watch::Watch;

/// So many changes of the engine are taken in one poll, so that partitions have their turn (L5).
const CHANGES_AT_ONCE: u32 = 64;

pub(crate) struct Running<A: Assignment, R, L, G, F> {
    pub(crate) assignment: A,
    restart: R,
    hand_over_within: Duration,
    listener: L,
    /// Makes the future of a partition's life.
    start: G,
    shared: Arc<Shared<A::Partition>>,
    slots: BTreeMap<A::Partition, Slot<F>>,
    lives: FuturesUnordered<Life<A::Partition, F>>,
    /// Why the job ends; `None` while it goes on.
    end: Option<End<A::Error>>,
    /// More changes may follow.
    has_changes: bool,
    now: Instant,
    /// The next deadline of a partition, which is looked for again when something has changed: a job has up to 1,024 of them.
    next: Option<Instant>,
    has_changed: bool,
    /// The instant for which the timer is armed.
    armed: Option<Instant>,
}

/// Why a job ends before its partitions do.
pub(crate) enum End<E> {
    Left,
    Assignment(E),
    GaveUp { partition: String, error: Box<dyn Error + Send + Sync> },
}

/// A partition of this worker.
struct Slot<F> {
    state: State<F>,
    watch: Arc<Watch>,
    /// Failures in a row.
    failures: u32,
}

enum State<F> {
    Runs {
        life: LifeLine<F>,
        since: Instant,
    },
    /// It is given back when it has handed over, or starts again if it was assigned anew since.
    HandsOver {
        life: LifeLine<F>,
        until: Instant,
        starts_again: bool,
    },
    Waits {
        until: Instant,
    },
    Finished,
}

impl<F> State<F> {
    /// The instant at which something is to be done.
    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::HandsOver { until, .. } | Self::Waits { until } => Some(*until),
            Self::Runs { .. } | Self::Finished => None,
        }
    }
}

impl<A, R, L, G, F, E> Running<A, R, L, G, F>
where
    A: Assignment,
    R: RetryStrategy<A::Partition, (), E>,
    L: FnMut(Event<'_, A::Partition>),
    G: Fn(Partition<A::Partition>) -> F,
    F: Future<Output = Result<Ended, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    pub(crate) fn new(
        assignment: A,
        restart: R,
        hand_over_within: Duration,
        listener: L,
        start: G,
        shared: Arc<Shared<A::Partition>>,
    ) -> Self {
        Self {
            assignment,
            restart,
            hand_over_within,
            listener,
            start,
            shared,
            slots: BTreeMap::new(),
            lives: FuturesUnordered::new(),
            end: None,
            has_changes: true,
            now: Instant::ZERO,
            next: None,
            has_changed: false,
            armed: None,
        }
    }

    /// Ready when nothing of any partition runs here any more, and none is to start.
    pub(crate) fn poll<Tm: Timer>(
        &mut self,
        cx: &mut Context<'_>,
        timer: Pin<&mut Tm>,
    ) -> Poll<Option<End<A::Error>>> {
        self.now = timer.now();
        // Before the flag is read: a handle that sets it afterwards wakes this task.
        self.shared.register(cx.waker());
        if self.shared.is_leaving() {
            self.end_with(End::Left);
        }
        self.poll_changes(cx);
        self.meet_deadlines();
        while let Poll::Ready(Some((partition, result))) = self.lives.poll_next_unpin(cx) {
            // One that was cut off has no result, and its partition is somewhere else by now.
            if let Some(result) = result {
                self.life_ended(&partition, result);
            }
        }
        let is_over = self.end.is_some() || !self.has_changes;
        if is_over && self.slots.values().all(|slot| matches!(slot.state, State::Finished)) {
            return Poll::Ready(self.end.take());
        }
        self.poll_timer(cx, timer);
        Poll::Pending
    }

    fn poll_changes(&mut self, cx: &mut Context<'_>) {
        for _ in 0..CHANGES_AT_ONCE {
            if !self.has_changes {
                return;
            }
            match self.assignment.poll_change(cx) {
                Poll::Pending => return,
                Poll::Ready(None) => self.has_changes = false,
                Poll::Ready(Some(Err(error))) => {
                    self.has_changes = false;
                    self.end_with(End::Assignment(error));
                }
                Poll::Ready(Some(Ok(change))) => self.change(change),
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Starts the partitions that have waited long enough, and drops those that have taken too long to hand over.
    fn meet_deadlines(&mut self) {
        if self.next_deadline().is_none_or(|at| at > self.now) {
            return;
        }
        self.has_changed = true;
        let is_due = |slot: &Slot<F>| slot.state.deadline().is_some_and(|at| at <= self.now);
        let due = self.slots.iter().filter(|(_, slot)| is_due(slot));
        let due: Vec<_> = due.map(|(partition, _)| partition.clone()).collect();
        for partition in due {
            let Some(mut slot) = self.slots.remove(&partition) else { continue };
            if let State::HandsOver { life, starts_again, .. } = slot.state {
                life.cut();
                self.tell(Event::HandOverTimedOut { partition: &partition });
                if !starts_again {
                    self.give_back(&partition);
                    continue;
                }
            }
            slot.state = self.begin_life(&partition, &slot.watch);
            self.slots.insert(partition, slot);
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        if std::mem::take(&mut self.has_changed) {
            self.next = self.slots.values().filter_map(|slot| slot.state.deadline()).min();
        }
        self.next
    }

    fn poll_timer<Tm: Timer>(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Tm>) {
        let next = self.next_deadline();
        // Armed once: a task that is polled all the time would put the timer off again and again.
        if next != self.armed {
            timer.as_mut().arm(next);
            self.armed = next;
        }
        if next.is_some() && timer.poll(cx).is_ready() {
            self.armed = None;
            cx.waker().wake_by_ref();
        }
    }

    fn begin_life(&mut self, partition: &A::Partition, watch: &Arc<Watch>) -> State<F> {
        let life = watch.begin_life();
        self.tell(Event::Started { partition, life });
        let argument = Partition::new(partition.clone(), Arc::clone(watch));
        let future = (self.start)(argument);
        let (life, line) = begin(partition.clone(), future);
        self.lives.push(life);
        State::Runs { life: line, since: self.now }
    }

    /// Nothing of the partition runs here any more, and its slot is gone.
    fn give_back(&mut self, partition: &A::Partition) {
        self.shared.watches().remove(partition);
        self.assignment.released(partition);
    }

    fn tell(&mut self, event: Event<'_, A::Partition>) {
        (self.listener)(event);
    }
}
