//! A sink and a store from one transaction: each output is committed once and in order, whatever commits fail, answers are lost
//! or lives are cut off, and only by the owner of the job.

#![cfg(all(feature = "alloc", feature = "checkpoint"))]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inflight_core::pipeline::{
    Ended, MemorySource, MemoryTransaction, Output, Pipeline, SinkHalf, SinkHalfError, StoreHalf,
    StoreHalfError, Transaction, TransactionalSink, one_transaction,
};
use inflight_core::{
    AsyncWait, AsyncWaitExt, CheckpointId, CheckpointStore, Instant, Loaded, NoRuntime, Outcome,
    Runtime, Timer, Timestamp,
};

/// What goes wrong in a call of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Fine,
    /// The call has no effect, and fails.
    Refused,
    /// The call has its effect, and fails.
    AnswerLost,
    /// The call has its effect, and never ends.
    Hangs,
}
use Fault::*;

#[derive(Debug, PartialEq, Eq)]
enum TestError {
    Passing,
    Fenced,
}

impl fmt::Display for TestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for TestError {}

/// Faults for the calls to come, one for each; after them every call is fine.
type Faults = Rc<RefCell<VecDeque<Fault>>>;

/// A transaction in memory whose calls wait twice, before and after their effect, and whose faults are planned.
struct Faulty<T> {
    memory: MemoryTransaction<T>,
    faults: Faults,
    /// The negative control: the answer is always no.
    forgets: bool,
}

impl<T> Faulty<T> {
    async fn meet<R>(
        &mut self,
        effect: impl AsyncFnOnce(&mut MemoryTransaction<T>) -> R,
    ) -> Result<R, TestError> {
        let fault = self.faults.borrow_mut().pop_front().unwrap_or(Fine);
        once_pending().await;
        if fault == Refused {
            return Err(TestError::Passing);
        }
        let done = effect(&mut self.memory).await;
        once_pending().await;
        match fault {
            Fine | Refused => Ok(done),
            AnswerLost => Err(TestError::Passing),
            Hangs => std::future::pending().await,
        }
    }
}

impl<T: Clone> Transaction<T> for Faulty<T> {
    type Error = TestError;

    async fn claim(&mut self) -> Result<Option<Loaded>, TestError> {
        let claimed = self.meet(async |memory| memory.claim().await).await?;
        claimed.map_err(|_| TestError::Fenced)
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        bytes: &[u8],
        outputs: &[Output<T>],
    ) -> Result<(), TestError> {
        let done = self.meet(async |memory| memory.commit(id, bytes, outputs).await).await?;
        done.map_err(|_| TestError::Fenced)
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, TestError> {
        let answer = self.meet(async |memory| memory.is_committed(id).await).await?;
        answer.map(|answer| answer && !self.forgets).map_err(|_| TestError::Fenced)
    }

    fn is_final(&self, error: &TestError) -> bool {
        *error == TestError::Fenced
    }
}

async fn once_pending() {
    let mut waited = false;
    poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Polls a future so often, or to its end.
fn poll_times<T>(times: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
    (0..times).find_map(|_| match future.as_mut().poll(&mut cx) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    })
}

fn finish<T>(future: impl Future<Output = T>) -> T {
    poll_times(100_000, future).expect("it ends")
}

/// Both halves over one database of numbers.
struct Halves {
    database: MemoryTransaction<u32>,
    faults: Faults,
    sink: SinkHalf<u32>,
    store: StoreHalf<u32, Faulty<u32>>,
}

impl Halves {
    /// They have claimed the job.
    fn claimed() -> Self {
        let mut halves = Self::over(MemoryTransaction::new());
        assert_eq!(finish(halves.store.load_latest()), Ok(None));
        finish(halves.sink.abort(None)).unwrap();
        halves
    }

    fn over(database: MemoryTransaction<u32>) -> Self {
        let faults = Faults::default();
        let memory = database.another_owner();
        let (sink, store) =
            one_transaction(Faulty { memory, faults: Rc::clone(&faults), forgets: false });
        Self { database, faults, sink, store }
    }

    fn plan(&self, faults: &[Fault]) {
        self.faults.borrow_mut().extend(faults);
    }

    fn write(&mut self, values: &[u32]) {
        for value in values {
            finish(self.sink.write(*value, None)).unwrap();
        }
    }

