//! The consumer of a stream, from the stage's start until nothing of the stage is left.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::thread;
use std::time::Duration;

use futures::future::{Either, select};
use inflight::StageHandle;
use inflight::prelude::StreamElement;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::elsewhere;
use super::judge::Judge;
use super::plan::{Habit, Plan, Stall};
use super::runtimes;
use super::source::{Source, elements};
use super::tally::Tally;
use super::whole::{self, Done, Whole};

/// A stream with its metrics, and with the handle of its stage if that has a task of its own.
#[derive(Clone)]
pub struct Stream {
    pub tally: Arc<Tally>,
    pub handle: Option<StageHandle>,
}

/// The way in which the consumer has left its stage.
enum Left {
    AtItsEnd,
    Early,
    Panicked(Box<dyn Any + Send>),
}

/// Runs a stream. Passes it to `watch` when it has begun, and returns when nothing of it is alive.
pub async fn run(plan: Plan, watch: impl FnOnce(Stream)) -> Arc<Tally> {
    let tally = Arc::new(Tally::new(plan));
    let (elements, controls) = elements(&tally);
    let cut = tally.when_cut();
    let stage = whole::start(&tally, Source::new(&tally, elements));
    watch(Stream { tally: Arc::clone(&tally), handle: stage.handle() });
    let consumer = consume(stage, Judge::new(&tally, controls));
    let left = match select(pin!(consumer), cut).await {
        Either::Left((left, _)) => left,
        Either::Right(_) => Left::Early,
    };
    check_leaving(&tally, left);
    // L2: if anything stays alive, the watchdog sees that nothing happens any more.
    for turn in 0.. {
        if tally.alive() == 0 {
            break;
        }
        match turn {
            0..10 => runtimes::yield_now(tally.plan.on).await,
            _ => runtimes::sleep(tally.plan.on, Duration::from_micros(100)).await,
        }
    }
    tally.check_request_ids();
    tally
}

/// F3: a panic in place reaches the consumer as a panic, and nothing else does.
fn check_leaving(tally: &Tally, left: Left) {
    let plan = &tally.plan;
    let number = plan.panics.filter(|_| !plan.contains_panics());
    let has_panicked = number.is_some_and(|number| tally.attempts_of(number) > 0);
    match left {
        Left::AtItsEnd if has_panicked => tally.wrong("F3: a panic looks like the end"),
        Left::Panicked(payload) if !has_panicked => {
            let said = payload.downcast_ref::<&str>();
            tally.wrong(format!("F3: nothing panicked, and the stage says {said:?}"));
        }
        _ => {}
    }
}

async fn consume(mut stage: Box<dyn Whole>, mut judge: Judge) -> Left {
    let stage = &mut *stage;
    let tally = Arc::clone(judge.tally());
    let mut steering = Steering::of(&tally.plan);
    for turn in 1.. {
        if let Habit::Leaves { after } = tally.plan.habit
            && judge.records() == after
        {
            return Left::Early;
        }
        steering.act(stage, judge.records(), turn);
        stall(&tally.plan, turn).await;
        let element = match tally.plan.habit {
            Habit::GivesUp => next_impatiently(stage, &tally).await,
            _ => next(stage).await,
        };
        match element {
            Ok(Some(element)) => judge.see(element),
            Ok(None) => {
                judge.see_end(stage);
                return Left::AtItsEnd;
            }
            Err(payload) => return Left::Panicked(payload),
        }
        tally.steps.fetch_add(1, SeqCst);
    }
    unreachable!("a stream has an end");
}

type Item = Result<Option<StreamElement<Done>>, Box<dyn Any + Send>>;

/// The next element, or the panic.
fn next(stage: &mut dyn Whole) -> impl Future<Output = Item> + Send {
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| stage.poll_element(cx)));
        match polled {
            Ok(polled) => polled.map(Ok),
            Err(payload) => std::task::Poll::Ready(Err(payload)),
        }
    })
}

/// Drops a pending `next` and calls it again, as soon as the runtime comes back to this task.
async fn next_impatiently(stage: &mut dyn Whole, tally: &Tally) -> Item {
    loop {
        let otherwise = pin!(runtimes::yield_now(tally.plan.on));
        if let Either::Left((item, _)) = select(pin!(next(stage)), otherwise).await {
            return item;
        }
        runtimes::sleep(tally.plan.on, Duration::from_micros(50)).await;
    }
}

/// The consumer's actions between two elements.
async fn stall(plan: &Plan, turn: u32) {
    match plan.habit {
        Habit::Stalls { every, stall } if turn.is_multiple_of(every) => match stall {
            Stall::Yield => runtimes::yield_now(plan.on).await,
            Stall::Sleep(time) => runtimes::sleep(plan.on, time).await,
            Stall::Block(time) => thread::sleep(time),
        },
        _ => {}
    }
}

/// The consumer's commands to the stage.
struct Steering {
    habit: Habit,
    max_capacity: usize,
    random: StdRng,
    is_stopped: bool,
}

impl Steering {
    fn of(plan: &Plan) -> Self {
        let random = StdRng::seed_from_u64(plan.seed.rotate_left(32));
        Self { habit: plan.habit, max_capacity: plan.max_capacity, random, is_stopped: false }
    }

    fn act(&mut self, stage: &mut dyn Whole, received: u32, turn: u32) {
        match self.habit {
            Habit::Steers { every, elsewhere } if turn.is_multiple_of(every) => {
                let [capacity, running] =
                    [(); 2].map(|()| self.random.random_range(1..=self.max_capacity));
                let pauses = self.random.random_bool(0.5);
                match stage.handle().filter(|_| elsewhere) {
                    Some(handle) => elsewhere::go(move || steer(&handle, capacity, running)),
                    None => {
                        stage.set_capacity(capacity);
                        stage.set_max_running(running);
                    }
                }
                if pauses {
                    pause(stage, elsewhere);
                }
            }
            Habit::Stops { after, within, elsewhere } if received == after && !self.is_stopped => {
                // Once only, because another command would wake the stage as well.
                self.is_stopped = true;
                let within = within.map(Duration::from_millis);
                match stage.handle().filter(|_| elsewhere) {
                    Some(handle) => elsewhere::go(move || stop(&handle, within)),
                    None => stage.stop(within),
                }
            }
            _ => {}
        }
    }
}

fn steer(stage: &StageHandle, capacity: usize, running: usize) {
    stage.set_capacity(capacity).expect("no more than the maximum");
    stage.set_max_running(running).expect("at least one");
}

/// A stage on a task of its own is resumed by another thread. In place, nobody but its consumer could do that.
fn pause(stage: &mut dyn Whole, elsewhere: bool) {
    let Some(handle) = stage.handle() else {
        stage.pause();
        return stage.resume();
    };
    let resumed = handle.clone();
    match elsewhere {
        true => elsewhere::go(move || handle.pause()),
        false => handle.pause(),
    }
    elsewhere::go(move || resumed.resume());
}

pub fn stop(stage: &StageHandle, within: Option<Duration>) {
    match within {
        Some(limit) => stage.stop_within(limit),
        None => stage.stop(),
    }
}
