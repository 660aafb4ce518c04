//! The state that a stage on a task of its own shares with its handles, which watch and steer it.

use alloc::sync::Arc;
use core::fmt;
use core::sync::atomic::Ordering;
use core::task::Waker;
use core::time::Duration;

use super::window::{PublishedWindow, Window};
use crate::config_error::ConfigError;
use crate::operator::Metrics;
use crate::policy::{check_capacity, check_max_running};
use crate::sync::{AtomicBool, AtomicUsize};

/// Where the hardware has no 64-bit atomics, numbers are published modulo 2^32.
#[cfg(target_has_atomic = "64")]
type Number = core::sync::atomic::AtomicU64;
#[cfg(not(target_has_atomic = "64"))]
type Number = core::sync::atomic::AtomicUsize;

/// Watches and steers a stage on a task of its own, from anywhere: it can be cloned and sent. Got from
/// [`SpawnedStage::handle`](crate::SpawnedStage::handle). It does not keep the stage alive.
///
/// ```
/// use core::time::Duration;
/// use inflight_core::{ConfigError, StageHandle};
///
/// /// One line for a person or a scraper.
/// fn status(stage: &StageHandle) -> String {
///     let now = stage.metrics();
///     let slow = now.call_time.quantile(0.99);
///     format!("{} of {} in flight, {} failed, p99 below {slow:?}", now.in_flight, now.capacity, now.failed)
/// }
///
/// /// Carries out a command that somebody has typed.
/// fn command(stage: &StageHandle, line: &str) -> Result<(), ConfigError> {
///     match line.split_once(' ').unwrap_or((line, "")) {
///         ("capacity", n) => stage.set_capacity(n.parse().unwrap_or(0))?, // refuses 0
///         ("running", n) => stage.set_max_running(n.parse().unwrap_or(0))?,
///         ("pause", _) => stage.pause(),
///         ("resume", _) => stage.resume(),
///         ("stop", "") => stage.stop(), // and go on taking outcomes until the stream ends
///         ("stop", _) => stage.stop_within(Duration::from_secs(30)),
///         _ => {}
///     }
///     Ok(())
/// }
/// # let _ = (status, command);
/// ```
#[derive(Clone)]
pub struct StageHandle {
    controls: Arc<Controls>,
    stage: Waker,
}

impl StageHandle {
    pub(crate) fn new(controls: Arc<Controls>, stage: Waker) -> Self {
        Self { controls, stage }
    }

    /// The stage's numbers as of its last turn, which may be long ago if the stage sleeps; the histograms and the age of the oldest
    /// record may be some 50 ms older, and the more, the more records are in flight: half a second with 100,000, five seconds with a
    /// million and more. Reads memory and nothing else.
    pub fn metrics(&self) -> Metrics {
        self.controls.metrics()
    }

    /// What each record in flight does (M2): as of the stage's first turn after the call before this one. Each call asks for a new
    /// window and wakes the stage, and the first call returns an empty one. So a program that draws windows calls it as often as it
    /// draws. Nobody pays for windows that nobody asks for.
    ///
    /// With more than 10,000 records in flight, a stage that is not ordered publishes windows as often as histograms
    /// ([`metrics`](Self::metrics)), since it has to look at each record for one. Nothing is in the window of a stage that has ended.
    pub fn window(&self) -> Window {
        if self.has_ended() {
            return Window::default();
        }
        let window = self.controls.window.read();
        self.controls.window.want();
        self.stage.wake_by_ref();
        window
    }

    /// Whether the stage's task has ended: the stream has come to its end, or was dropped, or the task has panicked or was cancelled.
    /// Then the numbers are the last ones that the stage has published. Its consumer may still have outcomes to take.
    pub fn has_ended(&self) -> bool {
        self.controls.has_ended.load(Ordering::Acquire)
    }

    /// Changes how many records may be in flight. A lower capacity takes effect as records leave.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero, or more than the policy's
    /// [`max_capacity`](crate::AsyncWait::max_capacity).
    pub fn set_capacity(&self, capacity: usize) -> Result<(), ConfigError> {
        check_capacity(capacity, self.controls.max_capacity)?;
        self.send(&self.controls.capacity, capacity);
        Ok(())
    }

    /// Changes how many attempts may run at once. A lower limit takes effect as attempts end.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] when it is zero.
    pub fn set_max_running(&self, attempts: usize) -> Result<(), ConfigError> {
        check_max_running(attempts)?;
        self.send(&self.controls.max_running, attempts);
        Ok(())
    }

    /// Starts no attempt until [`resume`](Self::resume) is called (A2). Attempts that run go on, and records are taken in while there is
    /// room. No retry is used up, and the time of no call passes whose attempt is not running.
    ///
    /// A paused stage ends by [`stop`](Self::stop) only when it is resumed, if records wait for an attempt;
    /// [`stop_within`](Self::stop_within) ends it without.
    pub fn pause(&self) {
        self.send(&self.controls.pause, PAUSE);
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.send(&self.controls.pause, RESUME);
    }

