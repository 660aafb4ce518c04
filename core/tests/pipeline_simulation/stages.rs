//! The stages of a job, and the adapters behind them.

use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::{
    AsyncFunction, AsyncWait, AsyncWaitExt, AttemptInfo, BatchSize, Checkpointing, Extras, Failure,
    FixedDelay, KeySelector, NoRetry, Outcome, PauseOn, Rate, RateLimit, Recovery, RetryStrategy,
    StartError, StreamElement, Tracked, with_attempt,
};

use crate::batches::batch_service;
use crate::beside::{Beside, Desk};
use crate::executor::Planned;
use crate::model::{answer, key_of, record_of};
use crate::plan::{Drive, Order, Plan};
use crate::process::Process;

pub(crate) type Elements<T> = Pin<Box<dyn Stream<Item = StreamElement<T>>>>;
type Outcomes<V> = Elements<Outcome<V, u32, u32>>;

/// A value on its way, with or without the mark of its record.
pub(crate) trait Carried: Clone + 'static {
    fn value(&self) -> u32;
    fn with(self, value: u32) -> Self;
}

impl Carried for u32 {
    fn value(&self) -> u32 {
        *self
    }

    fn with(self, value: u32) -> Self {
        value
    }
}

impl Carried for Tracked<u32> {
    fn value(&self) -> u32 {
        **self
    }

    fn with(self, value: u32) -> Self {
        Tracked::map(self, |_| value)
    }
}

/// Connects a stage, which is to be driven as the plan says.
type Connect<V> =
    fn(&Rc<Process>, usize, Elements<V>, &Recovery) -> Result<Outcomes<V>, StartError>;

pub(crate) fn all_stages<V: Carried>(
    process: &Rc<Process>,
    elements: Elements<V>,
    recovery: &Recovery,
    connect: Connect<V>,
) -> Result<Elements<V>, StartError> {
    (0..process.plan().stages).try_fold(elements, |elements, stage| {
        let outcomes = connect(process, stage, elements, recovery)?;
        let (process, waiting) = (Rc::clone(process), VecDeque::new());
        Ok(Box::pin(Adapter { outcomes, process, stage, waiting }) as Elements<V>)
    })
}

/// Drives a stage as the plan says.
macro_rules! driven {
    ($process:expr, $stage:expr) => {{
        let (process, stage) = ($process, $stage);
        let runtime = process.runtime.clone();
        let outcomes: Outcomes<_> = match process.plan().drive {
            Drive::OnTask => Box::pin(stage.spawn(runtime)?),
            Drive::InPlace => Box::pin(stage.in_place(runtime)?),
            Drive::Run => {
                let (desk, stage) = (Desk::new(), stage.in_place(runtime)?);
                let (handed_on, clerk) = (desk.clone(), Rc::clone(process));
                let run = stage.run(move |element| {
                    let is_slow = clerk.world.one_in(2);
                    let time = is_slow.then(|| 1 + clerk.world.below(3_000_000) as i64);
                    let busy = time.map(|nanos| clerk.runtime.sleep(nanos));
                    let desk = desk.clone();
                    async move {
                        if let Some(busy) = busy {
                            busy.await;
                        }
                        desk.hand_on(element).await;
                    }
                });
                Box::pin(Beside::new(run, handed_on))
            }
        };
        outcomes
    }};
}

/// The service's answer when it asks for a retry.
pub(crate) const REFUSED: u32 = 99;

/// Connects a stage in each of the orders.
macro_rules! in_order {
    ($process:expr, $value:ty, $stage:ident, $($args:expr),*) => {{
        let capacity = $process.plan().capacity;
        let key: fn(&$value) -> u32 = |value| key_of(value.value());
        match $process.plan().order {
            Order::Ordered if $process.plan().parts.one_per_key => {
                let policy = AsyncWait::ordered(capacity).with_key(key).one_attempt_per_key();
                $stage(policy, $process, $($args),*)
            }
            Order::Ordered => $stage(AsyncWait::ordered(capacity), $process, $($args),*),
            Order::Unordered => $stage(AsyncWait::unordered(capacity), $process, $($args),*),
            Order::ByKey => {
                $stage(AsyncWait::ordered_by_key(capacity, key), $process, $($args),*)
            }
        }
    }};
}

