//! An engine that assigns partitions by leases with a time to live, and an assignment of its decisions.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::task::{Context, Poll};

use inflight_partitions::{Assignment, Change};

use crate::clock::{Alarm, Clock};
use crate::world::World;

const MILLISECOND: i64 = 1_000_000;

/// A worker that was not seen for so long is taken for dead.
const TIME_TO_LIVE: i64 = 30 * MILLISECOND;

/// A worker shows itself so often.
pub(crate) const HEARTBEAT: i64 = 5 * MILLISECOND;

/// A partition that is not handed over by then is taken away.
const HANDS_OVER_WITHIN: i64 = 300 * MILLISECOND;

/// The longest time that a change is on its way to a worker.
const WAY: usize = 10 * MILLISECOND as usize;

/// Who has what, and who is there. All of it is in memory.
pub(crate) struct Engine {
    places: Vec<Place>,
    workers: Vec<Member>,
}

/// A partition.
#[derive(Clone, Copy, Default)]
struct Place {
    owner: Option<usize>,
    /// Its owner is to hand it over by then.
    revoked_until: Option<i64>,
    is_finished: bool,
}

struct Member {
    /// When it was seen last; `None`: it is not a member.
    seen: Option<i64>,
    /// Changes on their way to it, with the times of their arrival.
    changes: VecDeque<(i64, Change<u16>)>,
    alarm: Rc<Alarm>,
}

impl Engine {
    pub(crate) fn new(partitions: u16) -> Self {
        Self { places: vec![Place::default(); usize::from(partitions)], workers: Vec::new() }
    }

    pub(crate) fn is_all_finished(&self) -> bool {
        self.places.iter().all(|place| place.is_finished)
    }

    fn members(&self) -> impl Iterator<Item = usize> {
        (0..self.workers.len()).filter(|worker| self.workers[*worker].seen.is_some())
    }

    fn share_of(&self, worker: usize) -> usize {
        self.places.iter().filter(|place| place.owner == Some(worker)).count()
    }
}

/// Starts the engine's rounds.
pub(crate) fn start(world: &Rc<World>) {
    let of = Rc::clone(world);
    world.executor.spawn(None, async move {
        loop {
            round(&of);
            of.executor.sleep(HEARTBEAT).await;
        }
    });
}

/// A worker that the engine has not met.
pub(crate) fn meet(world: &Rc<World>, worker: usize) -> Seat {
    let alarm = world.executor.clock.alarm();
    let member = Member { seen: None, changes: VecDeque::new(), alarm: Rc::clone(&alarm) };
    let workers = &mut world.engine.borrow_mut().workers;
    assert_eq!(workers.len(), worker);
    workers.push(member);
    Seat { world: Rc::clone(world), clock: Rc::clone(&world.executor.clock), worker, alarm }
}

/// A worker shows itself. If it was missed, it has lost everything that it had.
pub(crate) fn seen(world: &Rc<World>, worker: usize) {
    let now = world.executor.clock.now();
    let engine = &mut *world.engine.borrow_mut();
    let was_seen = engine.workers[worker].seen.replace(now);
    if was_seen.is_none() {
        engine.workers[worker].changes.clear();
        for partition in 0..engine.places.len() {
            tell(world, engine, worker, Change::Lost(partition as u16));
        }
    }
}

/// The worker is a member no more.
pub(crate) fn miss(world: &Rc<World>, worker: usize) {
    let engine = &mut *world.engine.borrow_mut();
    engine.workers[worker].seen = None;
    for place in &mut engine.places {
        if place.owner == Some(worker) {
            (place.owner, place.revoked_until) = (None, None);
        }
    }
}

fn tell(world: &World, engine: &mut Engine, worker: usize, change: Change<u16>) {
    let member = &mut engine.workers[worker];
    let at = world.executor.clock.now() + 1 + world.below(WAY) as i64;
    let at = member.changes.back().map_or(at, |(last, _)| at.max(*last));
    member.changes.push_back((at, change));
    member.alarm.set(member.changes.front().map(|(at, _)| *at));
}

fn round(world: &Rc<World>) {
    let now = world.executor.clock.now();
    let late = |world: &Rc<World>| {
        let engine = world.engine.borrow();
        let is_late = |worker: &usize| {
            engine.workers[*worker].seen.is_some_and(|seen| seen + TIME_TO_LIVE < now)
        };
        engine.members().filter(is_late).collect::<Vec<_>>()
    };
    late(world).into_iter().for_each(|worker| miss(world, worker));
    let engine = &mut *world.engine.borrow_mut();
    for partition in 0..engine.places.len() {
        let place = engine.places[partition];
        if let (Some(owner), Some(_)) = (place.owner, place.revoked_until.filter(|at| *at < now)) {
            engine.places[partition] = Place::default();
            tell(world, engine, owner, Change::Lost(partition as u16));
        }
        assign(world, engine, partition, place.owner);
    }
    balance(world, engine);
}