    /// Takes no more input. Calls in flight finish, their outcomes come out, and the stream ends (L3).
    ///
    /// The source is dropped, and with a channel everything that it has accepted and the stage has not taken:
    /// [`lend`](crate::AsyncWaitExt::lend) it to take it back.
    pub fn stop(&self) {
        self.send(&self.controls.stop, NO_LIMIT);
    }

    /// The same within `limit` (to the millisecond, rounded up): calls that have no outcome by then fail
    /// with [`Failure::ShutDown`](crate::Failure::ShutDown).
    pub fn stop_within(&self, limit: Duration) {
        let millis = limit.as_nanos().div_ceil(1_000_000);
        let millis = usize::try_from(millis).unwrap_or(NO_LIMIT).min(NO_LIMIT - 2);
        self.send(&self.controls.stop, millis + 1);
    }

    fn send(&self, command: &AtomicUsize, value: usize) {
        // Stored before the wake-up: the turn that follows the wake-up sees it.
        command.store(value, Ordering::Release);
        self.stage.wake_by_ref();
    }
}

impl fmt::Debug for StageHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageHandle").field("metrics", &self.metrics()).finish_non_exhaustive()
    }
}

/// The value of [`Controls::stop`] for a stop without a limit. Zero stands for no command, so a limit is stored as its milliseconds
/// plus one.
const NO_LIMIT: usize = usize::MAX;

/// The values of [`Controls::pause`].
const PAUSE: usize = 1;
const RESUME: usize = 2;

/// What the two sides share. In the four fields for commands zero means that there is none. The stage takes a command by storing zero.
pub(crate) struct Controls {
    numbers: [Number; Metrics::NUMBERS],
    pub(super) window: PublishedWindow,
    has_ended: AtomicBool,
    max_capacity: usize,
    capacity: AtomicUsize,
    max_running: AtomicUsize,
    pause: AtomicUsize,
    stop: AtomicUsize,
}

/// A command from a handle to the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Capacity(usize),
    MaxRunning(usize),
    Pause,
    Resume,
    Stop(Option<Duration>),
}

impl Controls {
    pub(crate) fn metrics(&self) -> Metrics {
        Metrics::from_numbers(&core::array::from_fn(|at| {
            #[allow(clippy::useless_conversion)] // not where numbers have 32 bits
            u64::try_from(self.numbers[at].load(Ordering::Relaxed)).unwrap_or(u64::MAX)
        }))
    }

    pub(crate) fn new(max_capacity: usize) -> Self {
        Self {
            numbers: core::array::from_fn(|_| Number::new(0)),
            window: PublishedWindow::new(max_capacity),
            has_ended: AtomicBool::new(false),
            max_capacity,
            capacity: AtomicUsize::new(0),
            max_running: AtomicUsize::new(0),
            pause: AtomicUsize::new(0),
            stop: AtomicUsize::new(0),
        }
    }

    /// The stage's task has ended.
    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    /// Takes a command that has not been carried out.
    #[inline]
    pub(crate) fn next_command(&self) -> Option<Command> {
        // Looks first, since in nearly all turns there is none, and a swap is dear.
        let taken = |command: &AtomicUsize| match command.load(Ordering::Relaxed) {
            0 => 0,
            _ => command.swap(0, Ordering::Acquire),
        };
        if let capacity @ 1.. = taken(&self.capacity) {
            return Some(Command::Capacity(capacity));
        }
        if let attempts @ 1.. = taken(&self.max_running) {
            return Some(Command::MaxRunning(attempts));
        }
        match taken(&self.pause) {
            PAUSE => return Some(Command::Pause),
            RESUME => return Some(Command::Resume),
            _ => {}
        }
        match taken(&self.stop) {
            0 => None,
            NO_LIMIT => Some(Command::Stop(None)),
            millis => Some(Command::Stop(Some(Duration::from_millis(millis as u64 - 1)))),
        }
    }

    /// Publishes the numbers: all of them, or without `all` only those that cost little, which are the ones outside of the histograms,
    /// but for the age of the oldest record.
    #[inline]
    pub(crate) fn publish(&self, metrics: &Metrics, all: bool) {
        // One by one: a reader may see some numbers of this moment and some of the one before (M1).
        let (scalars, counts) = self.numbers.split_at(Metrics::SCALARS);
        for (at, (published, number)) in scalars.iter().zip(metrics.scalars()).enumerate() {
            if all || at != Metrics::OLDEST {
                published.store(number as _, Ordering::Relaxed);
            }
        }
        if all {
            for (published, count) in counts.iter().zip(metrics.counts()) {
                published.store(count as _, Ordering::Relaxed);
            }
        }
    }
}