type PauseAfter = Box<dyn Fn(&Failure<u32>) -> Option<Duration>>;
type Throttled<X> = ((X, RateLimit), PauseOn<PauseAfter>);

/// Adds what the plan says of retries, and of what holds requests up.
fn throttled<V, K, X>(
    policy: AsyncWait<NoRetry, K, X>,
    plan: &Plan,
) -> AsyncWait<impl RetryStrategy<V, u32, u32> + use<V, K, X>, K, Throttled<X>> {
    let parts = plan.parts;
    // Where the whole batch fails, a record is refused as often as all that were with it.
    let fail_whole = parts.batches.is_some_and(|batches| batches.fail_whole);
    let most = if fail_whole { 1_000 } else { plan.refusals };
    let retry = FixedDelay::new(Duration::from_millis(1)).max_retries(most);
    let rate = match parts.rate {
        Some(requests) => Rate::per(Duration::from_millis(5), requests).burst(requests),
        None => Rate::per(Duration::from_secs(1), 1_000_000_000),
    };
    let pause = parts.pause.map(Duration::from_millis);
    let pause_after: PauseAfter = Box::new(move |failure| match failure {
        Failure::Error(REFUSED) => pause,
        _ => None,
    });
    let mut policy = policy.retry(retry.when_error(|error: &u32| *error == REFUSED));
    if let Some(running) = parts.max_running {
        policy = policy.max_running(running);
    }
    policy.rate(rate).pause_on(pause_after)
}

/// Connects a stage whose requests are for one record each, or for several, and lets `$finish` complete it.
macro_rules! requested {
    ($process:expr, $stage:expr, $elements:expr, $policy:expr, $built:ident => $finish:expr) => {{
        let policy = throttled($policy, $process.plan());
        match $process.plan().parts.batches {
            None => {
                let $built = $elements.async_wait_with(policy, service($process, $stage));
                $finish
            }
            Some(batches) => {
                let size = BatchSize::records(batches.records);
                let policy = policy.batch(size.within(Duration::from_millis(batches.within)));
                let $built = $elements.async_wait_batch(policy, batch_service($process, $stage));
                $finish
            }
        }
    }};
}

/// Drives a stage that shares the permits of the process, if there are any.
macro_rules! driven_with_permits {
    ($process:expr, $stage:expr) => {{
        let stage = $stage;
        match $process.permits_of_stage() {
            Some(pool) => driven!($process, stage.permits(&pool)),
            None => driven!($process, stage),
        }
    }};
}

const NAMES: [&str; 2] = ["first", "second"];

/// A stage whose records are kept in checkpoints.
pub(crate) fn records_stage(
    process: &Rc<Process>,
    stage: usize,
    elements: Elements<u32>,
    recovery: &Recovery,
) -> Result<Outcomes<u32>, StartError> {
    fn connect<K: KeySelector<u32> + 'static, X: Extras<u32, u32, u32> + 'static>(
        policy: AsyncWait<NoRetry, K, X>,
        process: &Rc<Process>,
        stage: usize,
        elements: Elements<u32>,
        recovery: &Recovery,
    ) -> Result<Outcomes<u32>, StartError> {
        let how = Checkpointing::new(NAMES[stage], 1);
        let how = if process.plan().keeps_results { how.keeping_results() } else { how };
        Ok(requested!(process, stage, elements, policy, stage => {
            driven_with_permits!(process, stage.checkpointed_with(how).restore(recovery))
        }))
    }
    in_order!(process, u32, connect, stage, elements, recovery)
}

