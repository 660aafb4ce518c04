//! Small cases in every interleaving: a few records, at most one watermark, one barrier and one crash, and at each
//! point every event that could happen next.
//!
//! The largest family enumerates *all* interleavings of four records, a watermark and a barrier of either mode, in
//! every mixture and in every order of the operator. At each point the next element is pushed, any running attempt
//! succeeds, or the process dies (once or never), and after a crash every event that can happen does, up to the end.
//! In this family attempts start, and outputs are taken, as soon as they can. In the other families attempts or
//! outputs wait, or calls fail and time out; since that multiplies the cases, these families have fewer records or
//! leave out the watermark, the barrier or the crash, as their names say. Four records with a watermark, a barrier, a
//! crash *and* waiting attempts or outputs, failures or timeouts are not enumerated: random schedules cover them.
//!
//! Some things are fixed: two keys in turn, event times of one second after the previous watermark, one retry after 3
//! ms, steps of 1 ms or to the next deadline (where there are timeouts at all), the capacity before and after the
//! crash, a clock that starts anew after it, and the end of the input after the last element.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use crate::features;
use crate::parts::{Parts, Tokens};
use crate::script::{Choice, Script, Step};
use crate::setup::{Delays, Order, Setup, Storage};
use crate::values::End;
use crate::world::World;
use crate::{run, say};

/// A family of cases. The inputs are all mixtures of its records with its control elements.
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
    /// The process may die once; the next one goes on with this capacity.
    crash: Option<usize>,
    /// Attempts start one at a time, and may wait; otherwise all attempts start that can.
    starts_wait: bool,
    /// Outputs are taken one at a time, and may wait; otherwise all are taken at once.
    outputs_wait: bool,
    /// The operator may be paused, once in each life, and is resumed sooner or later.
    pauses: bool,
    /// Optional parts of the policy.
    parts: Option<Parts>,
}

const PLAIN: Family = Family {
    name: "",
    records: 4,
    controls: &[],
    capacity: 4,
    fails: false,
    timeout: None,
    attempt_timeout: None,
    crash: None,
    starts_wait: false,
    outputs_wait: false,
    pauses: false,
    parts: None,
};

const RATE: Tokens = Tokens { tokens: 1, period: 3, burst: 1 };

const WATERMARK: Step = Step::Watermark(1);
const SNAPSHOT: Step = Step::SnapshotBarrier;
const DRAIN: Step = Step::DrainBarrier { limit: None };

