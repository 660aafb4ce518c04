//! A log with partitions: records come in, and outputs, checkpoint and fence are one transaction.

use std::fmt;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use inflight_core::pipeline::{Output, ReplayableSource, Transaction};
use inflight_core::{CheckpointId, Loaded, Outcome, StreamElement};

use crate::executor::Process;
use crate::plan::Flaw;
use crate::world::World;

pub(crate) type Answer = Outcome<u32, u32, ()>;

/// Records of one key stay in their order.
pub(crate) fn key_of(record: u32) -> u32 {
    record % 3
}

pub(crate) fn answer(record: u32) -> u32 {
    2 * record + 1
}

/// The errors of the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refused {
    /// Another owner has claimed the partition.
    Fenced,
    /// An earlier call was made impossible by a later one.
    Superseded,
    /// No answer came.
    Lost,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

/// What the broker keeps on its disk.
pub(crate) struct Log {
    partitions: Vec<Kept>,
    is_closed: bool,
}

#[derive(Default)]
struct Kept {
    records: Vec<u32>,
    outputs: Vec<Answer>,
    checkpoint: Option<Loaded>,
    /// The number of claims, and how often the last owner has made its earlier commits impossible.
    owner: (u64, u64),
    /// Sources that have reached the end.
    waiting: Vec<Waker>,
}

impl Log {
    pub(crate) fn new(partitions: u16) -> Self {
        Self { partitions: (0..partitions).map(|_| Kept::default()).collect(), is_closed: false }
    }

    pub(crate) fn append(&mut self, partition: u16, record: u32) {
        let kept = self.of(partition);
        kept.records.push(record);
        kept.waiting.drain(..).for_each(Waker::wake);
    }

    /// Nothing more comes.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        self.partitions.iter_mut().for_each(|kept| kept.waiting.drain(..).for_each(Waker::wake));
    }

    fn of(&mut self, partition: u16) -> &mut Kept {
        &mut self.partitions[usize::from(partition)]
    }

    pub(crate) fn check(&self, is_by_key: bool) -> Result<(), String> {
        for (partition, kept) in self.partitions.iter().enumerate() {
            let mut records = kept.records.clone();
            let mut outputs: Vec<_> = kept.outputs.iter().map(|outcome| outcome.input).collect();
            if is_by_key {
                records.sort_by_key(|record| key_of(*record));
                outputs.sort_by_key(|record| key_of(*record));
            }
            if outputs != records {
                return Err(format!("P3: partition {partition} has {outputs:?} of {records:?}"));
            }
            if kept.outputs.iter().any(|outcome| outcome.result != Ok(answer(outcome.input))) {
                return Err(format!("partition {partition} has wrong answers"));
            }
        }
        Ok(())
    }
}

/// A worker's end of a partition: its source.
pub(crate) struct LogSource {
    pub(crate) world: Rc<World>,
    pub(crate) partition: u16,
    pub(crate) next: u64,
}

impl ReplayableSource for LogSource {
    type Record = u32;
    type Position = u64;
    type Error = Refused;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), Refused> {
        self.next = position.unwrap_or(0);
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u32>, Refused>>> {
        let log = &mut *self.world.log.borrow_mut();
        let is_closed = log.is_closed;
        let kept = log.of(self.partition);
        if let Some(record) = kept.records.get(self.next as usize) {
            self.next += 1;
            return Poll::Ready(Some(Ok(StreamElement::value(*record))));
        }
        if is_closed {
            return Poll::Ready(None);
        }
        kept.waiting.push(cx.waker().clone());
        Poll::Pending
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn lag(&self) -> Option<u64> {
        let records = self.world.log.borrow_mut().of(self.partition).records.len() as u64;
        Some(records.saturating_sub(self.next))
    }

    fn acknowledger(&mut self) {}
}

/// A worker's end of a partition: its transaction.
pub(crate) struct LogTransaction {
    pub(crate) world: Rc<World>,
    pub(crate) process: Rc<Process>,
    pub(crate) partition: u16,
    pub(crate) owner: (u64, u64),
}

impl LogTransaction {
    async fn call<T: 'static>(
        &self,
        effect: impl FnOnce(&mut Kept) -> T + 'static,
    ) -> Result<T, Refused> {
        let partition = self.partition;
        self.world.call(&self.process, move |log| effect(log.of(partition))).await
    }

    /// A call that only the owner may make.
    async fn call_of_owner<T: 'static>(
        &self,
        effect: impl FnOnce(&mut Kept) -> T + 'static,
    ) -> Result<T, Refused> {
        let (owner, has_fence) = (self.owner, self.world.plan.flaw != Flaw::NoFence);
        let call = move |kept: &mut Kept| {
            if has_fence && kept.owner.0 != owner.0 {
                return Err(Refused::Fenced);
            }
            if kept.owner > owner && has_fence {
                return Err(Refused::Superseded);
            }
            Ok(effect(kept))
        };
        self.call(call).await?
    }
}

impl Transaction<Answer> for LogTransaction {
    type Error = Refused;

    async fn claim(&mut self) -> Result<Option<Loaded>, Refused> {
        let claim = |kept: &mut Kept| {
            kept.owner = (kept.owner.0 + 1, 0);
            (kept.owner, kept.checkpoint.clone())
        };
        let (owner, checkpoint) = self.call(claim).await?;
        self.owner = owner;
        Ok(checkpoint)
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Answer>],
    ) -> Result<(), Refused> {
        let outputs: Vec<_> = outputs.iter().map(|output| output.value.clone()).collect();
        let loaded = Loaded { id, bytes: checkpoint.to_vec(), damaged: 0 };
        let append = move |kept: &mut Kept| kept.outputs.extend(outputs);
        let replace = move |kept: &mut Kept| kept.checkpoint = Some(loaded);
        match self.world.plan.flaw {
            Flaw::OutputsFirst => {
                self.call_of_owner(append).await?;
                self.call_of_owner(replace).await
            }
            Flaw::AcknowledgesFirst => {
                self.call_of_owner(replace).await?;
                self.call_of_owner(append).await
            }
            _ => {
                let both = |kept: &mut Kept| {
                    append(kept);
                    replace(kept);
                };
                self.call_of_owner(both).await
            }
        }
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, Refused> {
        // A commit that is still on its way is made impossible.
        self.owner.1 += 1;
        let owner = self.owner;
        let decide = move |kept: &mut Kept| {
            kept.owner = kept.owner.max(owner);
            kept.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.id == id)
        };
        self.call_of_owner(decide).await
    }

    fn is_final(&self, error: &Refused) -> bool {
        *error == Refused::Fenced
    }
}
