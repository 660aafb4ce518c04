//! A whole stage, for each way to run it and each runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::Stream;
use inflight::prelude::*;
use inflight::{
    BatchSize, Elements, Heap, Job, JoinError, KeyBy, Order, Permits, Rate, StreamKind, Timer,
    Values,
};

use super::batches::InBatches;
use super::consumer::stop;
use super::plan::{Batches, On, Plan, Way};
use super::runtimes::EXECUTOR;
use super::service::{Answer, Refused, Service};
use super::source::{Record, Source};
use super::tally::Tally;

pub type Done = Outcome<Record, Answer, Refused>;
type Policy = AsyncWait<FixedDelay, KeyBy<fn(&Record) -> u8>>;
type StageEnd<'a> = Option<Result<(), &'a StageError<Refused>>>;

/// The consumer's view of a stage.
pub trait Whole: Send {
    fn poll_element(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamElement<Done>>>;
    fn set_capacity(&mut self, capacity: usize);
    fn set_max_running(&mut self, attempts: usize);
    fn pause(&mut self);
    fn resume(&mut self);
    fn stop(&mut self, within: Option<Duration>);
    fn metrics(&self) -> Metrics;
    fn end(&self) -> StageEnd<'_>;
    /// The handle, if the stage has a task of its own.
    fn handle(&self) -> Option<StageHandle>;
}

/// The permits that streams of all lanes share, if their plans say so.
pub static POOL: LazyLock<Permits> = LazyLock::new(|| Permits::new(3).expect("it makes sense"));

/// Starts the stage of a plan.
pub fn start(tally: &Arc<Tally>, source: Source) -> Box<dyn Whole> {
    macro_rules! driven {
        ($unstarted:expr, $runtime:expr) => {{
            let unstarted = $unstarted;
            let unstarted = match tally.plan.has_permits {
                true => unstarted.permits(&POOL),
                false => unstarted,
            };
            match tally.plan.way {
                Way::Stage => Box::new(unstarted.spawn($runtime).unwrap()) as Box<dyn Whole>,
                Way::Requests => {
                    let stage = unstarted.spawn_requests($runtime).in_place($runtime);
                    Box::new(Box::pin(stage.unwrap()))
                }
                _ => Box::new(unstarted.spawn_requests($runtime).spawn($runtime).unwrap()),
            }
        }};
    }
    macro_rules! start {
        ($source:expr, $runtime:expr) => {{
            let (policy, source) = (policy(&tally.plan), $source);
            if let Way::Instances(count) = tally.plan.way {
                let instances = Instances::on($runtime, count);
                let instances =
                    if tally.plan.seed % 3 == 0 { instances.spread() } else { instances };
                let stage = source.async_wait_parallel(instances, policy, |_| Service::new(tally));
                return Box::new(stage.spawn($runtime).unwrap());
            }
            let service = Service::new(tally);
            match (tally.plan.batches, tally.plan.rate) {
                (None, None) => driven!(source.async_wait_with(policy, service), $runtime),
                (None, Some(rate)) => {
                    driven!(source.async_wait_with(policy.rate(rate), service), $runtime)
                }
                (Some(Batches { records, within }), rate) => {
                    let rate = rate.unwrap_or(Rate::per(Duration::from_secs(1), 1_000_000_000));
                    let size = BatchSize::records(records).within(within);
                    let policy = policy.rate(rate).batch(size);
                    driven!(source.async_wait_batch(policy, InBatches(service)), $runtime)
                }
            }
        }};
    }
    match (tally.plan.on, tally.plan.has_elements()) {
        (On::Tokio { .. }, true) => start!(source, Tokio),
        (On::Tokio { .. }, false) => start!(source.plain(), Tokio),
        (On::Smol { .. }, true) => start!(source, Smol(&EXECUTOR)),
        (On::Smol { .. }, false) => start!(source.plain(), Smol(&EXECUTOR)),
    }
}

fn policy(plan: &Plan) -> Policy {
    let key: fn(&Record) -> u8 = Record::key;
    let policy = match plan.order {
        Order::Ordered => AsyncWait::ordered(plan.capacity).with_key(key),
        Order::Unordered => AsyncWait::unordered(plan.capacity).with_key(key),
        Order::ByKeyOverlapping => AsyncWait::ordered_by_key(plan.capacity, key).overlapping(),
        Order::ByKey => AsyncWait::ordered_by_key(plan.capacity, key),
        order => unreachable!("no plan has {order:?}"),
    };
    let retry = FixedDelay::new(plan.backoff).max_retries(plan.retries);
    let mut policy = policy.retry(retry).max_capacity(plan.max_capacity);
    if let Some(attempts) = plan.max_running {
        policy = policy.max_running(attempts);
    }
    if let Some(timeout) = plan.timeout {
        policy = policy.timeout(timeout);
    }
    if let Some(timeout) = plan.attempt_timeout {
        policy = policy.attempt_timeout(timeout);
    }
    policy
}

/// Converts plain outcomes into elements.
pub trait Outcomes: StreamKind {
    fn element(item: Self::Item<Done>) -> StreamElement<Done>;
}

impl Outcomes for Values {
    fn element(item: Done) -> StreamElement<Done> {
        StreamElement::value(item)
    }
}

impl Outcomes for Elements {
    fn element(item: StreamElement<Done>) -> StreamElement<Done> {
        item
    }
}

impl<M, H> Whole for SpawnedStage<Done, Refused, M, H>
where
    M: Outcomes,
    M::Item<Done>: Send,
    H: Future<Output = Result<Result<(), StageError<Refused>>, JoinError>> + Unpin + Send,
{
    fn poll_element(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamElement<Done>>> {
        Pin::new(self).poll_next(cx).map(|item| item.map(M::element))
    }

    fn set_capacity(&mut self, capacity: usize) {
        SpawnedStage::handle(self).set_capacity(capacity).unwrap();
    }

    fn set_max_running(&mut self, attempts: usize) {
        SpawnedStage::handle(self).set_max_running(attempts).unwrap();
    }

    fn pause(&mut self) {
        SpawnedStage::handle(self).pause();
    }

    fn resume(&mut self) {
        SpawnedStage::handle(self).resume();
    }

    fn stop(&mut self, within: Option<Duration>) {
        stop(&SpawnedStage::handle(self), within);
    }

    fn metrics(&self) -> Metrics {
        SpawnedStage::metrics(self)
    }

    fn end(&self) -> StageEnd<'_> {
        SpawnedStage::end(self)
    }

    fn handle(&self) -> Option<StageHandle> {
        Some(SpawnedStage::handle(self))
    }
}

impl<J, T> Whole for Pin<Box<Stage<J, T, Heap>>>
where
    Stage<J, T, Heap>: Send,
    J: Job<Input = Record, Output = Answer, Error = Refused, Kind: Outcomes>,
    T: Timer,
{
    fn poll_element(&mut self, cx: &mut Context<'_>) -> Poll<Option<StreamElement<Done>>> {
        self.as_mut().poll_next(cx).map(|item| item.map(J::Kind::element))
    }

    fn set_capacity(&mut self, capacity: usize) {
        Stage::set_capacity(self.as_mut(), capacity).unwrap();
    }

    fn set_max_running(&mut self, attempts: usize) {
        Stage::set_max_running(self.as_mut(), attempts).unwrap();
    }

    fn pause(&mut self) {
        Stage::pause(self.as_mut());
    }

    fn resume(&mut self) {
        Stage::resume(self.as_mut());
    }

    fn stop(&mut self, within: Option<Duration>) {
        match within {
            Some(limit) => self.as_mut().stop_within(limit),
            None => Stage::stop(self.as_mut()),
        }
    }

    fn metrics(&self) -> Metrics {
        Stage::metrics(self)
    }

    fn end(&self) -> StageEnd<'_> {
        Stage::end(self)
    }

    fn handle(&self) -> Option<StageHandle> {
        None
    }
}
