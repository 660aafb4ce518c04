//! Batches (B1-B4): one request for several records, each of which keeps its own call.
//!
//! A batch forms at the front of the queue of attempts to start, and starts as a whole. From then on its records are running like any
//! others; they only have one request, and end with it, or before it when they run out of time. Where requests are counted or
//! throttled, a batch is one.

use core::time::Duration;

use super::Operator;
use super::attempt::{Attempt, AttemptId, Completion};
use super::batch::{Batch, BatchRecords};
use super::call::{Call, ResultOf};
use super::record::Record;
use super::slab::List;
use crate::outcome::Failure;
use crate::policy::Extras;
use crate::storage::{BatchId, BatchTables, FormingBatch, NONE, Storage};
use crate::time::Instant;

impl<C: Call, S: Storage> Operator<C, S> {
    /// The next batch to start, if one is due, for a policy with a [batch size](crate::AsyncWait::batch). Its records count as running
    /// from here on. Such a policy has batches only: [`poll_attempt`](Self::poll_attempt) gives nothing, and
    /// [`push_start`](Self::push_start) starts nothing.
    ///
    /// Push all elements that there are before, so that batches are as large as they can be. The inputs are borrowed from the
    /// operator: make the request, and copy the id of the batch, before the next call of a method.
    ///
    /// A batch ends as a whole ([`handle_batch_completion`](Self::handle_batch_completion),
    /// [`handle_batch_failure`](Self::handle_batch_failure)). A record whose timeout passes before
    /// leaves its batch; one that has lost all its records is over, and its request should be cancelled
    /// ([`take_abandoned_batch`](Self::take_abandoned_batch)).
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, BatchSize, Instant, StreamElement};
    ///
    /// let policy = AsyncWait::ordered(64).batch(BatchSize::records(3));
    /// let mut op = policy.build_core::<u32, u32, ()>().unwrap();
    /// let now = Instant::ZERO;
    /// for number in 20..24 {
    ///     op.push(now, StreamElement::value(number)).unwrap();
    /// }
    /// let mut requests = Vec::new();
    /// while let Some(batch) = op.poll_batch(now) {
    ///     requests.push((batch.id(), batch.inputs().copied().collect::<Vec<_>>()));
    /// }
    /// assert_eq!(requests[0].1, [20, 21, 22]);
    /// assert_eq!(requests[1].1, [23]);
    ///
    /// for (id, inputs) in requests {
    ///     let answers: Vec<_> = inputs.iter().map(|input| Ok(input * 2)).collect();
    ///     let _ = op.handle_batch_completion(now, id, answers);
    /// }
    /// let Some(StreamElement::Record { value, .. }) = op.poll_output() else { panic!() };
    /// assert_eq!((value.input, value.result), (20, Ok(40)));
    /// # }
    /// ```
    pub fn poll_batch(&mut self, now: Instant) -> Option<Batch<'_, C::Input>> {
        self.advance(now);
        self.admit();
        if !self.has_batch() {
            return None;
        }
        let now = self.now;
        let size = self.next_batch_size();
        if C::Extras::THROTTLES {
            let inputs = Inputs::of(self.records.all(), self.to_start, size);
            self.extras.started(now, inputs);
        }
        let id = self.batches.get_mut()?.begin(now);
        let mut first = NONE;
        for position in 0..size {
            let slot = self.to_start.pop_front(self.records.slots());
            if position == 0 {
                first = slot;
            }
            self.batches.get_mut()?.join(id, slot);
            let _ = self.start(slot);
        }
        self.form_next(size);
        let records: &dyn BatchRecords<C::Input> = self;
        Some(Batch::new(id, records, first, size))
    }

    /// Whether [`poll_batch`](Self::poll_batch) has a batch to give. If [restored elements wait](Self::has_backlog) for a slot, the answer may
    /// be another one afterwards: [`room`](Self::room) gives them theirs. It looks at each record of the batch if a rate counts by weight.
    pub fn has_batch(&self) -> bool {
        self.is_batch_due() && self.may_run() && self.is_batch_ready()
    }

    /// Whether [`poll_batch`](Self::poll_batch) has a batch to give that no further record can join. A caller that pulls from a source
    /// starts such a batch before it pulls on, and any other one when the source has nothing more at the moment.
    pub fn has_full_batch(&self) -> bool {
        let forming = self.forming();
        let is_full = self.is_batch_full() || (forming.records > 0 && self.is_window_stuck());
        is_full && self.may_run() && self.is_batch_ready()
    }

    /// The batch that is running under this [number](BatchId::number), if there is one.
    pub fn batch_in(&self, number: usize) -> Option<BatchId> {
        self.batches.get()?.in_number(number)
    }

    /// The batch of an attempt that is running, if it is in one. In [`expire`](Self::expire), it is the batch at whose request to take the
    /// last look.
    pub fn batch_of(&self, id: AttemptId) -> Option<BatchId> {
        if self.attempt_in(id.slot()) != Some(id) {
            return None;
        }
        self.batches.get()?.of_slot(id.slot)
    }

    /// Requests running: batches, for a policy that has them, and attempts otherwise. This is the number that
    /// [`max_running`](crate::AsyncWait::max_running) bounds (B4).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn running_requests(&self) -> usize {
        match self.batches.get() {
            Some(batches) => batches.running(),
            None => self.counters.running,
        }
    }

    /// A batch has ended with these answers, one for each of its records, in their order. Each record goes on for itself: its answer is its
    /// outcome, or it is tried again, and then it joins a later batch (B3). If the number of answers is not that of the records, each
    /// record has failed with [`Failure::WrongAnswers`]. The answer for a record that has left its batch has no effect (T5).
    ///
    /// [`Completion::Late`] says that no such batch is running, [`Completion::Final`] that a failure has ended the job,
    /// [`Completion::Outcome`] that some record has its outcome, and [`Completion::Retry`] that none has.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use inflight_core::{AsyncWait, BatchSize, Completion, Failure, Instant, StreamElement};
    ///
    /// let policy = AsyncWait::unordered(64).batch(BatchSize::records(10));
    /// let mut op = policy.build_core::<u32, u32, &str>().unwrap();
    /// let now = Instant::ZERO;
    /// op.push(now, StreamElement::value(1)).unwrap();
    /// op.push(now, StreamElement::value(2)).unwrap();
    /// let id = op.poll_batch(now).unwrap().id();
    /// let answers = [Ok(10), Err(Failure::Error("no such row"))];
    /// assert_eq!(op.handle_batch_completion(now, id, answers), Completion::Outcome);
    /// # }
    /// ```
    pub fn handle_batch_completion<A>(
        &mut self,
        now: Instant,
        id: BatchId,
        answers: A,
    ) -> Completion
    where
        A: IntoIterator<Item = ResultOf<C>, IntoIter: ExactSizeIterator>,
    {
        let Some(size) = self.begin_batch_end(now, id) else { return Completion::Late };
        let mut answers = answers.into_iter();
        let is_complete = answers.len() == size as usize;
        self.end_batch(id, size, || {
            let answer = answers.next().filter(|_| is_complete);
            answer.unwrap_or(Err(Failure::WrongAnswers))
        })
    }

    /// A batch has failed as a whole: each of its records has failed with a clone of `failure`, and goes on as after an answer of its
    /// own.
    pub fn handle_batch_failure(
        &mut self,
        now: Instant,
        id: BatchId,
        failure: Failure<C::Error>,
    ) -> Completion
    where
        C::Error: Clone,
    {
        let Some(size) = self.begin_batch_end(now, id) else { return Completion::Late };
        self.end_batch(id, size, || Err(failure.clone()))
    }

    /// A batch whose last record has just [expired](Self::expire): it is over, and its request should be cancelled (T3). Ask for it after
    /// each record that expires.
    ///
    /// ```
    /// # #[cfg(feature = "alloc")] {
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, BatchSize, Instant, StreamElement};
    ///
    /// let policy = AsyncWait::ordered(4).timeout(Duration::from_secs(1)).batch(BatchSize::records(2));
    /// let mut op = policy.build_core::<u32, u32, ()>().unwrap();
    /// op.push(Instant::ZERO, StreamElement::value(20)).unwrap();
    /// let id = op.poll_batch(Instant::ZERO).unwrap().id();
    ///
    /// let late = op.poll_deadline().unwrap();
    /// while let Some(expired) = op.handle_deadline(late) {
    ///     if let Some(batch) = op.take_abandoned_batch() {
    ///         assert_eq!(batch, id); // cancel its request
    ///     }
    /// }
    /// # }
    /// ```
    pub fn take_abandoned_batch(&mut self) -> Option<BatchId> {
        self.batches.get_mut()?.abandoned.take()
    }
}