/// Gives a partition that nobody has to the member with the fewest, and not to the one that had it.
fn assign(world: &World, engine: &mut Engine, partition: usize, not_to: Option<usize>) {
    let place = engine.places[partition];
    if place.is_finished || place.owner.is_some() {
        return;
    }
    let rank =
        |worker: &usize| (Some(*worker) == not_to, engine.share_of(*worker), world.below(99));
    let Some(worker) = engine.members().min_by_key(rank) else { return };
    engine.places[partition].owner = Some(worker);
    tell(world, engine, worker, Change::Assigned(partition as u16));
}

/// Takes a partition from the member with the most, if another one has two fewer.
fn balance(world: &World, engine: &mut Engine) {
    let shares = |engine: &Engine| engine.members().map(|w| engine.share_of(w)).collect::<Vec<_>>();
    let shares = shares(engine);
    let (Some(most), Some(least)) = (shares.iter().max(), shares.iter().min()) else { return };
    if *most < least + 2 || engine.places.iter().any(|place| place.revoked_until.is_some()) {
        return;
    }
    let is_of_most =
        |place: &Place| place.owner.is_some_and(|owner| engine.share_of(owner) == *most);
    let from = engine.places.iter().position(is_of_most);
    from.into_iter().for_each(|partition| revoke(world, engine, partition));
}

fn revoke(world: &World, engine: &mut Engine, partition: usize) {
    let until = world.executor.clock.now() + HANDS_OVER_WITHIN;
    let place = &mut engine.places[partition];
    let Some(owner) = place.owner.filter(|_| place.revoked_until.is_none()) else { return };
    place.revoked_until = Some(until);
    tell(world, engine, owner, Change::Revoked(partition as u16));
}

/// Takes some partition from its owner, in good order.
pub(crate) fn move_one(world: &Rc<World>) {
    let engine = &mut *world.engine.borrow_mut();
    let partition = world.below(engine.places.len());
    revoke(world, engine, partition);
}

/// A wrong decision: a second worker gets a partition, and the first one learns it later.
pub(crate) fn assign_one_twice(world: &Rc<World>) {
    let engine = &mut *world.engine.borrow_mut();
    let partition = world.below(engine.places.len());
    let Some(first) = engine.places[partition].owner else { return };
    engine.places[partition] = Place::default();
    assign(world, engine, partition, Some(first));
    let of = Rc::clone(world);
    world.executor.spawn(None, async move {
        of.some_time(60 * MILLISECOND).await;
        let engine = &mut *of.engine.borrow_mut();
        if engine.places[partition].owner != Some(first) {
            tell(&of, engine, first, Change::Lost(partition as u16));
        }
    });
}

/// The engine forgets who is there and who has what.
pub(crate) fn forget(world: &Rc<World>) {
    let engine = &mut *world.engine.borrow_mut();
    for member in &mut engine.workers {
        member.seen = None;
        member.changes.clear();
    }
    for place in &mut engine.places {
        *place = Place { is_finished: place.is_finished, ..Place::default() };
    }
}

/// A worker's side of the engine.
pub(crate) struct Seat {
    world: Rc<World>,
    clock: Rc<Clock>,
    worker: usize,
    alarm: Rc<Alarm>,
}

impl Assignment for Seat {
    type Partition = u16;
    type Error = Infallible;

    fn poll_change(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Change<u16>, Infallible>>> {
        let engine = &mut *self.world.engine.borrow_mut();
        let changes = &mut engine.workers[self.worker].changes;
        if let Some((_, change)) = changes.pop_front_if(|(at, _)| *at <= self.clock.now()) {
            return Poll::Ready(Some(Ok(change)));
        }
        self.alarm.set(changes.front().map(|(at, _)| *at));
        if engine.is_all_finished() {
            return Poll::Ready(None);
        }
        self.alarm.set(self.alarm.is_set_to().or(Some(self.clock.now() + HEARTBEAT)));
        let _ = self.alarm.poll(&self.clock, cx);
        Poll::Pending
    }

    fn number(&self, partition: &u16) -> u16 {
        *partition
    }

    fn released(&mut self, partition: &u16) {
        self.world.promise(!self.world.has_life(self.worker, *partition), || {
            format!("partition {partition} is given back, and something of it runs here")
        });
        let engine = &mut *self.world.engine.borrow_mut();
        let place = &mut engine.places[usize::from(*partition)];
        if place.owner == Some(self.worker) {
            *place = Place { is_finished: place.is_finished, ..Place::default() };
            assign(&self.world, engine, usize::from(*partition), Some(self.worker));
        }
    }

    fn finished(&mut self, partition: &u16) {
        let place = &mut self.world.engine.borrow_mut().places[usize::from(*partition)];
        *place = Place { is_finished: true, ..Place::default() };
    }

    async fn leave(&mut self) -> Result<(), Infallible> {
        for partition in 0..self.world.plan.partitions {
            self.world.promise(!self.world.has_life(self.worker, partition), || {
                format!("a worker has left, and partition {partition} runs there")
            });
        }
        miss(&self.world, self.worker);
        Ok(())
    }
}
