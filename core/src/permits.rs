//! Permits that several stages share, so that one number bounds all their running requests (C9).
//!
//! A permit that is free costs one atomic exchange, and giving back costs one. A stage that finds none free gets in *line*, in a queue
//! without locks. Three rules keep the line moving:
//!
//! - [`Pool::serve`] gives free permits to the first in line. Every thread calls it after it has given permits back, raised
//!   the limit or got in line. All these accesses are sequentially consistent: of a thread that gives back and one that gets in line,
//!   at least one sees what the other has done, and serves.
//! - A permit is *granted*: it counts as in use from then on, so nobody can take it before the stage that was woken for it.
//! - A stage that is dropped, or wants no permit any more, gives a granted one back. Its place stays in the queue and is skipped.
//!
//! The loom tests below check this.

use alloc::sync::Arc;
use core::fmt;
use core::task::Waker;

use concurrent_queue::ConcurrentQueue;

use crate::config_error::ConfigError;
use crate::sync::Ordering::SeqCst;
use crate::sync::{AtomicUsize, AtomicWaker, is_empty, load};

/// A pool of permits for running requests, which several stages share: the stages of one service, or all partitions of a worker.
///
/// Give a clone to each stage ([`StageBuilder::permits`](crate::StageBuilder::permits)); clones are the same pool. A stage
/// holds a permit for each of its running requests, and starts no attempt without one. So no more requests run
/// in all these stages together than the pool has permits. Capacity and [`max_running`](crate::AsyncWait::max_running) bound each stage
/// as before.
///
/// - Waiting for a permit is not running: the record waits in the stage as it does below `max_running`, and no timeout counts (C5).
///   Barriers come through meanwhile (K11).
/// - A stage gives the permits of requests that have ended back at the end of its turn, which is at most 128 polls of requests long.
/// - The first stage that waits gets the first permit that comes free, and then gets in line again if it wants more: no stage starves,
///   however many requests another one has.
/// - A stage that ends or is dropped gives all its permits back, after its requests are dropped. Where requests run on tasks of their own
///   ([`spawn_requests`](crate::StageBuilder::spawn_requests), [`async_wait_parallel`](crate::ParallelExt::async_wait_parallel)), the tasks are
///   cancelled then, and one that is computing goes on until its next await. A stage that has panicked keeps its permits until it is dropped.
/// - Each stage must be polled whatever the others of the pool do. Where one stage is the source of another one and both are polled in
///   place, give each a pool of its own, or spawn the first. With one pool the two can stand still: the second is full and waits for a
///   permit, so it does not poll the first, whose requests hold all permits.
///
/// ```
/// use std::cell::Cell;
/// use std::task::{Context, Waker};
///
/// use futures_core::Stream;
/// use futures_lite::stream;
/// use inflight_core::{AsyncWait, AsyncWaitExt, Permits};
/// # use inflight_core::{Instant, NoRuntime, Runtime, Timer};
/// # use std::{pin::{Pin, pin}, task::Poll};
/// # #[derive(Clone, Copy)] struct Still;
/// # impl Runtime for Still { type Timer = Self; fn timer(&self) -> Result<Self, NoRuntime> { Ok(Self) } }
/// # impl Timer for Still {
/// #     fn now(&self) -> Instant { Instant::ZERO }
/// #     fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}
/// #     fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> { Poll::Pending }
/// # }
/// # let runtime = Still;
/// let started = Cell::new(0);
/// let ask = |_: &u32| {
///     started.set(started.get() + 1);
///     std::future::pending::<Result<u32, ()>>() // it is never answered
/// };
/// let pool = Permits::new(30)?;
/// let stage = || stream::iter(0..).async_wait(AsyncWait::ordered(20), ask).permits(&pool).in_place(runtime);
/// let (mut first, mut second) = (stage()?, stage()?);
///
/// let mut cx = Context::from_waker(Waker::noop());
/// for _ in 0..2 { // an executor would poll them when they are woken
///     assert!(Pin::new(&mut first).poll_next(&mut cx).is_pending());
///     assert!(Pin::new(&mut second).poll_next(&mut cx).is_pending());
/// }
/// assert_eq!((started.get(), pool.in_use()), (30, 30)); // 20 and 10
///
/// drop(first);
/// assert!(Pin::new(&mut second).poll_next(&mut cx).is_pending());
/// assert_eq!((started.get(), pool.in_use()), (40, 20));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// **A stage in place makes progress only while it is polled**, and keeps its permits until then. So do not put it in front of
/// another stage of the same pool, which does not poll its source while it is full: the one would wait for a permit and the
/// other for a poll. Start it on a task of its own ([`spawn`](crate::StageBuilder::spawn)), or give each its own pool.
#[derive(Clone)]
pub struct Permits(Arc<Pool>);

impl Permits {
    /// A pool of so many permits.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ZeroPermits`] for zero: no request could ever run.
    pub fn new(permits: usize) -> Result<Self, ConfigError> {
        check(permits)?;
        Ok(Self(Arc::new(Pool {
            limit: AtomicUsize::new(permits),
            in_use: AtomicUsize::new(0),
            line: ConcurrentQueue::unbounded(),
        })))
    }

