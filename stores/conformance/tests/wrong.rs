//! The suite reports each kind of wrong store, and passes the same store without the fault, because otherwise
//! the report would prove nothing.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use inflight_core::envelope::{self, HEADER_LEN, Magic};
use inflight_core::{CheckpointId, CheckpointStore, LoadError, Loaded, LoadedInto};
use inflight_store_conformance::{Capabilities, Check, Image, Medium, Owners, check};

const MAGIC: Magic = *b"TEST";
const LARGEST: usize = 6000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    FindsSomethingNew,
    ForgetsWhenClosed,
    DropsTheLastByte,
    FillsTheBufferInPart,
    NamesTheWrongSize,
    NeverReplaces,
    LetsALowerOneWin,
    ForgetsToFallBack,
    ForgetsToCount,
    IsSilentWhenAllIsLost,
    KeepsOne,
    LetsAStaleOwnerSave,
    LocksOut,
    CutsWhatIsTooLong,
    HasNoChecksum,
    WritesOverTheNewest,
    CannotGoOn,
    DoesNotSeeThatItIsFull,
    DoesNotSeeThatItIsGone,
}

/// Two slots, like those of a file store.
#[derive(Default)]
struct Disk {
    slots: [Vec<u8>; 2],
    owner: u32,
    is_full: bool,
    is_gone: bool,
    /// The power fails after so many bytes.
    power: Option<usize>,
    is_jammed: bool,
}

#[derive(Debug)]
struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refused")
    }
}

impl std::error::Error for Refused {}

struct Store {
    disk: Rc<RefCell<Disk>>,
    owner: u32,
    mistake: Mistake,
}

type Slot = Option<Result<(CheckpointId, u32, Vec<u8>), ()>>;

impl Store {
    fn read(&self, slot: usize) -> Slot {
        let disk = self.disk.borrow();
        let frame = &disk.slots[slot];
        if frame.is_empty() {
            return None;
        }
        let opened = envelope::open(frame, MAGIC);
        Some(match opened {
            Ok((revision, body)) => {
                let (id, bytes) = body.split_first_chunk().unwrap();
                Ok((CheckpointId(u64::from_le_bytes(*id)), revision, bytes.to_vec()))
            }
            Err(_) if self.mistake == Mistake::HasNoChecksum && frame.len() > HEADER_LEN + 8 => {
                let (id, bytes) = frame[HEADER_LEN..].split_first_chunk().unwrap();
                Ok((CheckpointId(u64::from_le_bytes(*id)), 0, bytes.to_vec()))
            }
            Err(_) => Err(()),
        })
    }

    fn latest(&self) -> Option<(usize, CheckpointId, u32)> {
        let slots = [0, 1].into_iter().filter_map(|slot| {
            let (id, revision, _) = self.read(slot)?.ok()?;
            Some((slot, id, revision))
        });
        slots.max_by_key(|(_, id, revision)| (*id, *revision))
    }

    fn load(&self) -> Result<Option<Loaded>, Refused> {
        if self.disk.borrow().is_gone {
            let mistaken = self.mistake == Mistake::DoesNotSeeThatItIsGone;
            return if mistaken { Ok(None) } else { Err(Refused) };
        }
        let damaged = [0, 1].into_iter().filter(|slot| matches!(self.read(*slot), Some(Err(()))));
        let mut damaged = damaged.count();
        if damaged > 0 && self.mistake == Mistake::ForgetsToFallBack {
            return Err(Refused);
        }
        let Some((slot, ..)) = self.latest() else {
            let tells = damaged > 0 && self.mistake != Mistake::IsSilentWhenAllIsLost;
            if self.mistake == Mistake::FindsSomethingNew {
                return Ok(Some(Loaded { id: CheckpointId(0), bytes: Vec::new(), damaged: 0 }));
            }
            return if tells { Err(Refused) } else { Ok(None) };
        };
        if self.mistake == Mistake::ForgetsToCount {
            damaged = 0;
        }
        let (id, _, mut bytes) = self.read(slot).unwrap().unwrap();
        if self.mistake == Mistake::DropsTheLastByte && bytes.len() > 255 {
            bytes.pop();
        }
        Ok(Some(Loaded { id, bytes, damaged }))
    }

