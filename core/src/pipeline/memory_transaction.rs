//! A database in memory that takes output and checkpoint together, for tests and first steps.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::error::Error;
use core::fmt;

use super::transaction::{Output, Transaction};
use crate::checkpoint::{CheckpointId, Loaded};

/// A [`Transaction`] over a database in memory, for tests. The database is shared between several owners of the job, of which
/// only the last one to claim it can commit: [`another_owner`](Self::another_owner) makes one, as another process would be.
/// [`one_transaction`](super::one_transaction) has an example.
///
/// It stays on one thread.
#[derive(Debug)]
pub struct MemoryTransaction<T> {
    database: Rc<RefCell<Database<T>>>,
    /// The number of this owner's claim.
    owner: u64,
}

#[derive(Debug)]
struct Database<T> {
    /// The number of claims.
    owner: u64,
    checkpoint: Option<Loaded>,
    outputs: Vec<Output<T>>,
}

impl<T> MemoryTransaction<T> {
    /// Makes an empty database, and an owner that has claimed nothing yet.
    pub fn new() -> Self {
        let database = Database { owner: 0, checkpoint: None, outputs: Vec::new() };
        Self { database: Rc::new(RefCell::new(database)), owner: 0 }
    }

    /// Another owner over the same database, that has claimed nothing yet.
    #[must_use]
    pub fn another_owner(&self) -> Self {
        Self { database: Rc::clone(&self.database), owner: 0 }
    }

    /// A copy of the outputs that are committed, in their order.
    pub fn committed(&self) -> Vec<Output<T>>
    where
        T: Clone,
    {
        self.database.borrow().outputs.clone()
    }

    /// A copy of the latest checkpoint, without a claim.
    pub fn latest(&self) -> Option<Loaded> {
        self.database.borrow().checkpoint.clone()
    }

    /// An owner that has claimed nothing is fenced too: the numbers of claims begin at one.
    fn is_owner(&self) -> bool {
        self.owner != 0 && self.owner == self.database.borrow().owner
    }
}

impl<T> Default for MemoryTransaction<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Clone> Transaction<T> for MemoryTransaction<T> {
    type Error = Fenced;

    async fn claim(&mut self) -> Result<Option<Loaded>, Fenced> {
        let mut database = self.database.borrow_mut();
        database.owner += 1;
        self.owner = database.owner;
        Ok(database.checkpoint.clone())
    }

    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<T>],
    ) -> Result<(), Fenced> {
        if !self.is_owner() {
            return Err(Fenced);
        }
        let mut database = self.database.borrow_mut();
        database.outputs.extend_from_slice(outputs);
        database.checkpoint = Some(Loaded { id, bytes: checkpoint.to_vec(), damaged: 0 });
        Ok(())
    }

    async fn is_committed(&mut self, id: CheckpointId) -> Result<bool, Fenced> {
        if !self.is_owner() {
            return Err(Fenced);
        }
        let database = self.database.borrow();
        Ok(database.checkpoint.as_ref().is_some_and(|latest| latest.id == id))
    }

    fn is_final(&self, Fenced: &Fenced) -> bool {
        true
    }
}

/// Another owner has claimed the job, so this one must stop: the error of a [`MemoryTransaction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fenced;

impl fmt::Display for Fenced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the job has a newer owner: stop this one")
    }
}

impl Error for Fenced {}