    /// Changes the number of permits. A lower number takes effect as requests end; none is cancelled.
    ///
    /// # Errors
    ///
    /// [`ConfigError::ZeroPermits`] for zero. Nothing has changed then.
    pub fn set_limit(&self, permits: usize) -> Result<(), ConfigError> {
        check(permits)?;
        self.0.limit.swap(permits, SeqCst);
        self.0.serve();
        Ok(())
    }

    /// The number of permits.
    pub fn limit(&self) -> usize {
        self.0.limit.load(SeqCst)
    }

    /// Permits in use: those of running requests, and those granted to a stage that was woken and has not been polled since. Above the
    /// [limit](Self::limit) only after that was lowered.
    pub fn in_use(&self) -> usize {
        self.0.in_use.load(SeqCst)
    }

    /// A new member, which holds no permit.
    pub(crate) fn join(&self) -> Member {
        Member { pool: Arc::clone(&self.0), place: Arc::new(Place::new()), held: 0 }
    }
}

fn check(permits: usize) -> Result<(), ConfigError> {
    if permits == 0 { Err(ConfigError::ZeroPermits) } else { Ok(()) }
}

impl fmt::Debug for Permits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut permits = f.debug_struct("Permits");
        permits
            .field("limit", &self.limit())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

/// One stage's part in a pool. When it is dropped, its permits go back.
pub(crate) struct Member {
    pool: Arc<Pool>,
    place: Arc<Place>,
    held: usize,
}

impl Member {
    /// Gets one permit above those of the `running` requests. If this returns `false`, `waker` is woken when there may be one.
    pub(crate) fn acquire(&mut self, running: usize, waker: &Waker) -> bool {
        if self.held > running {
            if is_empty(&self.pool.line) {
                return true;
            }
            self.keep(running); // those in line have waited longer
        }
        let has_one = self.take(waker);
        self.held += usize::from(has_one);
        has_one
    }

    /// Gives back all permits but those of the `running` requests.
    pub(crate) fn keep(&mut self, running: usize) {
        let surplus = self.held.saturating_sub(running);
        if surplus > 0 {
            self.held -= surplus;
            self.pool.give_back(surplus);
        }
    }

    /// Wants no further permit now.
    pub(crate) fn leave_line(&mut self) {
        if self.place.change(WAITING, LEFT) == Err(GRANTED) {
            self.place.state.swap(AWAY, SeqCst);
            self.pool.give_back(1);
        }
    }

    fn take(&self, waker: &Waker) -> bool {
        let state = load(&self.place.state);
        // Nobody in line is overtaken.
        if state == AWAY && is_empty(&self.pool.line) && self.pool.take() {
            return true;
        }
        if state != GRANTED {
            self.place.waker.register(waker);
            self.get_in_line();
        }
        // Also in line: a grant from before the registration has woken an earlier waker, or none.
        self.place.change(GRANTED, AWAY).is_ok()
    }

    fn get_in_line(&self) {
        // The place may still be in the queue, from an earlier time.
        if self.place.change(LEFT, WAITING).is_ok() || self.place.change(AWAY, WAITING).is_err() {
            return;
        }
        let pushed = self.pool.line.push(Arc::clone(&self.place));
        debug_assert!(pushed.is_ok(), "the queue has no bound and is never closed");
        self.pool.serve();
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.leave_line();
        self.keep(0);
    }
}

struct Pool {
    limit: AtomicUsize,
    /// Permits that members hold, or that were granted to them; for a moment also one that [`Pool::serve`] is about to grant.
    in_use: AtomicUsize,
    /// Places of members that wait, the first one first, each at most once. Those that have left the line are skipped.
    line: ConcurrentQueue<Arc<Place>>,
}

impl Pool {
    /// Takes a permit if one is free.
    fn take(&self) -> bool {
        let mut in_use = load(&self.in_use);
        while in_use < load(&self.limit) {
            match self.in_use.compare_exchange(in_use, in_use + 1, SeqCst, SeqCst) {
                Ok(_) => return true,
                Err(current) => in_use = current,
            }
        }
        false
    }

    fn give_back(&self, permits: usize) {
        self.in_use.fetch_sub(permits, SeqCst);
        self.serve();
    }

    /// Grants free permits to the first in line.
    fn serve(&self) {
        while !is_empty(&self.line) && self.take() {
            match self.line.pop() {
                Ok(place) if place.grant() => place.waker.wake(),
                // It has left the line, or another thread has served it. The loop looks again, as after any permit that is given back.
                _ => _ = self.in_use.fetch_sub(1, SeqCst),
            }
        }
    }
}

/// A member's place in line.
struct Place {
    state: AtomicUsize,
    waker: AtomicWaker,
}