    /// Pre-commits and saves, as a pipeline does.
    fn checkpoint(&mut self, id: u64) -> Result<(), StoreHalfError<TestError>> {
        finish(self.sink.pre_commit(CheckpointId(id))).unwrap();
        finish(self.save(id))
    }

    fn save(&mut self, id: u64) -> impl Future<Output = Result<(), StoreHalfError<TestError>>> {
        self.store.save(CheckpointId(id), b"position")
    }

    #[track_caller]
    fn expect(&self, values: &[u32], id: Option<u64>) {
        let committed: Vec<_> = self.database.committed().iter().map(|out| out.value).collect();
        assert_eq!(committed, values);
        assert_eq!(self.database.latest().map(|latest| latest.id.0), id);
    }
}

const PASSING: Result<(), StoreHalfError<TestError>> =
    Err(StoreHalfError::Transaction(TestError::Passing));
const FENCED: Result<(), StoreHalfError<TestError>> =
    Err(StoreHalfError::Transaction(TestError::Fenced));

// K10: the checkpoint has its outputs with it, with their timestamps and in their order.
#[test]
fn outputs_and_checkpoint_are_committed_together() {
    let mut halves = Halves::claimed();
    halves.write(&[1, 2]);
    finish(halves.sink.write(3, Some(Timestamp::from_millis(7)))).unwrap();
    finish(halves.sink.pre_commit(CheckpointId(1))).unwrap();
    halves.write(&[4]); // belongs to the next checkpoint
    halves.expect(&[], None);
    finish(halves.save(1)).unwrap();
    halves.expect(&[1, 2, 3], Some(1));
    let stamps: Vec<_> = halves.database.committed().iter().map(|out| out.timestamp).collect();
    assert_eq!(stamps, [None, None, Some(Timestamp::from_millis(7))]);
    halves.checkpoint(2).unwrap();
    halves.expect(&[1, 2, 3, 4], Some(2));
}

// K10: the next checkpoint covers the outputs of those that failed, in order.
#[test]
fn a_failed_save_keeps_its_outputs_for_the_next_one() {
    let mut halves = Halves::claimed();
    for (id, value) in (1..).zip([1, 2, 3]) {
        halves.plan(&[Refused]);
        halves.write(&[value]);
        assert_eq!(halves.checkpoint(id), PASSING);
        halves.expect(&[], None);
    }
    halves.write(&[4]);
    halves.checkpoint(4).unwrap();
    halves.expect(&[1, 2, 3, 4], Some(4));
}

// K10: an output that is committed is not committed again.
#[test]
fn a_lost_answer_is_asked_for() {
    let mut halves = Halves::claimed();
    halves.write(&[1]);
    halves.plan(&[AnswerLost]);
    assert_eq!(halves.checkpoint(1), Ok(()));
    halves.expect(&[1], Some(1));

    halves.write(&[2]);
    halves.plan(&[AnswerLost, Refused]); // nor is there an answer to the question
    assert_eq!(halves.checkpoint(2), PASSING);
    halves.write(&[3]);
    halves.plan(&[AnswerLost]); // nor at the next save
    assert_eq!(halves.checkpoint(3), PASSING);
    halves.expect(&[1, 2], Some(2));
    halves.write(&[4]);
    halves.plan(&[Fine, AnswerLost]);
    assert_eq!(halves.checkpoint(4), Ok(()));
    halves.expect(&[1, 2, 3, 4], Some(4));
}

// K10
#[test]
fn a_save_that_is_dropped_half_way_is_asked_for() {
    for fault in [Refused, AnswerLost, Hangs] {
        for polls in 0..6 {
            let mut halves = Halves::claimed();
            halves.write(&[1]);
            finish(halves.sink.pre_commit(CheckpointId(1))).unwrap();
            halves.plan(&[fault]);
            let _ = poll_times(polls, halves.save(1));
            halves.faults.borrow_mut().clear();
            halves.write(&[2]);
            // Without a poll the save has not begun, and its batch is where it was.
            if polls == 0 {
                finish(halves.save(1)).unwrap();
            }
            halves.checkpoint(2).unwrap();
            halves.expect(&[1, 2], Some(2));
        }
    }
}

// K15
#[test]
fn an_owner_that_has_lost_the_job_commits_nothing() {
    let mut first = Halves::claimed();
    first.write(&[1]);
    first.checkpoint(1).unwrap();
    let mut second = Halves::over(first.database.another_owner());
    assert_eq!(finish(second.store.load_latest()).unwrap().unwrap().id, CheckpointId(1));
    first.write(&[2]);
    let refused = first.checkpoint(2);
    assert_eq!(refused, FENCED);
    assert!(first.store.is_final(&refused.unwrap_err()));
    assert_eq!(first.checkpoint(3), FENCED);
    second.write(&[20]);
    second.checkpoint(2).unwrap();
    first.expect(&[1, 20], Some(2));
}

// K15: the question after a lost answer may be the first call to find out.
#[test]
fn an_owner_that_is_fenced_when_it_asks_ends() {
    let mut first = Halves::claimed();
    first.write(&[1]);
    first.plan(&[AnswerLost, Refused]);
    assert_eq!(first.checkpoint(1), PASSING);
    assert!(!first.store.is_final(&StoreHalfError::Transaction(TestError::Passing)));
    finish(Halves::over(first.database.another_owner()).store.load_latest()).unwrap();
    assert_eq!(first.checkpoint(2), FENCED);

    let mut first = Halves::claimed();
    first.plan(&[AnswerLost]);
    first.write(&[1]);
    finish(first.sink.pre_commit(CheckpointId(1))).unwrap();
    let database = first.database.another_owner();
    let mut saving = pin!(first.store.save(CheckpointId(1), b""));
    // The commit has taken place; then another owner claims the job, and then this one asks.
    assert_eq!(poll_times(2, saving.as_mut()), None);
    finish(Halves::over(database).store.load_latest()).unwrap();
    assert_eq!(finish(saving), FENCED);
}

// K12: memory is bounded; the outputs of failed saves count.
#[test]
fn the_sink_is_full_while_too_many_outputs_wait() {
    let mut halves = Halves::claimed();
    halves.sink = halves.sink.limit(3);
    halves.write(&[1, 2]);
    assert!(!halves.sink.is_full());
    halves.plan(&[Refused]);
    assert_eq!(halves.checkpoint(1), PASSING);
    assert!(!halves.sink.is_full());
    halves.write(&[3]);
    assert!(halves.sink.is_full());
    finish(halves.sink.pre_commit(CheckpointId(2))).unwrap();
    assert!(halves.sink.is_full());
    finish(halves.save(2)).unwrap();
    assert!(!halves.sink.is_full());
    halves.expect(&[1, 2, 3], Some(2));
}

// K17: each half without the other is an error, and not a loss.
#[test]
fn a_half_alone_is_refused() {
    let mut halves = Halves::over(MemoryTransaction::new());
    // The pipeline has another store, so nothing was claimed.
    assert_eq!(finish(halves.sink.abort(None)), Err(SinkHalfError::NotClaimed));
    assert_eq!(finish(halves.save(1)), Err(StoreHalfError::NotClaimed));

    let mut halves = Halves::claimed();
    halves.write(&[1]);
    finish(halves.sink.pre_commit(CheckpointId(1))).unwrap();
    halves.write(&[2]);
    for _ in 0..2 {
        let refused = finish(halves.sink.pre_commit(CheckpointId(2)));
        assert_eq!(refused, Err(SinkHalfError::NotSaved));
    }
    finish(halves.save(2)).unwrap();
    halves.expect(&[1], Some(2));
    halves.checkpoint(3).unwrap();
    halves.expect(&[1, 2], Some(3));
}

// K10: if the answer were lost, nobody could tell two commits of one id apart.
#[test]
fn an_id_is_not_committed_twice_with_outputs() {
    let mut halves = Halves::claimed();
    halves.checkpoint(7).unwrap();
    halves.checkpoint(7).unwrap();
    let (id, latest) = (CheckpointId(6), CheckpointId(7));
    assert_eq!(halves.checkpoint(6), Err(StoreHalfError::IdBehind { id, latest }));
    halves.write(&[1]);
    let refused = halves.checkpoint(7);
    assert_eq!(refused, Err(StoreHalfError::IdBehind { id: latest, latest }));
    assert!(!halves.store.is_final(&refused.unwrap_err()));
    halves.expect(&[], Some(7));
    halves.checkpoint(8).unwrap();
    halves.expect(&[1], Some(8));
}

// K10: as after a crash.
#[test]
fn another_life_of_the_same_halves_begins_with_nothing() {
    let mut halves = Halves::claimed();
    halves.write(&[1]);
    halves.checkpoint(1).unwrap();
    halves.write(&[2]);
    halves.plan(&[AnswerLost, Refused]);
    assert_eq!(halves.checkpoint(2), PASSING); // its output is committed
    halves.write(&[3]);
    halves.plan(&[Refused]);
    assert_eq!(halves.checkpoint(3), PASSING);
    halves.write(&[4]);
    finish(halves.sink.pre_commit(CheckpointId(4))).unwrap();
    halves.write(&[5]);

    halves.sink = halves.sink.limit(1);
    assert_eq!(finish(halves.store.load_latest()).unwrap().unwrap().id, CheckpointId(2));
    finish(halves.sink.abort(Some(&()))).unwrap();
    assert!(!halves.sink.is_full());
    halves.write(&[3]);
    halves.checkpoint(3).unwrap();
    halves.expect(&[1, 2, 3], Some(3));
}

/// A runtime whose clock moves a millisecond with each look at it.
#[derive(Clone, Default)]
struct Ticking(Rc<Cell<u64>>);

struct TickingTimer(Ticking, Option<Instant>);

impl Runtime for Ticking {
    type Timer = TickingTimer;