    fn target(&self) -> usize {
        let Some((newest, ..)) = self.latest() else { return 0 };
        match self.mistake {
            Mistake::WritesOverTheNewest | Mistake::KeepsOne => newest,
            _ => 1 - newest,
        }
    }
}

impl CheckpointStore for Store {
    type Error = Refused;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Refused> {
        let mut bytes = bytes;
        if bytes.len() > LARGEST {
            match self.mistake {
                Mistake::CutsWhatIsTooLong => bytes = &bytes[..LARGEST],
                _ => return Err(Refused),
            }
        }
        if self.disk.borrow().owner != self.owner && self.mistake != Mistake::LetsAStaleOwnerSave {
            return Err(Refused);
        }
        let mut revision = 0;
        if let Some((_, latest, before)) = self.latest() {
            match self.mistake {
                Mistake::NeverReplaces if id == latest => return Ok(()),
                Mistake::LetsALowerOneWin if id < latest => self.disk.borrow_mut().slots[1].clear(),
                _ if id < latest => return Err(Refused),
                _ => {}
            }
            if id == latest {
                revision = before + 1;
            }
        }
        let target = self.target();
        let mut disk = self.disk.borrow_mut();
        if disk.is_gone || disk.is_jammed {
            return Err(Refused);
        }
        if disk.is_full {
            let mistaken = self.mistake == Mistake::DoesNotSeeThatItIsFull;
            return if mistaken { Ok(()) } else { Err(Refused) };
        }
        let mut frame = vec![0; HEADER_LEN];
        frame.extend_from_slice(&id.0.to_le_bytes());
        frame.extend_from_slice(bytes);
        envelope::seal(&mut frame, MAGIC, revision);
        let written = disk.power.unwrap_or(usize::MAX).min(frame.len());
        let is_torn = written < frame.len();
        let slot = &mut disk.slots[target];
        if is_torn && slot.is_empty() {
            // A new slot appears when it is complete.
            return Err(Refused);
        }
        slot.resize(slot.len().max(written), 0);
        slot[..written].copy_from_slice(&frame[..written]);
        if is_torn {
            disk.is_jammed = self.mistake == Mistake::CannotGoOn;
            return Err(Refused);
        }
        slot.truncate(written);
        if self.mistake == Mistake::LetsALowerOneWin {
            disk.slots[1 - target].clear();
        }
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Refused>> {
        let Some(mut found) = self.load()? else { return Ok(None) };
        if found.bytes.len() > buffer.len() {
            match self.mistake {
                Mistake::FillsTheBufferInPart if !buffer.is_empty() => {
                    found.bytes.truncate(buffer.len());
                }
                Mistake::NamesTheWrongSize => {
                    let needed = found.bytes.len() + 1;
                    return Err(LoadError::BufferTooSmall { needed });
                }
                _ => {}
            }
        }
        found.copy_into(buffer).map(Some)
    }
}

struct Shelf {
    disk: Rc<RefCell<Disk>>,
    mistake: Mistake,
}

impl Shelf {
    fn new(mistake: Mistake) -> Self {
        Self { disk: Rc::default(), mistake }
    }
}

impl Medium for Shelf {
    type Store = Store;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 2,
            durable: true,
            largest: Some(LARGEST),
            owners: Owners::FirstRefused,
            damages: true,
            survives_flips: true,
            tears: true,
            flips: true,
            fills: true,
            loads_when_full: true,
            vanishes: true,
        }
    }

    fn open(&mut self) -> Result<Store, Refused> {
        let mut disk = self.disk.borrow_mut();
        if disk.owner > 0 && self.mistake == Mistake::LocksOut {
            return Err(Refused);
        }
        disk.owner += 1;
        if self.mistake == Mistake::ForgetsWhenClosed {
            disk.slots = Default::default();
        }
        Ok(Store { disk: Rc::clone(&self.disk), owner: disk.owner, mistake: self.mistake })
    }

    fn damage_newest(&mut self) {
        let mut store = self.open().unwrap();
        store.mistake = Mistake::None;
        let (newest, ..) = store.latest().unwrap();
        self.disk.borrow_mut().slots[newest][HEADER_LEN - 1] ^= 1;
    }

    fn save_torn(&mut self, id: CheckpointId, bytes: &[u8], at: usize) -> bool {
        self.disk.borrow_mut().power = Some(at);
        let mut store = self.open().unwrap();
        let torn = futures_lite::future::block_on(store.save(id, bytes)).is_err();
        self.disk.borrow_mut().power = None;
        torn
    }

    fn image(&mut self) -> Image {
        let disk = self.disk.borrow();
        disk.slots.iter().map(|slot| ("slot".into(), slot.clone())).collect()
    }

    fn put_back(&mut self, image: &Image) {
        let mut disk = self.disk.borrow_mut();
        disk.slots = [image[0].1.clone(), image[1].1.clone()];
    }

    fn fill(&mut self) {
        self.disk.borrow_mut().is_full = true;
    }

    fn make_room(&mut self) {
        self.disk.borrow_mut().is_full = false;
    }

    fn take_away(&mut self) {
        self.disk.borrow_mut().is_gone = true;
    }

    fn bring_back(&mut self) {
        self.disk.borrow_mut().is_gone = false;
    }
}

