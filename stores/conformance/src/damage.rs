//! A medium that fails.

use inflight_core::{CheckpointId, Loaded};

use crate::probe::{Probe, Verdict, content, short, told};
use crate::{Image, Medium};

type New<'a, M> = &'a mut dyn FnMut() -> M;

/// Flips every bit of parts up to this size, and one bit per byte of larger ones.
const EVERY_BIT_UP_TO: usize = 4096;

pub(crate) fn retention<M: Medium>(new: New<'_, M>) -> Verdict {
    let keeps = new().capabilities().keeps as u64;
    for saved in 1..=keeps + 3 {
        let mut probe = Probe::open(new())?;
        for id in 1..=saved {
            probe.save(id, &content(id, 30))?;
        }
        for lost in 1..saved.min(keeps) {
            probe.close();
            probe.medium.damage_newest();
            probe.reopen()?;
            let id = saved - lost;
            probe.expect(id, &content(id, 30), lost as usize)?;
        }
        // After a fallback the store can save, and the new checkpoints count.
        for next in 1..=keeps {
            probe.go_on(saved + next)?;
        }
        probe.expect(saved + keeps, b"went on", 0)?;
    }

    let mut probe = Probe::open(new())?;
    probe.save(1, b"the only one")?;
    probe.close();
    probe.medium.damage_newest();
    if probe.try_reopen().is_err() {
        return Ok(());
    }
    match probe.try_load()? {
        Err(_) => Ok(()),
        Ok(found) => Err(format!("the only checkpoint is damaged, loaded {}", short(&found))),
    }
}

pub(crate) fn torn<M: Medium>(new: New<'_, M>) -> Verdict {
    let keeps = new().capabilities().keeps as u64;
    // With no, one, and up to more than the maximum of earlier checkpoints; over longer, shorter and equal
    // ones.
    let equal = (0..=keeps + 1).map(|before| (before, 25, 25));
    for (before, old, bytes) in equal.chain([(keeps + 1, 40, 10), (keeps + 1, 10, 40)]) {
        let mut at = 0;
        while torn_at(new(), before, old, bytes, at)? {
            at += 1;
        }
        if at == 0 {
            return Err("a save was through before a byte was written".into());
        }
    }
    Ok(())
}

/// True if the power failed before the write was complete.
fn torn_at<M: Medium>(medium: M, before: u64, old: usize, len: usize, at: usize) -> Verdict<bool> {
    let mut probe = Probe::open(medium)?;
    for id in 1..=before {
        probe.save(id, &content(id, old))?;
    }
    probe.close();
    let (id, bytes) = (before + 1, content(before + 1, len));
    let was_torn = probe.medium.save_torn(CheckpointId(id), &bytes, at);
    let judge = |probe: &mut Probe<M>| {
        probe.reopen()?;
        let found = probe.load()?;
        let told = match &found {
            Some(found) if found.id.0 == id => {
                found.bytes == bytes && (was_torn || found.damaged == 0)
            }
            Some(found) => was_torn && found.id.0 == before && found.bytes == content(before, old),
            None => was_torn && before == 0,
        };
        // A second load finds the same.
        if !told || probe.load()? != found {
            return Err(format!("loaded {}", short(&found)));
        }
        probe.go_on(id + 1)
    };
    judge(&mut probe)
        .map(|()| was_torn)
        .map_err(|what| format!("save {id} ({len} bytes) torn at byte {at}: {what}"))
}

pub(crate) fn flipped<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    let saved = probe.medium.capabilities().keeps.max(2) as u64 + 1;
    for id in 1..=saved {
        probe.save(id, &content(id, 20 + id as usize))?;
    }
    probe.close();
    let image = probe.medium.image();
    let places = probe.medium.places(&image);
    for (count, (part, byte)) in places.iter().enumerate() {
        let every = places.len() <= EVERY_BIT_UP_TO;
        let bits = if every { 0..8 } else { (count % 8) as u8..(count % 8) as u8 + 1 };
        for bit in bits {
            let name = &image[*part].0;
            flipped_at(&mut probe, &image, (*part, *byte, bit), saved)
                .map_err(|what| format!("bit {bit} of byte {byte} in {name} flipped: {what}"))?;
        }
    }
    Ok(())
}

fn flipped_at<M: Medium>(
    probe: &mut Probe<M>,
    image: &Image,
    (part, byte, bit): (usize, usize, u8),
    saved: u64,
) -> Verdict {
    let mut damaged = image.clone();
    damaged[part].1[byte] ^= 1 << bit;
    probe.medium.put_back(&damaged);
    let survives = probe.medium.capabilities().survives_flips;
    let found = match probe.try_reopen() {
        Err(error) => Err(error),
        Ok(()) => probe.try_load()?,
    };
    let verdict = match &found {
        Err(error) if survives => Err(format!("{error:?}, with an intact one left")),
        Err(_) => Ok(()),
        Ok(found) => is_one_of(found, saved),
    };
    let goes_on = if survives { probe.go_on(saved + 1) } else { Ok(()) };
    probe.close();
    verdict.and(goes_on)
}

/// Expects the newest checkpoint, or an older one with a report of the damage.
fn is_one_of(found: &Option<Loaded>, saved: u64) -> Verdict {
    let right = found.as_ref().is_some_and(|Loaded { id, bytes, damaged }| {
        (1..=saved).contains(&id.0)
            && *bytes == content(id.0, 20 + id.0 as usize)
            && (id.0 == saved || *damaged > 0)
    });
    if right { Ok(()) } else { Err(format!("loaded {}", short(found))) }
}

pub(crate) fn full<M: Medium>(new: New<'_, M>) -> Verdict {
    let saved = new().capabilities().keeps as u64 + 1;
    let mut probe = Probe::open(new())?;
    for id in 1..=saved {
        probe.save(id, &content(id, 30))?;
    }
    probe.medium.fill();
    for _ in 0..3 {
        if probe.try_save(saved + 1, &content(0, 5000)).is_ok() {
            return Err("saved on a full medium".into());
        }
        let found = match probe.try_load()? {
            Err(_) if !probe.medium.capabilities().loads_when_full => continue,
            found => found.map_err(told("it could not be loaded from a full medium"))?,
        };
        let right = |it: &Loaded| it.id.0 == saved && it.bytes == content(saved, 30);
        if !found.as_ref().is_some_and(right) {
            return Err(format!("on a full medium loaded {}", short(&found)));
        }
    }
    probe.medium.make_room();
    let found = probe.load()?;
    if found.as_ref().is_none_or(|it| it.id.0 != saved || it.bytes != content(saved, 30)) {
        return Err(format!("after it was full loaded {}", short(&found)));
    }
    probe.go_on(saved + 1)
}

pub(crate) fn gone<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut probe = Probe::open(new())?;
    probe.save(1, b"one")?;
    probe.medium.take_away();
    for _ in 0..2 {
        if probe.try_save(2, b"two").is_ok() {
            return Err("saved though the medium is gone".into());
        }
        if let Ok(found) = probe.try_load()? {
            return Err(format!("the medium is gone, and loaded {}", short(&found)));
        }
    }
    probe.medium.bring_back();
    probe.expect(1, b"one", 0)?;
    probe.go_on(2)
}