    fn timer(&self) -> Result<TickingTimer, NoRuntime> {
        Ok(TickingTimer(self.clone(), None))
    }
}

impl Timer for TickingTimer {
    fn now(&self) -> Instant {
        let clock = &(self.0).0;
        clock.set(clock.get() + 1);
        Instant::ZERO + Duration::from_millis(clock.get())
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.1 = at;
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let is_due = self.1.is_some_and(|at| self.now() >= at);
        if is_due { Poll::Ready(()) } else { Poll::Pending }
    }
}

type Done = Outcome<u32, u32, ()>;

/// Runs a life of a pipeline for so many polls. Returns true if it ran to its end.
fn life(database: &MemoryTransaction<Done>, faults: &Faults, polls: usize, forgets: bool) -> bool {
    let runtime = Ticking::default();
    let memory = database.another_owner();
    let (sink, store) = one_transaction(Faulty { memory, faults: Rc::clone(faults), forgets });
    let run = Pipeline::new(MemorySource::new(0..20_u32), sink.limit(4), store)
        .every_records(3)
        .interval(Duration::from_millis(1))
        .run(runtime.clone(), |numbers, checkpoint| {
            numbers
                .async_wait(AsyncWait::ordered(4), |n: &u32| {
                    let square = n * n;
                    async move {
                        once_pending().await;
                        ready(Ok::<_, ()>(square)).await
                    }
                })
                .checkpointed("squares", 1)
                .restore(checkpoint)
                .in_place(runtime)
        });
    matches!(poll_times(polls, run), Some(Ok(Ended::Finished)))
}

/// Lives that end after 1, 2, 3... polls, with faults by chance, until one runs to its end.
fn lives(seed: u64, forgets: bool) -> Vec<u32> {
    let (database, mut chance) = (MemoryTransaction::new(), seed);
    let mut draw = move |below: u64| {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % below
    };
    for at in 1.. {
        let faults = (0..12).map(|_| match draw(8) {
            0 => Refused,
            1 => AnswerLost,
            2 if draw(4) == 0 => Hangs,
            _ => Fine,
        });
        let faults = Rc::new(RefCell::new(faults.collect()));
        // Later lives are longer, so that one of them comes to the end.
        if life(&database, &faults, at + draw(20) as usize, forgets) {
            break;
        }
    }
    database.committed().iter().map(|out| out.value.result.unwrap()).collect()
}

// K10
#[test]
fn pipelines_that_die_at_any_step_write_each_output_once() {
    let squares: Vec<_> = (0..20).map(|n| n * n).collect();
    for seed in 0..300 {
        assert_eq!(lives(seed, false), squares, "seed {seed}");
    }
}

// K10: a negative control.
#[test]
fn without_the_question_outputs_are_doubled() {
    let squares: Vec<_> = (0..20).map(|n| n * n).collect();
    assert!((0..300).any(|seed| lives(seed, true) != squares));
}
