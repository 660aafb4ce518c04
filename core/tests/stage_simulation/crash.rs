//! The process dies, and another one goes on from the last checkpoint that reached the sink (K5).

use inflight_core::Checkpoint;

use crate::clock::Clock;
use crate::executor::{Executor, Flag};
use crate::model::{Model, SavedElement};
use crate::plan::{Home, SLOTS};
use crate::setup::Setup;
use crate::subject;
use crate::watch::SavedPoint;
use crate::world::World;

impl World {
    pub(crate) fn crash(&mut self, capacity: usize, clock_restarts: bool) -> Result<(), String> {
        self.watch.look().going = true;
        self.subject = None;
        let plan = self.plan();
        self.executor.kill_all();
        self.executor = Executor::new(plan.fresh_wakers, plan.cancels_late);
        self.nothing_is_left()?;
        self.verdict()?;
        let now = if clock_restarts { 0 } else { self.clock.now() };
        self.clock = Clock::new(now, plan.resolution);
        (self.has_ended, self.is_cancelled) = (false, false);
        self.consumer = Flag::woken();
        let checkpoint = self.restore_model(capacity)?;
        let (plan, runtime) = (self.plan(), self.runtime());
        self.subject = Some(subject::start(&plan, &runtime, checkpoint.as_ref()));
        Ok(())
    }

    /// Everything but the stage is as the checkpoint says.
    fn restore_model(&mut self, capacity: usize) -> Result<Option<Checkpoint>, String> {
        let watch = &mut *self.watch.look();
        watch.clock = std::rc::Rc::clone(&self.clock);
        let is_control = |element: &&SavedElement| matches!(element, SavedElement::Control(_));
        let controls = |saved: &SavedPoint| saved.model.elements.iter().filter(is_control).count();
        let capacity = match &watch.saved {
            // What the consumer has not taken keeps back what is restored, and the model knows no such
            // thing of control elements.
            Some(saved) if watch.plan.mode.has_task() && controls(saved) > 0 => {
                capacity.max(saved.model.elements.len())
            }
            // Storage in place has no room for elements that must wait for a slot.
            Some(saved) if watch.plan.home != Home::Heap => {
                let controls = controls(saved);
                capacity.max(controls).max(saved.model.elements.len() - controls).min(SLOTS)
            }
            _ if watch.plan.home != Home::Heap => capacity.min(SLOTS),
            _ => capacity,
        };
        let capacity = if watch.plan.is_huge() { watch.plan.setup.capacity } else { capacity };
        let max_capacity = capacity.max(watch.plan.setup.max_capacity);
        watch.plan.setup = Setup { capacity, max_capacity, ..watch.plan.setup };
        let setup = watch.plan.setup;
        let Some(saved) = watch.saved.clone() else {
            watch.tell(|| "it goes on from the start".into());
            watch.model = Model::new(&setup);
            watch.begin_life();
            watch.ledger = Default::default();
            watch.feed.position = 0;
            return Ok(None);
        };
        watch.tell(|| format!("it goes on from element {}", saved.position));
        watch.model = Model::restore(&setup, self.clock.now(), &saved.model);
        watch.begin_life();
        watch.feed.position = saved.position;
        watch.counts.restored = saved.model.elements.len() as u64;
        watch.ledger = saved.ledger;
        let checkpoint = Checkpoint::from_bytes(&saved.bytes);
        checkpoint.map(Some).map_err(|error| format!("the checkpoint cannot be read: {error}"))
    }
}
