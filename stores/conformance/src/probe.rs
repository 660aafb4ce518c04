//! A store together with its medium; its methods describe failures in words.

use std::fmt::Debug;

use futures_lite::future::block_on;
use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};

use crate::{Medium, StoreError};

pub(crate) type Verdict<T = ()> = Result<T, String>;

pub(crate) struct Probe<M: Medium> {
    pub(crate) medium: M,
    /// `None` while the store is closed.
    store: Option<M::Store>,
}

impl<M: Medium> Probe<M> {
    pub(crate) fn open(medium: M) -> Verdict<Self> {
        let mut probe = Self { medium, store: None };
        probe.store = Some(probe.medium.open().map_err(told("a new medium could not be opened"))?);
        Ok(probe)
    }

    /// Closes and reopens the store, if its content is durable.
    pub(crate) fn reopen(&mut self) -> Verdict {
        if self.medium.capabilities().durable {
            self.close();
            self.store = Some(self.medium.open().map_err(told("it could not be opened again"))?);
        }
        Ok(())
    }

    /// Opens the store where that may be refused.
    pub(crate) fn try_reopen(&mut self) -> Result<(), StoreError<M>> {
        self.close();
        self.store = Some(self.medium.open()?);
        Ok(())
    }

    pub(crate) fn close(&mut self) {
        self.store = None;
    }

    pub(crate) fn store(&mut self) -> &mut M::Store {
        self.store.as_mut().expect("the suite has it open")
    }

    pub(crate) fn try_save(&mut self, id: u64, bytes: &[u8]) -> Result<(), StoreError<M>> {
        block_on(self.store().save(CheckpointId(id), bytes))
    }

    pub(crate) fn save(&mut self, id: u64, bytes: &[u8]) -> Verdict {
        let saved = self.try_save(id, bytes);
        saved.map_err(told(format_args!("{id} with {} bytes could not be saved", bytes.len())))
    }

    /// Loads in both ways, which have to agree.
    pub(crate) fn try_load(&mut self) -> Verdict<Result<Option<Loaded>, StoreError<M>>> {
        let found = block_on(self.store().load_latest());
        let room = found.as_ref().ok().and_then(Option::as_ref).map_or(0, |it| it.bytes.len());
        let mut buffer = vec![0xa5; room + 3];
        let into = block_on(self.store().load_latest_into(&mut buffer));
        let agree = match (&found, &into) {
            (Ok(None), Ok(None)) | (Err(_), Err(LoadError::Store(_))) => true,
            (Ok(Some(found)), Ok(Some(LoadedInto { id, len, damaged }))) => {
                (found.id, found.damaged) == (*id, *damaged)
                    && found.bytes.as_slice() == &buffer[..*len]
            }
            _ => false,
        };
        if !agree {
            return Err(format!("load_latest gives {found:?}, load_latest_into {into:?}"));
        }
        Ok(found)
    }

    pub(crate) fn load(&mut self) -> Verdict<Option<Loaded>> {
        self.try_load()?.map_err(told("it could not be loaded"))
    }

    pub(crate) fn expect(&mut self, id: u64, bytes: &[u8], damaged: usize) -> Verdict {
        let expected = Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged });
        let found = self.load()?;
        if found == expected {
            return Ok(());
        }
        Err(format!("loaded {}, expected {}", short(&found), short(&expected)))
    }

    /// Checks that the store can continue, whatever happened before. A damaged checkpoint may still count
    /// until as many as are kept have been saved, because its age may be unknown.
    pub(crate) fn go_on(&mut self, id: u64) -> Verdict {
        self.save(id, b"went on")?;
        for _ in 0..2 {
            let found = self.load()?;
            if found.as_ref().is_none_or(|it| it.id.0 != id || it.bytes != b"went on") {
                return Err(format!("went on with {id}, loaded {}", short(&found)));
            }
            self.reopen()?;
        }
        Ok(())
    }
}

/// For `map_err`: puts a description before the error.
pub(crate) fn told<E: Debug>(what: impl ToString) -> impl FnOnce(E) -> String {
    move |error| format!("{}: {error:?}", what.to_string())
}

pub(crate) fn short(loaded: &Option<Loaded>) -> String {
    let Some(Loaded { id, bytes, damaged }) = loaded else { return "nothing".into() };
    let start = &bytes[..bytes.len().min(16)];
    format!("{id} ({} bytes: {start:?}.., {damaged} damaged)", bytes.len())
}

/// Different bytes for every id and length; adjacent bytes differ.
pub(crate) fn content(id: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (id as u8).wrapping_mul(101)).collect()
}