/// A stage of which checkpoints hold nothing.
pub(crate) fn positions_stage(
    process: &Rc<Process>,
    stage: usize,
    elements: Elements<Tracked<u32>>,
    recovery: &Recovery,
) -> Result<Outcomes<Tracked<u32>>, StartError> {
    fn connect<K, X>(
        policy: AsyncWait<NoRetry, K, X>,
        process: &Rc<Process>,
        stage: usize,
        elements: Elements<Tracked<u32>>,
        recovery: &Recovery,
    ) -> Result<Outcomes<Tracked<u32>>, StartError>
    where
        K: KeySelector<Tracked<u32>> + 'static,
        X: Extras<Tracked<u32>, u32, u32> + 'static,
    {
        Ok(requested!(process, stage, elements, policy, stage => {
            driven_with_permits!(process, stage.positions_only(recovery))
        }))
    }
    in_order!(process, Tracked<u32>, connect, stage, elements, recovery)
}

/// The service that a stage asks.
fn service<V: Carried>(
    process: &Rc<Process>,
    stage: usize,
) -> impl AsyncFunction<V, Output = u32, Error = u32> + use<V> {
    let process = Rc::clone(process);
    with_attempt(move |record: &V, attempt: AttemptInfo| {
        let (process, value) = (Rc::clone(&process), record.value());
        let plan = *process.plan();
        let copy = plan.clones.then(|| record.clone());
        process.attempts();
        process.world.request(process.keeps, stage, value, attempt.request_id);
        let panics_later = process.world.one_in(2);
        if !panics_later {
            panic_as_planned(&process);
        }
        async move {
            let _copy = copy;
            process.step().await;
            panic_as_planned(&process);
            if plan.stuck == Some(record_of(value)) && !process.world.is_calm() {
                process.stuck.set(process.stuck.get() + 1);
                std::future::pending::<()>().await;
            }
            if plan.has_slow_requests && record_of(value) % 4 == 1 {
                let nanos = 300_000_000 + process.world.below(1_000_000_000) as i64;
                process.runtime.sleep(nanos).await;
            }
            process.attempts();
            if attempt.retry < plan.refusals_of(value) {
                return Err(REFUSED);
            }
            process.answers(value);
            answer(value)
        }
    })
}

pub(crate) fn panic_as_planned(process: &Process) {
    if process.panics.take() {
        process.is_hurt.set(true);
        resume_unwind(Box::new(Planned)); // prints nothing
    }
}

/// Makes values of the outcomes, for the next stage or for the sink. It drops some, and makes two of others.
struct Adapter<V> {
    outcomes: Outcomes<V>,
    process: Rc<Process>,
    stage: usize,
    waiting: VecDeque<StreamElement<V>>,
}

impl<V> Unpin for Adapter<V> {}

impl<V: Carried> Stream for Adapter<V> {
    type Item = StreamElement<V>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(element) = self.waiting.pop_front() {
                if element.is_record() && self.stage + 1 == self.process.plan().stages {
                    self.process.emitted.set(self.process.emitted.get() + 1);
                }
                return Poll::Ready(Some(element));
            }
            match ready!(self.outcomes.as_mut().poll_next(cx)) {
                Some(StreamElement::Record { value: outcome, timestamp }) => {
                    let (Ok(value) | Err(Failure::Error(value))) = outcome.result else {
                        return Poll::Ready(None); // the model has no such outcome
                    };
                    let values = self.process.plan().adapt(self.stage, value);
                    if self.process.plan().drops_a_copy(self.stage, value) {
                        drop(outcome.input.clone());
                    }
                    let Some((last, others)) = values.split_last() else { continue };
                    let mut input = outcome.input;
                    for value in others {
                        let value = input.clone().with(*value);
                        self.waiting.push_back(StreamElement::Record { value, timestamp });
                    }
                    input = input.with(*last);
                    self.waiting.push_back(StreamElement::Record { value: input, timestamp });
                }
                Some(control) => self.waiting.push_back(control.map(|_| unreachable!())),
                None => return Poll::Ready(None),
            }
        }
    }
}
