//! The tables of a stage, without those that its stream cannot need. On a small machine they would cost 1.8 KB of flash and
//! 88 bytes a slot.

use core::marker::PhantomData;

use crate::element::StreamKind;
use crate::policy::KeySelector;
use crate::storage::{AutoTraits, Storage, sealed};

/// A stage's storage: `S` without the tables that no element of the stage can need. A policy without a key function needs no
/// key table, a stream of plain values no queue of control elements.
#[derive(Debug)]
pub(crate) struct StageTables<S, V, K, M>(PhantomData<fn() -> (S, V, K, M)>);

impl<S: Storage, V, K: KeySelector<V>, M: StreamKind> Storage for StageTables<S, V, K, M> {
    type Table<T> = S::Table<T>;
    type Numbers<T: AutoTraits> = S::Numbers<T>;
    type Queue<T> = S::Queue<T>;
    type InUse = S::InUse;
    type Controls<T: AutoTraits> = M::Controls<S, T>;
    type Keys = K::Keys<S>;
    type Backlog<T> = S::Backlog<T>;
    const MAX_BACKLOG: usize = S::MAX_BACKLOG;
    const HOLDS_CONTROLS: bool = M::HAS_CONTROLS;
    const MAX_CAPACITY: usize = S::MAX_CAPACITY;
}

impl<S, V, K, M> sealed::Sealed for StageTables<S, V, K, M> {}