/// It is not in the queue.
const AWAY: usize = 0;
/// It is in the queue, or was just taken out of it to be granted a permit.
const WAITING: usize = 1;
/// The same, but its member wants no permit any more.
const LEFT: usize = 2;
/// It is not in the queue, and has a permit that its member has not taken yet.
const GRANTED: usize = 3;

impl Place {
    fn new() -> Self {
        Self { state: AtomicUsize::new(AWAY), waker: AtomicWaker::new() }
    }

    /// Changes the state if it is this one; the error is another one.
    fn change(&self, from: usize, to: usize) -> Result<usize, usize> {
        self.state.compare_exchange(from, to, SeqCst, SeqCst)
    }

    /// Grants a permit to a place that was taken out of the queue. Returns whether its member still wants it.
    fn grant(&self) -> bool {
        loop {
            if self.change(WAITING, GRANTED).is_ok() {
                return true;
            }
            if self.change(LEFT, AWAY).is_ok() {
                return false;
            }
        }
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test -p inflight-core --features alloc --lib --release loom`
#[cfg(all(test, loom))]
mod loom_tests {
    use core::task::Poll;

    use loom::future::block_on;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    use super::*;

    /// All interleavings with at most three preemptions: one more than suffices to lose a wake-up.
    fn model(run: impl Fn() + Send + Sync + 'static) {
        crate::sync::model(3, run);
    }

    /// Waits for a permit, as a stage does. loom reports a deadlock if its wake-up is lost.
    fn wait(member: &mut Member) {
        block_on(core::future::poll_fn(|cx| match member.acquire(0, cx.waker()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }));
    }

    /// Uses a permit so many times, on a thread of its own.
    fn work(pool: &Permits, running: &Arc<AtomicUsize>, times: usize) -> thread::JoinHandle<()> {
        let (mut member, running) = (pool.join(), Arc::clone(running));
        thread::spawn(move || {
            for _ in 0..times {
                wait(&mut member);
                assert_eq!(running.fetch_add(1, SeqCst), 0, "two requests run with one permit");
                running.fetch_sub(1, SeqCst);
                member.keep(0);
            }
        })
    }

    // C9, L6
    #[test]
    fn loom_a_permit_goes_to_and_fro() {
        model(|| {
            let (pool, running) = (Permits::new(1).unwrap(), Arc::new(AtomicUsize::new(0)));
            let threads = [work(&pool, &running, 2), work(&pool, &running, 1)];
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(pool.in_use(), 0);
        });
    }

    // C9, L6
    #[test]
    fn loom_three_members_share_a_permit() {
        model(|| {
            let (pool, running) = (Permits::new(1).unwrap(), Arc::new(AtomicUsize::new(0)));
            let threads = [work(&pool, &running, 1), work(&pool, &running, 1)];
            work(&pool, &running, 1).join().unwrap();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(pool.in_use(), 0);
        });
    }

    // C9, L2: a member that is dropped in line passes its turn on, also when it has just been granted the permit; and so does one
    // that has left the line, which may get in line again.
    #[test]
    fn loom_a_turn_is_passed_on() {
        for (is_dropped, comes_back) in [(true, false), (false, false), (false, true)] {
            model(move || {
                let pool = Permits::new(1).unwrap();
                let (mut holder, mut leaver, mut last) = (pool.join(), pool.join(), pool.join());
                wait(&mut holder);
                assert!(!leaver.acquire(0, Waker::noop()));
                let back = thread::spawn(move || drop(holder));
                let leaving = thread::spawn(move || {
                    leaver.leave_line();
                    if comes_back {
                        wait(&mut leaver);
                        leaver.keep(0);
                    }
                    (!is_dropped).then_some(leaver) // lives on, and holds nothing
                });
                wait(&mut last);
                drop(last);
                back.join().unwrap();
                let leaver = leaving.join().unwrap();
                assert_eq!(pool.in_use(), 0);
                drop(leaver);
            });
        }
    }

    // C9: a permit that is given back belongs to the first in line, and nobody overtakes it.
    #[test]
    fn loom_nobody_is_overtaken() {
        model(|| {
            let pool = Permits::new(1).unwrap();
            let (mut holder, mut first, mut second) = (pool.join(), pool.join(), pool.join());
            wait(&mut holder);
            assert!(!first.acquire(0, Waker::noop()));
            let back = thread::spawn(move || drop(holder));
            assert!(!second.acquire(0, Waker::noop()));
            back.join().unwrap();
            assert!(first.acquire(0, Waker::noop()));
        });
    }

    // C9, C8: a higher limit reaches a member that gets in line at that moment.
    #[test]
    fn loom_a_higher_limit_is_seen() {
        model(|| {
            let pool = Permits::new(1).unwrap();
            let (mut holder, mut second) = (pool.join(), pool.join());
            wait(&mut holder);
            let other = pool.clone();
            let raise = thread::spawn(move || other.set_limit(2).unwrap());
            wait(&mut second);
            raise.join().unwrap();
            assert_eq!(pool.in_use(), 2);
        });
    }
}