const FAMILIES: &[Family] = &[
    Family {
        name: "a watermark, a barrier, a crash",
        controls: &[WATERMARK, SNAPSHOT],
        crash: Some(4),
        ..PLAIN
    },
    Family {
        name: "a watermark, a barrier, a crash into less capacity",
        controls: &[WATERMARK, SNAPSHOT],
        crash: Some(2),
        ..PLAIN
    },
    Family {
        name: "a watermark, a drain barrier, a crash into less capacity",
        controls: &[WATERMARK, DRAIN],
        crash: Some(2),
        ..PLAIN
    },
    Family {
        name: "a watermark, a barrier, too little capacity, a crash into less",
        controls: &[WATERMARK, SNAPSHOT],
        capacity: 2,
        crash: Some(1),
        ..PLAIN
    },
    Family {
        name: "a watermark, outputs that wait",
        controls: &[WATERMARK],
        outputs_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, attempts that wait",
        controls: &[WATERMARK],
        starts_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, a barrier, a crash into less capacity, attempts that wait",
        controls: &[WATERMARK, SNAPSHOT],
        records: 3,
        crash: Some(2),
        starts_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, a drain barrier, a crash into less capacity, attempts that wait",
        controls: &[WATERMARK, DRAIN],
        records: 3,
        crash: Some(2),
        starts_wait: true,
        ..PLAIN
    },
    Family {
        name: "a barrier, a crash into less capacity, outputs that wait",
        controls: &[SNAPSHOT],
        records: 3,
        crash: Some(2),
        outputs_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, attempts and outputs that wait",
        controls: &[WATERMARK],
        records: 3,
        starts_wait: true,
        outputs_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, a barrier, a crash, attempts and outputs that wait",
        controls: &[WATERMARK, SNAPSHOT],
        records: 2,
        crash: Some(2),
        starts_wait: true,
        outputs_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, a drain barrier, a crash into less capacity, attempts and outputs that wait",
        controls: &[WATERMARK, DRAIN],
        records: 2,
        crash: Some(1),
        starts_wait: true,
        outputs_wait: true,
        ..PLAIN
    },
    Family {
        name: "a watermark, calls that fail",
        controls: &[WATERMARK],
        records: 3,
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
        name: "a watermark, a barrier, a crash into less capacity, calls that time out",
        controls: &[WATERMARK, SNAPSHOT],
        records: 3,
        timeout: Some(10),
        crash: Some(2),
        ..PLAIN
    },
    Family {
        name: "a watermark, a barrier, a crash into less capacity, calls and attempts that fail or time out",
        controls: &[WATERMARK, SNAPSHOT],
        records: 2,
        fails: true,
        timeout: Some(10),
        attempt_timeout: Some(5),
        crash: Some(1),
        ..PLAIN
    },
    Family {
        name: "a watermark, a drain barrier, a crash into less capacity, calls and attempts that fail or time out",
        controls: &[WATERMARK, DRAIN],
        records: 2,
        fails: true,
        timeout: Some(10),
        attempt_timeout: Some(5),
        crash: Some(1),
        ..PLAIN
    },
    Family {
        name: "a watermark, a pause, attempts that wait",
        controls: &[WATERMARK],
        records: 3,
        starts_wait: true,
        pauses: true,
        ..PLAIN
    },
    Family {
        name: "a barrier, a crash into less capacity, a pause, calls that fail or time out",
        controls: &[SNAPSHOT],
        records: 2,
        fails: true,
        timeout: Some(10),
        crash: Some(1),
        pauses: true,
        ..PLAIN
    },
    Family {
        name: "a rate, calls and attempts that fail or time out, and ask for pauses, timeouts of the records' own",
        records: 2,
        fails: true,
        timeout: Some(10),
        attempt_timeout: Some(5),
        parts: Some(Parts { rate: Some(RATE), pauses: true, own_timeouts: true, ..Parts::NONE }),
        ..PLAIN
    },
    Family {
        name: "a rate by weight, attempts that wait",
        records: 3,
        timeout: Some(10),
        starts_wait: true,
        parts: Some(Parts { weighed: Some(RATE), ..Parts::NONE }),
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

/// Returns the records in order, with the control elements in every order at every position among them.
fn mixtures(family: &Family) -> Vec<Vec<Step>> {
    let record = |number| Step::Record { key: number % 2, timestamp: Some(1), at_once: false };
    let mut inputs = vec![(0..family.records).map(record).collect::<Vec<_>>()];
    for control in family.controls {
        let positions = |input: &Vec<Step>| {
            let input = input.clone();
            (0..=input.len()).map(move |at| {
                let mut longer = input.clone();
                longer.insert(at, *control);
                longer
            })
        };
        inputs = inputs.iter().flat_map(positions).collect();
    }
    inputs
}

/// Runs every interleaving of one input and returns their number.
fn every(family: &Family, order: Order, input: &[Step]) -> u64 {
    let mut setup = Setup::plain(order, family.capacity);
    setup.timeout = family.timeout;
    setup.attempt_timeout = family.attempt_timeout;
    setup.parts = family.parts;
    if family.fails {
        setup.retries.delays = Delays::Fixed(3);
        setup.retries.most = 1;
    }
    let (mut choices, mut lives) = (Choices::default(), Lives::default());
    let mut count = 0;
    loop {
        let mut steps = Vec::new();
        match one(family, &setup, input, &mut choices, &mut lives, &mut steps) {
            Ok(stands_for) => count += stands_for,
            Err(failure) => panic!("{failure}\n{}", run::tell(Script { setup, steps })),
        }
        if !choices.next() {
            return count;
        }
    }
}

/// Runs one interleaving to its end, or to a crash whose continuations are known already. Returns the number of
/// interleavings that it stands for.
fn one(
    family: &Family,
    setup: &Setup,
    input: &[Step],
    choices: &mut Choices,
    lives: &mut Lives,
    done: &mut Vec<Step>,
) -> Result<u64, String> {
    let mut world = World::new(setup, false);
    let (mut has_crashed, mut has_paused, mut is_refused) = (false, false, false);
    let mut act = |world: &mut World, step: Step| {
        done.push(step);
        world.step(step)
    };
    loop {
        if !family.starts_wait {
            act(&mut world, Step::Start(100))?;
        }
        if !family.outputs_wait {
            act(&mut world, Step::Take(100))?;
            if !family.starts_wait {
                act(&mut world, Step::Start(100))?;
            }
        }
        let position = world.ledger.position;
        if world.is_empty() && position == input.len() {
            world.ledger.check(setup.order, true)?;
            if has_crashed {
                lives.end();
            }
            return Ok(1);
        }
        let next = input.get(position).filter(|_| !is_refused);
        let mut possible = family.possible(&world, next, has_crashed);
        if world.model.is_paused() && family.pauses {
            possible.push(Step::Resume);
        } else if family.pauses && !has_paused {
            possible.push(Step::Pause);
        }
        if possible.is_empty() {
            return Err("stuck".into());
        }
        let step = possible[choices.choose(possible.len())];
        act(&mut world, step)?;
        match step {
            Step::Crash { .. } => {
                (has_crashed, has_paused) = (true, false);
                if let Some(stands_for) = lives.begin(&world, choices) {
                    return Ok(stands_for);
                }
            }
            Step::Pause => has_paused = true,
            Step::ToDeadline(_) => act(&mut world, Step::Judge(Choice::Fail))?,
            // This keeps deadlines from all falling on the same instant.
            _ if family.timeout.is_some() => act(&mut world, Step::Pass(1_000_000))?,
            _ => {}
        }
        let is_push = input.get(position) == Some(&step);
        is_refused = is_push && world.ledger.position == position;
    }
}

impl Family {
    /// Returns every event that can happen next.
    fn possible(&self, world: &World, next: Option<&Step>, has_crashed: bool) -> Vec<Step> {
        let mut possible = Vec::from_iter(next.copied());
        for (which, attempt) in world.attempts().enumerate() {
            possible.push(Step::End(which, End::Success));
            if self.fails && attempt == 1 {
                possible.push(Step::End(which, End::Transient));
            }
        }
        if world.awaits_time() {
            possible.push(Step::ToDeadline(0));
        }
        if self.starts_wait && world.has_attempt() {
            possible.push(Step::Start(1));
        }
        if self.outputs_wait && world.has_output() {
            possible.push(Step::Take(1));
        }
        if let Some(capacity) = self.crash
            && !has_crashed
        {
            possible.push(Step::Crash { capacity, storage: Storage::Heap, clock_restarts: true });
        }
        possible
    }
}

/// The lives after a crash. Such a life begins with a new operator and the bytes of a checkpoint, so its
/// interleavings depend on nothing else: they are run once for each initial state, and only counted when the same
/// state comes again.
#[derive(Default)]
struct Lives {
    /// The number of interleavings of each life, by its initial state.
    ways: HashMap<String, u64>,
    /// The life that is being run, and the choices that led to it.
    current: Option<(String, Vec<usize>)>,
}

impl Lives {
    /// Begins a life. Returns the number of its interleavings if they are known.
    fn begin(&mut self, world: &World, choices: &Choices) -> Option<u64> {
        let way = choices.made();
        if self.current.as_ref().is_some_and(|(_, current)| *current == way) {
            return None;
        }
        self.current = None;
        let origin = world.origin();
        let known = self.ways.get(&origin).copied();
        if known.is_none() {
            self.current = Some((origin, way));
        }
        known
    }

    /// Counts an interleaving that has ended.
    fn end(&mut self) {
        if let Some((origin, _)) = &self.current {
            *self.ways.entry(origin.clone()).or_default() += 1;
        }
    }
}

/// The choices of an interleaving, which determine the next one: a depth-first search.
#[derive(Default)]
struct Choices {
    taken: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    /// Returns the choices made so far in this interleaving.
    fn made(&self) -> Vec<usize> {
        self.taken[..self.at].iter().map(|(choice, _)| *choice).collect()
    }

    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.taken.len() {
            self.taken.push((0, of));
        }
        let (choice, among) = self.taken[self.at];
        assert_eq!(among, of, "the same choices lead to the same choice");
        self.at += 1;
        choice
    }

    /// Goes to the next combination; false after the last one.
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
