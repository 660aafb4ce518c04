//! A store in memory that takes its time, fails as planned, and keeps a journal.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use inflight::prelude::*;
use inflight::{LoadError, LoadedInto};
use tokio::time::{Instant, sleep};

/// Clones share the checkpoints, so that several lives of a job can.
#[derive(Clone, Default)]
pub(crate) struct Store {
    checkpoints: Rc<RefCell<MemoryStore>>,
    journal: Rc<RefCell<Vec<(Instant, Instant)>>>,
    /// The time that a save takes.
    takes: Duration,
    /// The saves that fail, counted from 0, and the error.
    fails: Option<(usize, Refused)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Refused {
    /// The medium is full, perhaps only for now.
    Full,
    /// Another owner has the job.
    Fenced,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl std::error::Error for Refused {}

impl Store {
    pub(crate) fn slow(takes: Duration) -> Self {
        Self { takes, ..Self::default() }
    }

    pub(crate) fn failing(self, save: usize, error: Refused) -> Self {
        Self { fails: Some((save, error)), ..self }
    }

    /// The beginning and the end of each save, in seconds since `start`.
    pub(crate) fn saves(&self, start: Instant) -> Vec<(f64, f64)> {
        let since = |instant: Instant| (instant - start).as_secs_f64();
        self.journal.borrow().iter().map(|(begun, ended)| (since(*begun), since(*ended))).collect()
    }
}

impl CheckpointStore for Store {
    type Error = Refused;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Refused> {
        let begun = Instant::now();
        sleep(self.takes).await;
        let number = self.journal.borrow().len();
        self.journal.borrow_mut().push((begun, Instant::now()));
        if let Some((_, error)) = self.fails.filter(|(save, _)| *save == number) {
            return Err(error);
        }
        let mut checkpoints = self.checkpoints.take();
        let Ok(()) = checkpoints.save(id, bytes).await;
        self.checkpoints.replace(checkpoints);
        Ok(())
    }

    fn is_final(&self, error: &Refused) -> bool {
        *error == Refused::Fenced
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Refused>> {
        let mut checkpoints = self.checkpoints.take();
        let loaded = checkpoints.load_latest_into(buffer).await;
        self.checkpoints.replace(checkpoints);
        loaded.map_err(|error| match error {
            LoadError::BufferTooSmall { needed } => LoadError::BufferTooSmall { needed },
            LoadError::Store(never) => match never {},
        })
    }
}
