//! The sink's end of a pipeline: it writes records, decides when a checkpoint is due, saves and commits.
//!
//! The order is what K10 rests on: pre-commit, save, commit, acknowledge. A crash between two steps is repaired by the next
//! run, which finds the checkpoint or does not. Records are written meanwhile, and belong to the next checkpoint (K12).

use core::error::Error;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll};
use core::time::Duration;

use super::error::{PipelineError, Report};
use super::outputs::Outputs;
use super::save::{Acknowledged, Prepared, Reason, Saved, acknowledge, save};
use super::sections::{self, Ended, SINK, SOURCE};
use super::signals::{Owner, Stop};
use super::sink::TransactionalSink;
use super::source::{Acknowledge, ReplayableSource};
use super::trigger::{Due, Last, News, Trigger};
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointId, CheckpointStore};
use crate::element::{BarrierMode, StreamElement};
use crate::runtime::Timer;
use crate::time::Instant;

/// A barrier that was dropped on its way is an error after this time. A stage that ends early drops its barriers too, and the end of its
/// stream, or its panic, says more.
const LOST_FOR: Duration = Duration::from_secs(1);

/// So many elements are taken between two looks at the clock, while there are some.
const ELEMENTS_PER_LOOK: u32 = 64;

pub(super) struct Committer<S: ReplayableSource, K, L> {
    sink: K,
    /// `None` while it works.
    acknowledger: Option<S::Acknowledger>,
    listener: L,
    signals: Owner,
    source_error: rtrb::Consumer<S::Error>,
    trigger: Trigger,
    last: Last,
    under_way: Option<UnderWay>,
    /// No checkpoint of this life is committed. The first one finds out whether all stages take snapshots (K17).
    is_first: bool,
    /// The end of the records has arrived.
    is_drained: bool,
    /// The pipeline ends with the checkpoint that is under way: no more outputs are taken.
    end: Option<Ended>,
    elements: u32,
    /// When this end learned that a barrier was dropped on its way.
    lost: Option<Instant>,
    /// The instant for which the timer is armed.
    armed: Option<Instant>,
}

/// The checkpoint that is under way.
#[derive(Clone, Copy, Debug)]
struct UnderWay {
    /// The highest ask for a checkpoint when it began: it answers all up to this one.
    asks: usize,
    is_hand_over: bool,
    /// Its barrier has arrived.
    has_arrived: bool,
}

type ErrorOf<S, K, C, T> = PipelineError<
    <S as ReplayableSource>::Error,
    <K as TransactionalSink<T>>::Error,
    <C as CheckpointStore>::Error,
>;

type AcknowledgedOf<S> = Acknowledged<
    <S as ReplayableSource>::Acknowledger,
    <<S as ReplayableSource>::Acknowledger as Acknowledge<
        <S as ReplayableSource>::Position,
    >>::Error,
>;

/// The next thing that happens at the sink's end.
enum Event<T, X, Y> {
    Element(Option<Result<StreamElement<T>, CheckpointError>>),
    /// A checkpoint is due, and none is under way.
    Due,
    /// A barrier was dropped on its way, so no checkpoint follows (K17).
    BarrierLost,
    Saved(X),
    Acknowledged(Y),
}

