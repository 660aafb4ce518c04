//! One process: from the last checkpoint to the end, or to its death.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use inflight_core::pipeline::{Ended, Pipeline, PipelineError};
use inflight_core::{
    AsyncWait, AsyncWaitExt, AttemptInfo, Checkpointing, FixedDelay, KeySelector, Outcome,
    Recovery, StartError, StreamElement, with_attempt,
};

use crate::beside::{Beside, Desk};
use crate::executor::Virtual;
use crate::plan::{Drive, Order, Plan, answer, is_refused_first};
use crate::sinks::Sink;
use crate::source::Source;
use crate::store::Store;
use crate::world::{KEYS, World};

type Elements<T> = Pin<Box<dyn Stream<Item = StreamElement<T>>>>;

/// True if the job is done.
pub(crate) fn live(plan: &Plan, world: &Rc<World>) -> Result<bool, String> {
    let runtime = Virtual::new();
    let (w, r) = (|| Rc::clone(world), || runtime.clone());
    let source = Source { world: w(), runtime: r(), position: Default::default(), wait: None };
    let (buffer, open) = (Vec::new(), Vec::new());
    let sink =
        Sink { world: w(), runtime: r(), buffer, open, watermark: None, is_recovering: true };
    let mut pipeline = Pipeline::new(source, sink, Store { world: w(), runtime: r() });
    if let Some(interval) = plan.interval {
        pipeline = pipeline.interval(interval);
    }
    if let Some(every) = plan.every {
        pipeline = pipeline.every_records(every);
    }
    if plan.drains {
        pipeline = pipeline.draining(plan.drain_limit);
    }
    if let Some(at) = plan.stop_at.filter(|at| world.steps() < *at) {
        let (handle, sleep) = (pipeline.stop_handle(), runtime.sleep(at as i64 * 500_000));
        use inflight_core::Spawner;
        // The handle is dropped: nothing waits for it.
        std::mem::forget(runtime.spawn(async move {
            sleep.await;
            handle.drain();
        }));
    }
    let plan = *plan;
    let (world_of_stages, runtime_of_stages) = (w(), r());
    let job = pipeline.run(r(), move |elements, recovery| {
        stages(plan, world_of_stages, runtime_of_stages, Box::pin(elements), recovery)
    });
    let ended = runtime.run(world, job)?;
    world.check_promises()?;
    match ended {
        None | Some(Ok(Ended::Stopped | Ended::HandedOver)) => Ok(false),
        Some(Ok(Ended::Finished)) => Ok(true),
        Some(Ok(ended @ Ended::SourceFailed)) => Err(format!("{ended:?} is an error")),
        // A planned failure, after which the job runs again.
        Some(Err(
            PipelineError::Sink(_)
            | PipelineError::Source(_)
            | PipelineError::Open(_)
            | PipelineError::Load(_)
            | PipelineError::Save(_),
        )) => Ok(false),
        Some(Err(error)) => Err(format!("{error}")),
    }
}

fn stages(
    plan: Plan,
    world: Rc<World>,
    runtime: Virtual,
    elements: Elements<u32>,
    recovery: &Recovery,
) -> Result<Elements<u32>, StartError> {
    let mut elements = elements;
    for name in ["first", "second"].into_iter().take(plan.stages) {
        let (capacity, by) = (plan.capacity, key as fn(&u32) -> u32);
        let (w, r) = (Rc::clone(&world), runtime.clone());
        elements = match plan.order {
            Order::Ordered => {
                stage(plan, w, r, elements, recovery, name, AsyncWait::ordered(capacity))
            }
            Order::Unordered => {
                stage(plan, w, r, elements, recovery, name, AsyncWait::unordered(capacity))
            }
            Order::ByKey => {
                let policy = AsyncWait::ordered_by_key(capacity, by);
                stage(plan, w, r, elements, recovery, name, policy)
            }
        }?;
    }
    Ok(elements)
}

/// The record that a value came from, whichever stages it has passed.
fn key(value: &u32) -> u32 {
    let mut record = *value;
    while record >= 10 {
        record /= 10;
    }
    record % KEYS
}

/// The service's answer when it asks for a retry.
const REFUSED: u32 = 99;

fn stage<K: KeySelector<u32> + 'static>(
    plan: Plan,
    world: Rc<World>,
    runtime: Virtual,
    elements: Elements<u32>,
    recovery: &Recovery,
    name: &'static str,
    policy: AsyncWait<inflight_core::NoRetry, K>,
) -> Result<Elements<u32>, StartError> {
    let retry = FixedDelay::new(Duration::from_millis(1)).max_retries(1);
    let policy = policy.retry(retry.when_error(|error: &u32| *error == REFUSED));
    let (service, clerk) = (runtime.clone(), Rc::clone(&world));
    let function = with_attempt(move |value: &u32, attempt: AttemptInfo| {
        let (value, world, runtime) = (*value, Rc::clone(&world), service.clone());
        let is_stable = name != "first" || attempt.request_id == u64::from(value);
        world.promise(is_stable, "a record's request id is always the same");
        async move {
            world.step(&runtime).await;
            match attempt.retry == 0 && is_refused_first(value) {
                true => Err(REFUSED),
                false => answer(value),
            }
        }
    });
    let how = Checkpointing::new(name, 1);
    let how = if plan.keeps_results { how.keeping_results() } else { how };
    let stage = elements.async_wait_with(policy, function).checkpointed_with(how);
    let stage = stage.restore(recovery);
    Ok(match plan.drive {
        Drive::OnTask => Box::pin(Values(Box::pin(stage.spawn(runtime)?))),
        Drive::InPlace => Box::pin(Values(Box::pin(stage.in_place(runtime)?))),
        Drive::Run => {
            let (desk, stage) = (Desk::new(), stage.in_place(runtime.clone())?);
            let handed_on = desk.clone();
            let run = stage.run(move |element| {
                let time = clerk.one_in(2).then(|| 1 + clerk.below(3_000_000) as i64);
                let (desk, busy) = (desk.clone(), time.map(|nanos| runtime.sleep(nanos)));
                async move {
                    if let Some(busy) = busy {
                        busy.await;
                    }
                    desk.hand_on(element).await;
                }
            });
            Box::pin(Values(Box::pin(Beside::new(run, handed_on))))
        }
    })
}

/// Converts outcomes for the next stage, or for the sink.
struct Values(Elements<Outcome<u32, u32, u32>>);

impl Stream for Values {
    type Item = StreamElement<u32>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx).map(|element| {
            element.map(|element| {
                element.map(|outcome| match outcome.result {
                    Ok(value) => value,
                    Err(inflight_core::Failure::Error(error)) => error,
                    Err(_) => u32::MAX,
                })
            })
        })
    }
}
