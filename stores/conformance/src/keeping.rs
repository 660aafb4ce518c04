//! Checks on a medium without faults.

use futures_lite::future::block_on;
use inflight_core::{CheckpointStore, LoadError};

use crate::probe::{Probe, Verdict, content, short, told};
use crate::{Medium, Owners};

type New<'a, M> = &'a mut dyn FnMut() -> M;

pub(crate) fn empty<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    for _ in 0..2 {
        match probe.load()? {
            None => probe.reopen()?,
            found => return Err(format!("loaded {} from a new medium", short(&found))),
        }
    }
    Ok(())
}

pub(crate) fn round_trip<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    let can = probe.medium.capabilities();
    let sizes = [0, 1, 2, 255, 256, 4095, 1 << 16, 3, 100_000, 0];
    let sizes = sizes.iter().filter(|size| can.largest.is_none_or(|largest| **size <= largest));
    for (id, size) in (1..).zip(sizes) {
        let bytes = content(id, *size);
        probe.save(id, &bytes)?;
        if can.keeps == 0 {
            let found = probe.load()?;
            if found.is_some() {
                return Err(format!("loaded {} though nothing is kept", short(&found)));
            }
            continue;
        }
        probe.expect(id, &bytes, 0)?;
        probe.reopen()?;
        probe.expect(id, &bytes, 0)?;
    }
    Ok(())
}

pub(crate) fn buffer<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    for (id, len) in [(1, 40), (2, 1), (3, 0)] {
        let bytes = content(id, len);
        probe.save(id, &bytes)?;
        for room in 0..len {
            let mut buffer = vec![0; room];
            match block_on(probe.store().load_latest_into(&mut buffer)) {
                Err(LoadError::BufferTooSmall { needed }) if needed == len => {}
                other => return Err(format!("{len} bytes into a buffer of {room}: {other:?}")),
            }
        }
        let mut buffer = vec![0; len];
        match block_on(probe.store().load_latest_into(&mut buffer)) {
            Ok(Some(found)) if found.len == len && buffer == bytes => {}
            other => return Err(format!("{len} bytes into a buffer of {len}: {other:?}")),
        }
    }
    Ok(())
}

pub(crate) fn ids<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    for id in [0, 1, 2, 7, 7, 7, 1000] {
        probe.save(id, &content(id, 20))?;
        probe.expect(id, &content(id, 20), 0)?;
    }
    for again in 0..5 {
        probe.save(1000, &[again])?;
        probe.expect(1000, &[again], 0)?;
        probe.reopen()?;
        probe.expect(1000, &[again], 0)?;
    }
    // A lower id may be refused, but never becomes the latest.
    for lower in [0, 7, 999] {
        let _ = probe.try_save(lower, b"lower");
        probe.expect(1000, &[4], 0)?;
        probe.reopen()?;
        probe.expect(1000, &[4], 0)?;
    }
    probe.go_on(u64::MAX)
}

pub(crate) fn owners<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut first = new();
    let owners = first.capabilities().owners;
    let mut store = first.open().map_err(told("a new medium could not be opened"))?;
    let save = |store: &mut M::Store, id, bytes: &[u8]| {
        block_on(store.save(inflight_core::CheckpointId(id), bytes))
    };
    save(&mut store, 1, b"first").map_err(told("the first owner could not save"))?;
    let second = first.open();
    match (owners, second) {
        (Owners::SecondRefused, Ok(_)) => return Err("a second owner was let in".into()),
        (Owners::SecondRefused, Err(_)) => {
            save(&mut store, 2, b"first").map_err(told("the second owner locked out the first"))?;
            drop(store);
        }
        (_, Err(error)) => return Err(told("a second owner was not let in")(error)),
        (_, Ok(mut second)) => {
            save(&mut second, 2, b"second").map_err(told("the second owner could not save"))?;
            for _ in 0..4 {
                for id in [2, 3, 9] {
                    if save(&mut store, id, b"stale").is_ok() {
                        return Err(format!("a stale owner has saved {id}"));
                    }
                }
                save(&mut second, 2, b"second").map_err(told("the stale owner locks out"))?;
            }
        }
    }
    let mut probe = Probe::open(first)?;
    let expected: &[u8] = if owners == Owners::SecondRefused { b"first" } else { b"second" };
    probe.expect(2, expected, 0)?;
    probe.go_on(3)
}

pub(crate) fn limit<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    let largest = probe.medium.capabilities().largest.expect("asked before");
    for id in 1..=6 {
        probe.save(id, &content(id, largest))?;
        for beyond in [1, 2, 1000] {
            if probe.try_save(id + 1, &content(0, largest + beyond)).is_ok() {
                return Err(format!("{beyond} bytes more than the largest were taken"));
            }
            probe.expect(id, &content(id, largest), 0)?;
        }
        probe.reopen()?;
        probe.expect(id, &content(id, largest), 0)?;
    }
    probe.go_on(7)
}
