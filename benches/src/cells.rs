//! Requests that another task completes, with the same cheap machinery for every contender.
//!
//! A request takes a cell at its first poll, leaves its waker with the [`Responder`], and completes when its
//! cell says so. This costs one lock per request and one per batch of answers, and no allocation.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::workloads::Plain;

/// The order in which requests are completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// Half of the waiting requests, at random, in each run of the responder; none before the window has been
    /// full once.
    Random,
    /// All waiting requests, the latest first, once no more arrive.
    Reverse,
    /// All waiting requests, at random, once no more arrive.
    Shuffled,
}

const FREE: u8 = 0;
const ASKED: u8 = 1;
const DONE: u8 = 2;

/// Four times the largest capacity, so that a free cell is always near.
const CELLS: usize = 1 << 22;

static TABLE: [AtomicU8; CELLS] = [const { AtomicU8::new(FREE) }; CELLS];

static DESK: Mutex<Desk> =
    Mutex::new(Desk { waiting: Vec::new(), hand: 0, mask: 0, responder: None, random: 1 });

struct Desk {
    waiting: Vec<Waiting>,
    hand: usize,
    mask: usize,
    /// The waker of the responder while it sleeps.
    responder: Option<Waker>,
    random: u64,
}

struct Waiting {
    waker: Waker,
    cell: u32,
}

fn desk() -> MutexGuard<'static, Desk> {
    DESK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes room for `capacity` requests and forgets all earlier ones.
pub(crate) fn prepare(capacity: usize) {
    let cells = (4 * capacity).next_power_of_two();
    assert!(cells <= CELLS, "at most {} requests at once", CELLS / 4);
    TABLE.iter().take(cells).for_each(|cell| cell.store(FREE, Ordering::Relaxed));
    let mut desk = desk();
    desk.waiting.clear();
    desk.waiting.reserve(capacity);
    (desk.hand, desk.mask, desk.responder, desk.random) =
        (0, cells - 1, None, 0x2545_f491_4f6c_dd1d);
}

impl Desk {
    /// Takes the next free cell, which is within a step or two.
    #[inline]
    fn take_cell(&mut self) -> u32 {
        loop {
            self.hand = (self.hand + 1) & self.mask;
            if TABLE[self.hand].load(Ordering::Acquire) == FREE {
                TABLE[self.hand].store(ASKED, Ordering::Relaxed);
                return self.hand as u32;
            }
        }
    }

    /// A number below `bound` (xorshift, by Marsaglia).
    #[inline]
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((u128::from(self.random) * bound as u128) >> 64) as usize
    }
}

/// A request for `value`.
pub(crate) struct Asked {
    value: u64,
    cell: u32,
}

const NO_CELL: u32 = u32::MAX;

impl Asked {
    /// The first poll takes a cell.
    #[inline(always)]
    pub(crate) fn new(value: u64) -> Self {
        Self { value, cell: NO_CELL }
    }
}

impl Future for Asked {
    type Output = Plain;

    /// Keeps the waker of the first poll, because no contender changes a request's waker.
    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Plain> {
        if self.cell == NO_CELL {
            let waker = cx.waker().clone();
            let mut desk = desk();
            self.cell = desk.take_cell();
            desk.waiting.push(Waiting { waker, cell: self.cell });
            if let Some(responder) = desk.responder.take() {
                drop(desk);
                responder.wake();
            }
            return Poll::Pending;
        }
        let cell = &TABLE[self.cell as usize];
        if cell.load(Ordering::Acquire) != DONE {
            return Poll::Pending;
        }
        cell.store(FREE, Ordering::Release);
        Poll::Ready(Ok(self.value))
    }
}

/// Completes requests for ever, as a task beside the contender's task.
pub(crate) struct Responder {
    pick: Pick,
    /// The number of waiting requests in the last run.
    seen: usize,
    /// True if the window has been full once.
    was_full: bool,
    batch: Vec<Waker>,
}

impl Responder {
    /// A responder for at most `capacity` requests at once.
    pub(crate) fn new(pick: Pick, capacity: usize) -> Self {
        Self { pick, seen: 0, was_full: false, batch: Vec::with_capacity(capacity) }
    }

    fn pick(&mut self, desk: &mut Desk) {
        let waiting = desk.waiting.len();
        let waits = self.pick != Pick::Random || !self.was_full;
        if waits && std::mem::replace(&mut self.seen, waiting) != waiting {
            return; // more come
        }
        (self.seen, self.was_full) = (0, true);
        let at_random = match self.pick {
            Pick::Random => waiting.div_ceil(2),
            Pick::Shuffled => waiting,
            Pick::Reverse => {
                self.batch.extend(desk.waiting.drain(..).rev().map(answer));
                return;
            }
        };
        for _ in 0..at_random {
            let at = desk.below(desk.waiting.len());
            let picked = desk.waiting.swap_remove(at);
            self.batch.push(answer(picked));
        }
    }
}

#[inline]
fn answer(waiting: Waiting) -> Waker {
    TABLE[waiting.cell as usize].store(DONE, Ordering::Release);
    waiting.waker
}

impl Future for Responder {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut desk = desk();
        if desk.waiting.is_empty() {
            desk.responder = Some(cx.waker().clone());
            return Poll::Pending;
        }
        this.pick(&mut desk);
        drop(desk);
        this.batch.drain(..).for_each(Waker::wake);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