/// The batch that forms.
impl<C: Call, S: Storage> Operator<C, S> {
    fn forming(&self) -> FormingBatch {
        self.batches.get().map_or(FormingBatch::EMPTY, |batches| batches.queue.forming)
    }

    /// A record joins the queue of attempts to start.
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn enqueue(&mut self, slot: u32) {
        if C::Extras::BATCHES {
            self.join_forming(slot);
        }
        self.to_start.push_back(self.records.slots(), slot);
    }

    fn join_forming(&mut self, slot: u32) {
        let record = self.records.at(slot);
        let is_cut_off = !self.order.is_last_segment(record.segment);
        let weight = weight_of::<C>(&self.extras, record);
        let limits = self.extras.batch_limits();
        let Some(batches) = self.batches.get_mut() else { return };
        batches.queue.forming.join(weight, limits.records, limits.weight);
        batches.queue.waiting += 1;
        if is_cut_off {
            batches.queue.cut_off = batches.queue.waiting;
        }
    }

    /// A batch of so many records has left the front of the queue: the records behind it make the next one.
    fn form_next(&mut self, gone: usize) {
        let limits = self.extras.batch_limits();
        let mut forming = FormingBatch::EMPTY;
        let mut next = self.to_start.first();
        while let Some(slot) = next
            && !forming.is_full
        {
            let record = &self.records.all()[slot as usize];
            let weight = weight_of::<C>(&self.extras, record);
            forming.join(weight, limits.records, limits.weight);
            next = (record.next != NONE).then_some(record.next);
        }
        let Some(batches) = self.batches.get_mut() else { return };
        batches.queue.forming = forming;
        batches.queue.waiting -= gone;
        batches.queue.cut_off = batches.queue.cut_off.saturating_sub(gone);
    }

