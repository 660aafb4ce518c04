//! Small cases in every interleaving: a few records, at most one watermark, one barrier and one crash,
//! and at each point every thing that could happen next.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::features;
use crate::script::{Choice, Script, Step};
use crate::setup::{Delays, Order, Setup, Storage};
use crate::values::End;
use crate::world::World;
use crate::{run, say};

/// A family of cases. The input is every mixture of its records with its control elements.
#[derive(Clone, Copy)]
struct Family {
    name: &'static str,
    records: u32,
    controls: &'static [Step],
    capacity: usize,
    /// An attempt may also fail, once a call.
    fails: bool,
    /// Time may also pass to the next deadline.
    timeout: Option<u64>,
    attempt_timeout: Option<u64>,
    crash: Crash,
    /// Outputs are taken one at a time, and may wait; otherwise all are taken at once.
    waits: bool,
}

/// Whether the process may die once, and with which capacity another one goes on.
#[derive(Clone, Copy)]
enum Crash {
    Never,
    /// After it, too, everything that can happen does.
    ThenEvery(usize),
    /// After it, outcomes come in order as late as possible, or as soon as possible and in reverse.
    ThenTwo(usize),
}

const PLAIN: Family = Family {
    name: "",
    records: 4,
    controls: &[],
    capacity: 4,
    fails: false,
    timeout: None,
    attempt_timeout: None,
    crash: Crash::Never,
    waits: false,
};

const WATERMARK: Step = Step::Watermark(1);
const SNAPSHOT: Step = Step::SnapshotBarrier;
const DRAIN: Step = Step::DrainBarrier { limit: None };

const FAMILIES: &[Family] = &[
    Family {
        name: "a watermark, a barrier, a crash",
        controls: &[WATERMARK, SNAPSHOT],
        crash: Crash::ThenTwo(4),
        ..PLAIN
    },
    Family {
        name: "a watermark, a drain barrier, a crash",
        controls: &[WATERMARK, DRAIN],
        crash: Crash::ThenTwo(2),
        ..PLAIN
    },
    Family {
        name: "a watermark, a barrier, a crash into less capacity, all that may follow",
        records: 3,
        controls: &[WATERMARK, SNAPSHOT],
        crash: Crash::ThenEvery(2),
        ..PLAIN
    },
    Family { name: "a watermark, outputs that wait", controls: &[WATERMARK], waits: true, ..PLAIN },
    Family {
        name: "a watermark, calls that fail",
        records: 3,
        controls: &[WATERMARK],
        fails: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, calls that time out",
        controls: &[WATERMARK],
        timeout: Some(10),
        ..PLAIN
    },
    Family {
        name: "a barrier, a crash, calls and attempts that fail or time out",
        records: 2,
        controls: &[SNAPSHOT],
        fails: true,
        timeout: Some(10),
        attempt_timeout: Some(5),
        crash: Crash::ThenTwo(1),
        ..PLAIN
    },
];

#[test]
fn every_interleaving_of_small_cases() {
    for family in FAMILIES {
        let orders: &[_] = if features::BY_KEY {
            &[Order::Ordered, Order::Unordered, Order::KeyAlone, Order::KeyOverlapping]
        } else {
            &[Order::Ordered, Order::Unordered]
        };
        let jobs: Vec<_> = orders
            .iter()
            .flat_map(|order| mixtures(family).into_iter().map(|input| (*order, input)))
            .collect();
        let (next, count) = (AtomicUsize::new(0), AtomicU64::new(0));
        let worker = || {
            while let Some((order, input)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                count.fetch_add(every(family, *order, input), Ordering::Relaxed);
            }
        };
        thread::scope(|scope| {
            let threads = thread::available_parallelism().map_or(1, usize::from);
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
            for worker in workers {
                if let Err(panic) = worker.join() {
                    std::panic::resume_unwind(panic);
                }
            }
        });
        let name = family.name;
        say(&format!(
            "interleavings of {} records, {name}: {}",
            family.records,
            count.into_inner()
        ));
    }
}