impl<S: ReplayableSource, K, L: FnMut(Report<'_>)> Committer<S, K, L> {
    pub(super) fn new(
        sink: K,
        acknowledger: S::Acknowledger,
        listener: L,
        signals: Owner,
        source_error: rtrb::Consumer<S::Error>,
        trigger: Trigger,
        timer: &impl Timer,
    ) -> Self {
        Self {
            sink,
            acknowledger: Some(acknowledger),
            listener,
            signals,
            source_error,
            trigger,
            last: Last {
                begun: timer.now(),
                ended: timer.now(),
                held_up: Duration::ZERO,
                has_failed: false,
            },
            under_way: None,
            is_first: true,
            is_drained: false,
            end: None,
            elements: 0,
            lost: None,
            armed: None,
        }
    }

    /// Brings the sink into the state in the checkpoint, or that of a new job.
    pub(super) async fn recover<T, Store>(
        &mut self,
        last: Option<(CheckpointId, usize, &K::Prepared)>,
    ) -> Result<(), PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        let Some((id, damaged, prepared)) = last else {
            // The sink refuses output that is not its own, before anything is saved.
            return self.sink.abort(None).await.map_err(PipelineError::Sink);
        };
        // K10: commits again if the last life died after its commit; the sink tolerates that.
        self.sink.commit(id, prepared).await.map_err(PipelineError::Sink)?;
        self.sink.abort(Some(prepared)).await.map_err(PipelineError::Sink)?;
        (self.listener)(Report::Resumed { id, damaged });
        Ok(())
    }

    /// Writes the outcomes, and takes checkpoints, until the last one is committed. `check` is shown the first one, which has been
    /// through all stages before any record has (K17).
    pub(super) async fn run<O, C, Tm>(
        mut self,
        mut outputs: Pin<&mut O>,
        store: C,
        mut timer: Pin<&mut Tm>,
        check: impl FnOnce(&Checkpoint) -> Result<(), ErrorOf<S, K, C, O::Value>>,
    ) -> Result<Ended, ErrorOf<S, K, C, O::Value>>
    where
        O: Outputs,
        K: TransactionalSink<O::Value>,
        C: CheckpointStore,
        Tm: Timer,
    {
        let (mut saving, mut acknowledging) = (pin!(None), pin!(None));
        let mut idle = Some(store); // `None` while a save has it
        let mut check = Some(check);
        let (id, ended) = loop {
            let event = poll_fn(|cx| {
                let busy = (saving.as_mut(), acknowledging.as_mut());
                self.poll_event(cx, busy, outputs.as_mut(), timer.as_mut())
            });
            match event.await {
                Event::Due => self.begin(timer.now()),
                Event::BarrierLost => return Err(PipelineError::BarrierLost),
                Event::Element(None) => return Err(PipelineError::EndedEarly),
                Event::Element(Some(Err(reason))) => return Err(PipelineError::Checkpoint(reason)),
                Event::Element(Some(Ok(StreamElement::Barrier(mut barrier)))) => {
                    barrier.checkpoint.arrive();
                    if barrier.mode == BarrierMode::End {
                        self.is_drained = true;
                        self.signals.0.drained();
                        continue;
                    }
                    if let Some(check) = check.take() {
                        check(&barrier.checkpoint)?;
                    }
                    let is_overtaken = self.is_overtaken(&barrier.checkpoint);
                    // Elements that have waited for this moment belong to the checkpoint.
                    for element in outputs.as_mut().complete(&mut barrier.checkpoint) {
                        self.write(element).await?;
                    }
                    if is_overtaken {
                        continue;
                    }
                    let since = timer.now();
                    let prepared = self.prepare(barrier.checkpoint).await?;
                    self.last.held_up = timer.now() - since;
                    let Some(prepared) = prepared else {
                        self.failed(timer.now());
                        continue;
                    };
                    // A checkpoint begins when the one before has ended, so no save has the store.
                    let Some(store) = idle.take() else { unreachable!("nothing is being saved") };
                    saving.set(Some(save(store, prepared)));
                }
                Event::Element(Some(Ok(element))) => self.write(element).await?,
                Event::Saved(saved) => {
                    saving.set(None);
                    let since = timer.now();
                    let (store, committed) = self.commit(saved).await?;
                    self.last.held_up += timer.now() - since;
                    idle = Some(store);
                    match (committed, self.acknowledger.take()) {
                        (Some((id, position, bytes)), Some(acknowledger)) => {
                            let acknowledge = acknowledge(acknowledger, position, id, bytes);
                            acknowledging.set(Some(acknowledge));
                        }
                        (_, acknowledger) => {
                            self.acknowledger = acknowledger;
                            self.failed(timer.now());
                        }
                    }
                }
                Event::Acknowledged(acknowledged) => {
                    acknowledging.set(None);
                    let id = acknowledged.id;
                    self.acknowledged(acknowledged, timer.now());
                    if let Some(ended) = self.end {
                        break (id, ended);
                    }
                }
            }
        };
        // Nothing was written since the last checkpoint began.
        self.signals.0.asked.answer(self.signals.0.asked.last());
        self.signals.0.asked.end();
        (self.listener)(Report::Complete { id, ended });
        if ended == Ended::HandedOver {
            return Ok(ended);
        }
        self.signals.0.close();
        // The stages are empty and only close their functions (L4), which may take forever. So the report comes first.
        while poll_fn(|cx| outputs.as_mut().poll_next(cx)).await.is_some() {}
        match self.source_error.pop() {
            Ok(error) => Err(PipelineError::Source(error)),
            Err(_) => Ok(ended),
        }
    }

    fn poll_event<O: Outputs, X: Future, Y: Future>(
        &mut self,
        cx: &mut Context<'_>,
        (saving, acknowledging): (Pin<&mut Option<X>>, Pin<&mut Option<Y>>),
        mut outputs: Pin<&mut O>,
        timer: Pin<&mut impl Timer>,
    ) -> Poll<Event<O::Value, X::Output, Y::Output>>
    where
        K: TransactionalSink<O::Value>,
    {
        // Before the flags are read: a flag that is set afterwards wakes this task.
        let _ = self.signals.0.barriers.poll_progress(cx);
        // First the checkpoint that is under way: a source that is always ready must not hold up a commit.
        let is_saving = saving.is_some() || acknowledging.is_some();
        if let Some(Poll::Ready(saved)) = saving.as_pin_mut().map(|saving| saving.poll(cx)) {
            return Poll::Ready(Event::Saved(saved));
        }
        let acknowledged = acknowledging.as_pin_mut().map(|acknowledging| acknowledging.poll(cx));
        if let Some(Poll::Ready(acknowledged)) = acknowledged {
            return Poll::Ready(Event::Acknowledged(acknowledged));
        }
        let is_full = self.sink.is_full() || outputs.as_mut().wants_checkpoint();
        let due = self.due(is_full);
        let is_due = match due {
            Some(Due::Now) => true,
            Some(Due::At(due)) => self.elements >= ELEMENTS_PER_LOOK && due <= timer.now(),
            None => false,
        };
        if is_due {
            return Poll::Ready(Event::Due);
        }
        // Outputs are taken from a full sink's stages only for the sake of the barrier behind them.
        let is_held_up = is_full && (is_saving || due.is_some());
        if self.end.is_none()
            && !is_held_up
            && let Poll::Ready(element) = outputs.poll_next(cx)
        {
            self.elements = (self.elements + 1) % (ELEMENTS_PER_LOOK + 1);
            return Poll::Ready(Event::Element(element));
        }
        self.elements = 0;
        if self.signals.0.barriers.has_lost_barrier() {
            let at = *self.lost.get_or_insert_with(|| timer.now()) + LOST_FOR;
            return self.poll_at(cx, at, timer).map(|()| Event::BarrierLost);
        }
        // The outputs may have made progress.
        match self.due(is_full) {
            None => Poll::Pending,
            Some(Due::Now) => Poll::Ready(Event::Due),
            Some(Due::At(due)) => self.poll_at(cx, due, timer).map(|()| Event::Due),
        }
    }

    /// Ready at an instant.
    fn poll_at(
        &mut self,
        cx: &mut Context<'_>,
        at: Instant,
        mut timer: Pin<&mut impl Timer>,
    ) -> Poll<()> {
        // Armed once: a task that is polled all the time would put the timer off again and again.
        if self.armed != Some(at) {
            timer.as_mut().arm(Some(at));
            self.armed = Some(at);
        }
        timer.poll(cx).map(|()| self.armed = None)
    }

    /// When the next checkpoint is due; `None` while one is under way, or nothing calls for one.
    fn due<T>(&self, is_full: bool) -> Option<Due>
    where
        K: TransactionalSink<T>,
    {
        let signals = &self.signals.0;
        let is_handed_over = signals.stop() == Some(Stop::HandOver);
        let is_busy = match self.under_way {
            None => false,
            // A barrier that drains may take its time; the one of the hand-over overtakes it. But nothing ends before the first one.
            Some(under_way) => {
                self.is_first || !is_handed_over || under_way.is_hand_over || under_way.has_arrived
            }
        };
        // Between the end of the records and its arrival there is no position at which a barrier could drain.
        let is_draining = self.trigger.mode == BarrierMode::Drain
            && signals.end().is_some()
            && !self.is_drained
            && !is_handed_over;
        if is_busy || self.end.is_some() || (is_draining && !self.is_first) {
            return None;
        }
        let is_asked_for =
            self.is_first || self.is_drained || is_handed_over || signals.asked.is_open();
        self.trigger.due(
            self.last,
            News {
                has_progress: signals.barriers.has_progress(),
                has_enough_records: signals.has_enough_records(),
                is_full,
                is_asked_for,
            },
        )
    }

    /// Begins a checkpoint: asks the source for its barrier.
    fn begin(&mut self, now: Instant) {
        let signals = &self.signals.0;
        let is_hand_over = !self.is_first && signals.stop() == Some(Stop::HandOver);
        self.under_way =
            Some(UnderWay { asks: signals.asked.last(), is_hand_over, has_arrived: false });
        self.last.begun = now;
        self.elements = 0;
        // Before the barrier is made: later progress counts for the next checkpoint.
        signals.barriers.take_progress();
        signals.want_barrier();
    }

    async fn write<T, Store>(
        &mut self,
        element: StreamElement<T>,
    ) -> Result<(), PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        match element {
            StreamElement::Record { value, timestamp } => {
                self.sink.write(value, timestamp).await.map_err(PipelineError::Sink)?;
                self.signals.0.barriers.note_progress(); // only a checkpoint commits it
            }
            StreamElement::Watermark(watermark) => self.sink.watermark(watermark),
            StreamElement::Status(status) => self.sink.status(status),
            StreamElement::Barrier(_) => {} // does not come here
        }
        Ok(())
    }

    /// Whether this is the barrier of a checkpoint that has lost its place to the hand-over.
    fn is_overtaken(&self, checkpoint: &Checkpoint) -> bool {
        self.under_way.is_some_and(|under_way| under_way.is_hand_over)
            && sections::ended(checkpoint) != Some(Ended::HandedOver)
    }

    /// Pre-commits the sink and completes the checkpoint. `None` if the checkpoint has failed, which is reported.
    async fn prepare<T, Store>(
        &mut self,
        checkpoint: Checkpoint,
    ) -> Result<Option<Prepared<K::Prepared, S::Position>>, PipelineError<S::Error, K::Error, Store>>
    where
        K: TransactionalSink<T>,
    {
        if let Some(under_way) = &mut self.under_way {
            under_way.has_arrived = true;
        }
        self.end = sections::ended(&checkpoint);
        let id = checkpoint.id();
        match self.complete(checkpoint).await? {
            Ok(prepared) => Ok(Some(prepared)),
            // No checkpoint follows the last one, and nothing begins before the first one.
            Err(reason) if self.is_decisive() => Err(PipelineError::Checkpoint(reason)),
            Err(reason) => {
                self.report_failure(id, &reason);
                Ok(None)
            }
        }
    }

    /// Pre-commits the sink and adds the sections of this end to the checkpoint.
    async fn complete<T, Store>(
        &mut self,
        mut checkpoint: Checkpoint,
    ) -> Result<
        Result<Prepared<K::Prepared, S::Position>, CheckpointError>,
        PipelineError<S::Error, K::Error, Store>,
    >
    where
        K: TransactionalSink<T>,
    {
        // K3: a stage on the way may have failed the checkpoint, for instance by a drain that took too long.
        if let Err(reason) = checkpoint.failure() {
            return Ok(Err(reason));
        }
        let Some(position) = sections::read(&checkpoint, SOURCE) else {
            return Ok(Err(CheckpointError::Serialize));
        };
        // The description covers everything that is not committed, also the output of checkpoints that have failed.
        let description = self.sink.pre_commit(checkpoint.id()).await;
        let description = description.map_err(PipelineError::Sink)?;
        if let Err(reason) = sections::put(&mut checkpoint, SINK, &description) {
            return Ok(Err(reason));
        }
        Ok(Ok(Prepared { checkpoint, description, position }))
    }

    /// Commits a checkpoint that is durable. Returns the store, and the checkpoint if it has not failed.
    async fn commit<T, C: CheckpointStore>(
        &mut self,
        saved: Saved<K::Prepared, S::Position, C>,
    ) -> Result<(C, Option<(CheckpointId, S::Position, usize)>), ErrorOf<S, K, C, T>>
    where
        K: TransactionalSink<T>,
    {
        let Saved { store, prepared, result } = saved;
        let id = prepared.checkpoint.id();
        match result {
            Ok(bytes) => {
                self.sink.commit(id, &prepared.description).await.map_err(PipelineError::Sink)?;
                if let Some(under_way) = self.under_way {
                    self.signals.0.asked.answer(under_way.asks);
                }
                return Ok((store, Some((id, prepared.position, bytes))));
            }
            // Nothing is committed, and no later checkpoint can mend that (K15).
            Err(Reason::Store(reason)) if self.is_decisive() || store.is_final(&reason) => {
                return Err(PipelineError::Save(reason));
            }
            Err(Reason::Checkpoint(reason)) if self.is_decisive() => {
                return Err(PipelineError::Checkpoint(reason));
            }
            Err(Reason::Store(reason)) => self.report_failure(id, &reason),
            Err(Reason::Checkpoint(reason)) => self.report_failure(id, &reason),
        }
        Ok((store, None))
    }

    fn report_failure(&mut self, id: CheckpointId, reason: &(dyn Error + 'static)) {
        (self.listener)(Report::Failed { id, reason });
    }

    /// Whether the pipeline cannot do without the checkpoint that is under way.
    fn is_decisive(&self) -> bool {
        self.is_first || self.end.is_some()
    }

    /// A checkpoint has failed. The next one covers it, even if no more records come (K10).
    fn failed(&mut self, now: Instant) {
        if let Some(under_way) = self.under_way.take() {
            self.signals.0.asked.fail(under_way.asks);
        }
        (self.last.ended, self.last.has_failed) = (now, true);
        self.signals.0.barriers.note_progress();
    }

    /// A checkpoint is committed and acknowledged. A failed acknowledgement is only reported, because the next one covers it.
    fn acknowledged(&mut self, acknowledged: AcknowledgedOf<S>, now: Instant) {
        let Acknowledged { acknowledger, id, bytes, result } = acknowledged;
        self.acknowledger = Some(acknowledger);
        if let Err(reason) = result {
            (self.listener)(Report::Unacknowledged { id, reason: &reason });
        }
        (self.listener)(Report::Saved { id, bytes, took: now - self.last.begun });
        self.under_way = None;
        (self.last.ended, self.last.has_failed) = (now, false);
        if core::mem::replace(&mut self.is_first, false) {
            self.signals.0.open(); // from here on records flow
        }
    }
}