#[test]
fn without_a_mistake_it_passes() {
    let report = check(|| Shelf::new(Mistake::None)).unwrap();
    assert_eq!((report.passed.len(), report.skipped.len()), (11, 0));
}

#[test]
fn every_mistake_is_reported() {
    let mistakes = [
        (Mistake::FindsSomethingNew, Check::Empty),
        (Mistake::LocksOut, Check::Empty),
        (Mistake::ForgetsWhenClosed, Check::RoundTrip),
        (Mistake::DropsTheLastByte, Check::RoundTrip),
        (Mistake::FillsTheBufferInPart, Check::Buffer),
        (Mistake::NamesTheWrongSize, Check::Buffer),
        (Mistake::NeverReplaces, Check::Ids),
        (Mistake::LetsALowerOneWin, Check::Ids),
        (Mistake::ForgetsToFallBack, Check::Retention),
        (Mistake::ForgetsToCount, Check::Retention),
        (Mistake::IsSilentWhenAllIsLost, Check::Retention),
        (Mistake::KeepsOne, Check::Retention),
        (Mistake::LetsAStaleOwnerSave, Check::Owners),
        (Mistake::CutsWhatIsTooLong, Check::Limit),
        (Mistake::HasNoChecksum, Check::Retention),
        (Mistake::WritesOverTheNewest, Check::Retention),
        (Mistake::CannotGoOn, Check::Torn),
        (Mistake::DoesNotSeeThatItIsFull, Check::Full),
        (Mistake::DoesNotSeeThatItIsGone, Check::Gone),
    ];
    for (mistake, expected) in mistakes {
        let violation = check(|| Shelf::new(mistake)).unwrap_err();
        assert_eq!(violation.check, expected, "{mistake:?}: {violation}");
    }
}

/// The same, on a medium that cannot be damaged on purpose: the remaining checks have to find the fault.
struct Undamaged(Shelf);

impl Medium for Undamaged {
    type Store = Store;

    fn capabilities(&self) -> Capabilities {
        Capabilities { damages: false, ..self.0.capabilities() }
    }

    fn open(&mut self) -> Result<Store, Refused> {
        self.0.open()
    }

    fn save_torn(&mut self, id: CheckpointId, bytes: &[u8], at: usize) -> bool {
        self.0.save_torn(id, bytes, at)
    }

    fn image(&mut self) -> Image {
        self.0.image()
    }

    fn put_back(&mut self, image: &Image) {
        self.0.put_back(image);
    }

    fn fill(&mut self) {
        self.0.fill();
    }

    fn make_room(&mut self) {
        self.0.make_room();
    }

    fn take_away(&mut self) {
        self.0.take_away();
    }

    fn bring_back(&mut self) {
        self.0.bring_back();
    }
}

#[test]
fn torn_and_flipped_bytes_are_found_by_themselves() {
    let mistakes = [
        (Mistake::ForgetsToFallBack, Check::Torn),
        (Mistake::HasNoChecksum, Check::Torn),
        (Mistake::WritesOverTheNewest, Check::Torn),
        (Mistake::ForgetsToCount, Check::Flipped),
    ];
    for (mistake, expected) in mistakes {
        let violation = check(|| Undamaged(Shelf::new(mistake))).unwrap_err();
        assert_eq!(violation.check, expected, "{mistake:?}: {violation}");
    }
}