/// The records in order, with the control elements in every order at every place among them.
fn mixtures(family: &Family) -> Vec<Vec<Step>> {
    let record = |number| Step::Record { key: number % 2, timestamp: Some(1) };
    let mut inputs = vec![(0..family.records).map(record).collect::<Vec<_>>()];
    for control in family.controls {
        let places = |input: &Vec<Step>| {
            let input = input.clone();
            (0..=input.len()).map(move |at| {
                let mut longer = input.clone();
                longer.insert(at, *control);
                longer
            })
        };
        inputs = inputs.iter().flat_map(places).collect();
    }
    inputs
}

/// Runs every interleaving of one input and returns how many there are.
fn every(family: &Family, order: Order, input: &[Step]) -> u64 {
    let mut setup = Setup::plain(order, family.capacity);
    setup.timeout = family.timeout;
    setup.attempt_timeout = family.attempt_timeout;
    if family.fails {
        setup.retries.delays = Delays::Fixed(3);
        setup.retries.most = 1;
    }
    let mut choices = Choices::default();
    for count in 1.. {
        let mut steps = Vec::new();
        if let Err(failure) = one(family, &setup, input, &mut choices, &mut steps) {
            panic!("{failure}\n{}", run::tell(Script { setup, steps }));
        }
        if !choices.next() {
            return count;
        }
    }
    unreachable!("it ends")
}

/// Runs one interleaving to its end.
fn one(
    family: &Family,
    setup: &Setup,
    input: &[Step],
    choices: &mut Choices,
    done: &mut Vec<Step>,
) -> Result<(), String> {
    let mut world = World::new(setup, false);
    let (mut has_crashed, mut is_refused, mut backwards) = (false, false, None);
    let mut act = |world: &mut World, step: Step| {
        done.push(step);
        world.step(step)
    };
    loop {
        act(&mut world, Step::Start(100))?;
        if !family.waits {
            act(&mut world, Step::Take(100))?;
            act(&mut world, Step::Start(100))?;
        }
        let mut possible = Vec::new();
        let position = world.ledger.position;
        if let Some(step) = input.get(position)
            && !is_refused
        {
            possible.push(*step);
        }
        for (which, attempt) in world.attempts().enumerate() {
            possible.push(Step::End(which, End::Success));
            if family.fails && attempt == 1 {
                possible.push(Step::End(which, End::Transient));
            }
        }
        if world.awaits_time() {
            possible.push(Step::ToDeadline(0));
        }
        if family.waits && world.has_output() {
            possible.push(Step::Take(1));
        }
        if let Crash::ThenEvery(capacity) | Crash::ThenTwo(capacity) = family.crash
            && !has_crashed
        {
            possible.push(Step::Crash { capacity, storage: Storage::Heap, clock_restarts: false });
        }
        let is_over = world.is_empty() && position == input.len();
        if is_over {
            return world.ledger.check(setup.order, true);
        }
        if possible.is_empty() {
            return Err("stuck".into());
        }
        let step = match backwards {
            Some(false) => possible[0],
            Some(true) => possible[possible.len() - 1],
            None => possible[choices.choose(possible.len())],
        };
        if matches!(step, Step::Crash { .. }) {
            has_crashed = true;
            if matches!(family.crash, Crash::ThenTwo(_)) {
                backwards = Some(choices.choose(2) == 1);
            }
        }
        act(&mut world, step)?;
        if step == Step::ToDeadline(0) {
            act(&mut world, Step::Judge(Choice::Fail))?;
        } else if family.timeout.is_some() {
            // So that not all deadlines fall on the same instant.
            act(&mut world, Step::Pass(1_000_000))?;
        }
        let is_push = input.get(position) == Some(&step);
        is_refused = is_push && world.ledger.position == position;
    }
}

/// What was chosen at each point, to choose differently the next time.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        let (choice, among) = self.taken[self.at];
        assert_eq!(among, of, "the same choices lead to the same choice");
        self.at += 1;
        choice
    }

    /// Turns to the next combination; false after the last one.
    fn next(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.taken.pop() {
            if choice + 1 < of {
                self.taken.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}
