//! Without the feature `checkpoint` no snapshot can be taken, and a barrier says so.

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::element::Barrier;
use crate::operator::Operator;
use crate::operator::call::Call;
use crate::storage::Storage;

impl<C: Call, S: Storage> Operator<C, S> {
    #[allow(clippy::unused_self)] // as with the feature
    pub(in crate::operator) fn put_section(
        &mut self,
        _: &mut Checkpoint,
    ) -> Result<(), CheckpointError> {
        Err(CheckpointError::NotCheckpointed)
    }

    #[allow(clippy::unused_self)] // as with the feature
    pub(in crate::operator) fn put_empty_section(&self, _: &mut Barrier) {}
}
