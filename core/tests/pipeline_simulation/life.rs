//! One process: from the last checkpoint to the end, or to its death. Or two, if the first is frozen.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use inflight_core::pipeline::{self, Ended, Pipeline, PipelineError, Report};
use inflight_core::{Checkpoint, Tracked};

use crate::executor::{Stopped, Virtual};
use crate::plan::{Event, Keeps};
use crate::process::Process;
use crate::sinks::Sink;
use crate::source::Source;
use crate::stages::{all_stages, positions_stage, records_stage};
use crate::store::Store;
use crate::world::{Refused, World};

type Result_ = Result<Ended, PipelineError<Refused, Refused, Refused>>;

/// Lives one life. True if the job is done.
pub(crate) fn live(world: &Rc<World>) -> Result<bool, String> {
    let life = Life::start(world);
    match life.run()? {
        Stopped::Ended(ended) => life.judge(ended),
        Stopped::Dead => Ok(false),
        Stopped::Frozen => take_over(world, &life),
    }
}

/// A second owner works on the job while the first is frozen. Then the first goes on (K15): after the end of the second, or while
/// that one is frozen.
fn take_over(world: &Rc<World>, first: &Life) -> Result<bool, String> {
    let event = match world.below(3) {
        0 => None,
        1 => Some((1 + world.below(40) as u64, Event::Crash)),
        _ => Some((1 + world.below(60) as u64, Event::Freeze)),
    };
    world.only(event);
    world.has_frozen(true);
    let second = Life::start(world);
    let (is_frozen, mut is_done) = match second.run()? {
        Stopped::Ended(ended) => (false, second.judge(ended)?),
        Stopped::Dead => (false, false),
        Stopped::Frozen => (true, false),
    };
    world.only(None);
    let first_is_done = first.go_on()?;
    if is_frozen {
        is_done = second.go_on()?;
    }
    world.has_frozen(false);
    // An owner that has begun afterwards may have left something half done.
    let owners = world.media.borrow().owners;
    Ok(first_is_done && first.process.owner.get() == owners
        || is_done && second.process.owner.get() == owners)
}

struct Life {
    process: Rc<Process>,
    result: Rc<RefCell<Option<Result_>>>,
}

impl Life {
    fn start(world: &Rc<World>) -> Self {
        let runtime = Virtual::new();
        let process = Process::new(world, &runtime);
        let job = job(&process);
        end_some_time(&process);
        Self { result: runtime.start(job), process }
    }

    fn run(&self) -> Result<Stopped<Result_>, String> {
        let stopped = self.process.runtime.run(&self.process, &self.result);
        if !matches!(stopped, Ok(Stopped::Frozen)) {
            self.process.runtime.drop_all();
        }
        let stopped = stopped?;
        self.process.world.check_promises()?;
        Ok(stopped)
    }

    /// The process was frozen. True if the job is done.
    fn go_on(&self) -> Result<bool, String> {
        self.process.thaw();
        match self.run()? {
            Stopped::Ended(ended) => self.judge(ended),
            Stopped::Dead => Ok(false),
            Stopped::Frozen => Err("nothing freezes it again".into()),
        }
    }

    /// Whether the job is done, and whether it was right to end like this.
    fn judge(&self, ended: Result_) -> Result<bool, String> {
        let process = &self.process;
        if process.is_fenced.get() {
            return match ended {
                Err(
                    PipelineError::Save(Refused::Fenced) | PipelineError::Sink(Refused::Fenced),
                ) => Ok(false),
                ended => Err(format!("K15: a fenced owner ends with {ended:?}")),
            };
        }
        match ended {
            Ok(Ended::Finished) => Ok(true),
            Ok(Ended::Stopped) => Ok(false),
            Ok(Ended::HandedOver) if process.is_handed_over() => Ok(false),
            // A planned failure, after which the job runs again.
            Err(
                PipelineError::Sink(_)
                | PipelineError::Source(_)
                | PipelineError::Open(_)
                | PipelineError::Load(_)
                | PipelineError::Save(_),
            ) => Ok(false),
            Err(PipelineError::EndedEarly | PipelineError::BarrierLost)
                if process.is_hurt.get() =>
            {
                Ok(false)
            }
            // K14: there is something in flight that only the other mode can go on with.
            Err(PipelineError::NotRestored { .. })
                if process.keeps == Keeps::Positions && !is_drained(&process.world) =>
            {
                process.world.keep_records_next();
                Ok(false)
            }
            ended => Err(format!("it ends with {ended:?}")),
        }
    }
}

/// Whether the latest checkpoint is one behind which nothing is in flight.
fn is_drained(world: &World) -> bool {
    let media = world.media.borrow();
    let latest = media.slots.iter().rev().find(|slot| slot.is_intact());
    latest.is_some_and(|slot| {
        let checkpoint = Checkpoint::from_bytes(&slot.bytes).expect("it is intact");
        matches!(pipeline::ended(&checkpoint), Some(Ended::Stopped | Ended::Finished))
    })
}

/// Asks the pipeline to end, or for a checkpoint, as the plan says.
fn end_some_time(process: &Rc<Process>) {
    let end_at = process.plan().end_at.filter(|(at, _)| process.world.steps() < *at);
    if let Some((at, how)) = end_at {
        let process = Rc::clone(process);
        let sleep = process.runtime.sleep(at as i64 * 500_000);
        process.runtime.clone().detach(async move {
            sleep.await;
            process.meet(how);
        });
    }
}

fn job(process: &Rc<Process>) -> Pin<Box<dyn Future<Output = Result_>>> {
    let (plan, runtime) = (*process.plan(), process.runtime.clone());
    let owned = || Rc::clone(process);
    let source = Source { process: owned(), position: Default::default(), wait: None };
    let mut pipeline = Pipeline::new(source, Sink::new(process), Store { process: owned() });
    pipeline = pipeline.min_pause(plan.pause);
    if let Some(interval) = plan.interval {
        pipeline = pipeline.interval(interval);
    }
    if let Some(every) = plan.every {
        pipeline = pipeline.every_records(every);
    }
    if plan.drains {
        pipeline = pipeline.draining(plan.drain_limit);
    }
    let (told, of_stages) = (owned(), owned());
    let pipeline = pipeline.on_report(move |report| {
        if let Report::Failed { .. } = report {
            told.fails();
        }
    });
    process.has_handle(pipeline.stop_handle());
    match process.keeps {
        Keeps::Positions => {
            Box::pin(pipeline.run_positions_only(runtime, move |elements, recovery| {
                all_stages::<Tracked<u32>>(
                    &of_stages,
                    Box::pin(elements),
                    recovery,
                    positions_stage,
                )
            }))
        }
        _ => Box::pin(pipeline.run(runtime, move |elements, recovery| {
            all_stages::<u32>(&of_stages, Box::pin(elements), recovery, records_stage)
        })),
    }
}