    /// A control element has come, and waits for no batch to fill (B2).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub(super) fn cut_off_batch(&mut self) {
        if let Some(batches) = self.batches.get_mut() {
            batches.queue.cut_off = batches.queue.waiting;
        }
    }

    /// No attempt waits any more, and no batch runs.
    pub(super) fn clear_attempts(&mut self) {
        self.to_start = List::EMPTY;
        if let Some(batches) = self.batches.get_mut() {
            batches.clear();
        }
    }

    /// Whether the batch that forms waits for no more records.
    pub(super) fn is_batch_due(&self) -> bool {
        let Some(batches) = self.batches.get() else { return false };
        let queue = &batches.queue;
        queue.waiting > 0
            && (self.is_batch_full()
                || queue.cut_off > 0
                || self.is_window_stuck()
                || self.fills_until() <= self.now)
    }

    /// The instant until which the batch that forms waits for more records.
    fn fills_until(&self) -> Instant {
        let first = self.to_start.first().and_then(|slot| self.records.all().get(slot as usize));
        let since = first.map_or(self.now, Record::started); // of a record that waits: since when it does
        since.plus(self.extras.batch_limits().within)
    }

    /// Whether the rate allows the batch that forms now.
    pub(super) fn is_batch_ready(&self) -> bool {
        !C::Extras::THROTTLES || self.batch_ready_at().is_none_or(|at| at <= self.now)
    }

    fn batch_ready_at(&self) -> Option<Instant> {
        let size = self.next_batch_size();
        self.extras.ready_at(Inputs::of(self.records.all(), self.to_start, size))
    }

    /// The records of the batch that forms, as far as a rate's burst can pay them.
    fn next_batch_size(&self) -> usize {
        let records = self.forming().records;
        if !C::Extras::THROTTLES || records == 0 {
            return records;
        }
        let inputs = Inputs::of(self.records.all(), self.to_start, records);
        self.extras.most_at_once(inputs).min(records)
    }

    /// Whether no record is taken in before a batch has gone: the input is over, or the window is full and nothing is about to leave it.
    fn is_window_stuck(&self) -> bool {
        if self.takes_record() {
            return false;
        }
        let leaves =
            self.counters.running > 0 || self.has_output() || self.limits.undelivered() > 0;
        self.is_finished() || !leaves
    }

    /// Whether no further record can join the batch that forms.
    fn is_batch_full(&self) -> bool {
        let forming = self.forming();
        forming.is_full || self.next_batch_size() < forming.records
    }

    /// The next instant at which a batch may start that may not start now, although there is no pause and fewer run than may.
    pub(super) fn batch_deadline(&self) -> Option<Instant> {
        if self.forming().records == 0 {
            return None;
        }
        let is_filled = (!self.is_batch_due()).then(|| self.fills_until());
        let is_ready = if C::Extras::THROTTLES { self.batch_ready_at() } else { None };
        is_filled.max(is_ready).filter(|at| *at > self.now) // `None` is less than every instant
    }
}

