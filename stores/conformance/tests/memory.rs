//! The stores of the core. Memory cannot be torn, damaged or taken away.

use std::convert::Infallible;

use inflight_core::{FixedMemoryStore, MemoryStore, MemoryStoreError, NullStore};
use inflight_store_conformance::{Capabilities, Check, Medium, check};

const NOT_IN_MEMORY: [Check; 6] =
    [Check::Retention, Check::Owners, Check::Torn, Check::Flipped, Check::Full, Check::Gone];

struct Heap;

impl Medium for Heap {
    type Store = MemoryStore;

    fn capabilities(&self) -> Capabilities {
        Capabilities { keeps: 2, ..Capabilities::default() }
    }

    fn open(&mut self) -> Result<MemoryStore, Infallible> {
        Ok(MemoryStore::new())
    }
}

// K9
#[test]
fn the_store_on_the_heap() {
    let report = check(|| Heap).unwrap();
    assert_eq!(report.passed, [Check::Empty, Check::RoundTrip, Check::Buffer, Check::Ids]);
    assert_eq!(report.skipped[1..3], [Check::Owners, Check::Limit]);
}

struct InPlace;

impl Medium for InPlace {
    type Store = FixedMemoryStore<1000>;

    fn capabilities(&self) -> Capabilities {
        Capabilities { keeps: 1, largest: Some(1000), ..Capabilities::default() }
    }

    fn open(&mut self) -> Result<Self::Store, MemoryStoreError> {
        Ok(FixedMemoryStore::new())
    }
}

// K9
#[test]
fn the_store_without_an_allocator() {
    let report = check(|| InPlace).unwrap();
    assert_eq!(report.skipped, NOT_IN_MEMORY);
}

struct Nothing;

impl Medium for Nothing {
    type Store = NullStore;

    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    fn open(&mut self) -> Result<NullStore, Infallible> {
        Ok(NullStore)
    }
}

// K9
#[test]
fn the_store_that_keeps_nothing() {
    assert_eq!(check(|| Nothing).unwrap().passed, [Check::Empty, Check::RoundTrip]);
}
