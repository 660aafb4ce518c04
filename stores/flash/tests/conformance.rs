//! The suite for all stores, over an emulated chip that requires an erase before a write.

use std::cell::RefCell;
use std::rc::Rc;

use embedded_storage_async::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};
use futures_lite::future::block_on;
use inflight_core::{CheckpointId, CheckpointStore};
use inflight_store_conformance::{Capabilities, Check, Image, Medium, Owners, check};
use inflight_store_flash::{FlashStore, FlashStoreError};

const PAGE: usize = 512;
const PAGES: usize = 4;
const WORD: usize = 4;

#[derive(Debug)]
struct Cells {
    bytes: Vec<u8>,
    /// Written since the last erase, by word: none may be written twice.
    written: Vec<bool>,
    /// The power fails after so many bytes were written or erased.
    power: Option<usize>,
    is_gone: bool,
}

impl Cells {
    /// True if there is power for one more byte.
    fn step(&mut self) -> Result<(), NorFlashErrorKind> {
        match &mut self.power {
            Some(0) => return Err(NorFlashErrorKind::Other),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(())
    }

    fn is_on(&self) -> Result<(), NorFlashErrorKind> {
        let is_off = self.is_gone || self.power == Some(0);
        if is_off { Err(NorFlashErrorKind::Other) } else { Ok(()) }
    }
}

#[derive(Clone, Debug)]
struct Flash(Rc<RefCell<Cells>>);

fn check_range(offset: u32, len: usize, unit: usize) -> Result<(), NorFlashErrorKind> {
    if offset as usize + len > PAGE * PAGES {
        return Err(NorFlashErrorKind::OutOfBounds);
    }
    let is_aligned = (offset as usize).is_multiple_of(unit) && len.is_multiple_of(unit);
    if is_aligned { Ok(()) } else { Err(NorFlashErrorKind::NotAligned) }
}

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    async fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_range(offset, bytes.len(), Self::READ_SIZE)?;
        let cells = self.0.borrow();
        cells.is_on()?;
        bytes.copy_from_slice(&cells.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        PAGE * PAGES
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = PAGE;

    async fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_range(from, (to - from) as usize, PAGE)?;
        let mut cells = self.0.borrow_mut();
        cells.is_on()?;
        for at in from as usize..to as usize {
            cells.step()?;
            cells.bytes[at] = 0xff;
            cells.written[at / WORD] = false;
        }
        Ok(())
    }

    async fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_range(offset, bytes.len(), WORD)?;
        let mut cells = self.0.borrow_mut();
        cells.is_on()?;
        let first = offset as usize / WORD;
        let is_blank = !cells.written[first..first + bytes.len() / WORD].contains(&true);
        assert!(is_blank, "written twice without an erase, from {offset} on");
        for (at, byte) in (offset as usize..).zip(bytes) {
            cells.step()?;
            // A write clears bits and never sets one. A word counts as blank if the power cut has left no
            // visible trace in it.
            cells.bytes[at] &= byte;
            cells.written[at / WORD] |= *byte != 0xff;
        }
        Ok(())
    }
}

struct Chip(Flash);

impl Chip {
    fn new() -> Self {
        let (bytes, written) = (vec![0xff; PAGE * PAGES], vec![false; PAGE * PAGES / WORD]);
        Self(Flash(Rc::new(RefCell::new(Cells { bytes, written, power: None, is_gone: false }))))
    }
}

type Store = FlashStore<Flash, 2048>;

impl Medium for Chip {
    type Store = Store;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 2,
            durable: true,
            largest: Some(Store::LARGEST),
            owners: Owners::Unchecked,
            damages: true,
            survives_flips: true,
            tears: true,
            flips: true,
            // A save overwrites the oldest checkpoint, so the medium is never full.
            fills: false,
            loads_when_full: false,
            vanishes: true,
        }
    }

    fn open(&mut self) -> Result<Store, FlashStoreError> {
        FlashStore::new(self.0.clone(), 0..(PAGE * PAGES) as u32)
    }

    /// The last byte of the newest intact checkpoint.
    fn damage_newest(&mut self) {
        let newest = block_on(self.open().unwrap().load_latest()).unwrap().unwrap();
        let mut wanted = newest.id.0.to_le_bytes().to_vec();
        wanted.extend_from_slice(&newest.bytes);
        let mut cells = self.0.0.borrow_mut();
        let at = cells.bytes.windows(wanted.len()).rposition(|window| window == wanted).unwrap();
        cells.bytes[at + wanted.len() - 1] ^= 1;
    }

    fn save_torn(&mut self, id: CheckpointId, bytes: &[u8], at: usize) -> bool {
        let mut store = self.open().unwrap();
        self.0.0.borrow_mut().power = Some(at);
        let saved = block_on(store.save(id, bytes));
        let left = self.0.0.borrow_mut().power.take();
        assert!(saved.is_ok() || left == Some(0), "{saved:?}");
        left == Some(0)
    }

    fn image(&mut self) -> Image {
        vec![("chip".into(), self.0.0.borrow().bytes.clone())]
    }

    fn put_back(&mut self, image: &Image) {
        let mut cells = self.0.0.borrow_mut();
        cells.bytes.clone_from(&image[0].1);
        // A single flipped bit is not a write.
        let zeros = |word: &[u8]| word.iter().map(|byte| byte.count_zeros()).sum::<u32>();
        let is_written = |word: &[u8]| zeros(word) > 1;
        cells.written = cells.bytes.chunks(WORD).map(is_written).collect();
    }

    fn take_away(&mut self) {
        self.0.0.borrow_mut().is_gone = true;
    }

    fn bring_back(&mut self) {
        self.0.0.borrow_mut().is_gone = false;
    }
}

// K9
#[test]
fn a_chip_that_fails() {
    let report = check(Chip::new).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [Check::Owners, Check::Full]);
}

// K9
#[test]
fn a_range_that_is_no_store_is_refused() {
    let flash = Chip::new().0;
    for range in [0..0, 0..1536, 100..2048, 0..2000] {
        let refused = FlashStore::<_, 2048>::new(flash.clone(), range.clone()).unwrap_err();
        assert_eq!(refused, FlashStoreError::Range, "{range:?}");
    }
}