/// The batches that run.
impl<C: Call, S: Storage> Operator<C, S> {
    fn begin_batch_end(&mut self, now: Instant, id: BatchId) -> Option<u32> {
        self.advance(now);
        let size = self.batches.get_mut().and_then(|batches| batches.begin_end(id));
        if size.is_none() {
            self.counters.late += 1;
        }
        size
    }

    /// Hands the answers of a batch to its records, in their order.
    fn end_batch(
        &mut self,
        id: BatchId,
        size: u32,
        mut answer: impl FnMut() -> ResultOf<C>,
    ) -> Completion {
        let (mut completion, mut has_failed) = (Completion::Retry, true);
        for position in 0..size {
            let result = answer();
            has_failed &= result.is_err();
            if let Err(failure) = &result {
                self.extras.record_failed(failure);
            }
            if position + 1 == size {
                self.note_batch_end(id, result.as_ref().err().filter(|_| has_failed));
            }
            let Some(slot) = self.member_at(id, position) else {
                self.counters.late += 1;
                continue;
            };
            match self.end_attempt(slot, result) {
                Completion::Final => return Completion::Final,
                Completion::Outcome => completion = Completion::Outcome,
                Completion::Retry | Completion::Late => {}
            }
        }
        if let Some(batches) = self.batches.get_mut() {
            batches.end(id.number);
        }
        completion
    }

    /// The member at this position, if it has not left. All before it have.
    fn member_at(&self, id: BatchId, position: u32) -> Option<u32> {
        let batches = self.batches.get()?;
        let first = batches.first(id.number);
        let (at, _) = batches.place(first)?;
        (at == position).then_some(first)
    }

    /// The attempt of a record in a batch ends with this result: the record leaves the batch.
    pub(super) fn leave_batch(&mut self, slot: u32, result: &ResultOf<C>) {
        let failure = result.as_ref().err();
        let left = self.batches.get_mut().and_then(|batches| batches.leave(slot));
        if let Some(left) = left.filter(|left| left.is_abandoned) {
            self.note_batch_end(left.id, failure);
            if let Some(batches) = self.batches.get_mut() {
                batches.end(left.id.number);
                batches.abandoned = Some(left.id);
            }
        }
        if let Some(failure) = failure {
            self.hold_back(failure);
        }
    }

    /// A batch ends: with a failure if each of its records has failed. It counts as running still.
    fn note_batch_end(&mut self, id: BatchId, failure: Option<&Failure<C::Error>>) {
        if C::Extras::THROTTLES
            && let Some(batches) = self.batches.get()
        {
            let started = batches.started(id.number).unwrap_or(self.now);
            let latency = Duration::from(self.now.since(started));
            self.extras.ended(latency, batches.running(), failure);
        }
    }
}

fn weight_of<C: Call>(extras: &C::Extras, record: &Record<C>) -> u64 {
    record.input.as_ref().map_or(0, |input| extras.batch_weight_of(input))
}

/// The inputs at the front of the queue of attempts to start.
struct Inputs<'a, C: Call> {
    records: &'a [Record<C>],
    next: Option<u32>,
    left: usize,
}

impl<'a, C: Call> Inputs<'a, C> {
    fn of(records: &'a [Record<C>], queue: List, count: usize) -> Self {
        Self { records, next: queue.first(), left: count }
    }
}

impl<C: Call> Clone for Inputs<'_, C> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<'a, C: Call> Iterator for Inputs<'a, C> {
    type Item = &'a C::Input;

    fn next(&mut self) -> Option<&'a C::Input> {
        self.left = self.left.checked_sub(1)?;
        let record = self.records.get(self.next? as usize)?;
        self.next = Some(record.next);
        record.input.as_ref()
    }
}

impl<C: Call, S: Storage> BatchRecords<C::Input> for Operator<C, S> {
    fn record(&self, slot: u32) -> Option<(Attempt<'_, C::Input>, u32)> {
        let (_, next) = self.batches.get()?.place(slot)?;
        Some((self.running_attempt(slot)?, next))
    }
}
