//! The status of the gateway, for the log, the view and the monitor.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use inflight::console::Lamp;
use inflight::{Metrics, StageHandle};

use crate::inbox::Inbox;
use crate::terminal::cells::Cells;

/// The servers of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    Mqtt,
    Postgres,
    Nats,
}

impl Server {
    pub const ALL: [Self; 3] = [Self::Mqtt, Self::Postgres, Self::Nats];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::Postgres => "postgres",
            Self::Nats => "nats",
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Link {
    /// `None` before the first result.
    fn is_up(&self) -> Option<bool> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.map(|_| self.is_up.load(Ordering::Relaxed))
    }
}

/// Shared by all parts of the gateway. Counters count from the start of this process.
#[derive(Debug)]
pub struct Status {
    began: Instant,
    /// Messages taken in.
    pub received: Counter,
    /// Repeated messages, which were skipped.
    pub repeated: Counter,
    /// Acknowledged messages.
    pub acknowledged: Counter,
    /// Messages with QoS 0 that were dropped for lack of room.
    pub refused: Counter,
    /// Readings in the stream.
    pub enriched: Counter,
    /// Dead letters in the stream.
    pub dead_lettered: Counter,
    /// Queries to the database that took too long.
    pub timeouts: Counter,
    checkpoints: Counter,
    checkpoint_bytes: AtomicU64,
    /// The time of the last checkpoint, in milliseconds since the start plus one; 0: none yet.
    checkpoint_at: AtomicU64,
    stage: OnceLock<StageHandle>,
    inbox: OnceLock<Arc<Inbox>>,
    links: [Link; 3],
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Link {
    is_up: AtomicBool,
    told: Mutex<Option<(bool, Instant)>>,
    /// Why the last operation that has failed did so.
    reason: Mutex<String>,
}

#[derive(Debug, Default)]
struct Log {
    /// The latest lines of the log, if the view shows them.
    kept: Option<VecDeque<String>>,
}

/// The numbers of one moment.
#[derive(Clone, Debug)]
pub struct Numbers {
    pub up_for: Duration,
    /// True if a server's last operation succeeded; `None` before the first one.
    pub servers: [(Server, Option<bool>); 3],
    pub received: u64,
    pub repeated: u64,
    pub acknowledged: u64,
    pub unacknowledged: u64,
    pub refused: u64,
    pub enriched: u64,
    pub dead_lettered: u64,
    pub timeouts: u64,
    pub checkpoints: u64,
    pub checkpoint_bytes: u64,
    pub checkpoint_age: Option<Duration>,
    pub stage: Metrics,
}

impl Numbers {
    /// In flight, and in no other state: these wait for a running slot.
    pub fn waiting(&self) -> u64 {
        self.stage.waiting()
    }
}

impl Status {
    /// The number of lines of the log that a large terminal may show.
    const KEPT_LINES: usize = 50;

    /// The log mentions a flapping server at most this often.
    const QUIET: Duration = Duration::from_secs(1);

    pub fn new() -> Self {
        Self {
            began: Instant::now(),
            received: Counter::default(),
            repeated: Counter::default(),
            acknowledged: Counter::default(),
            refused: Counter::default(),
            enriched: Counter::default(),
            dead_lettered: Counter::default(),
            timeouts: Counter::default(),
            checkpoints: Counter::default(),
            checkpoint_bytes: AtomicU64::new(0),
            checkpoint_at: AtomicU64::new(0),
            stage: OnceLock::new(),
            inbox: OnceLock::new(),
            links: Default::default(),
            log: Mutex::default(),
        }
    }

    pub fn watch_stage(&self, stage: StageHandle) {
        let _ = self.stage.set(stage);
    }

    pub fn watch_inbox(&self, inbox: Arc<Inbox>) {
        let _ = self.inbox.set(inbox);
    }

    /// Records that an operation of a server has succeeded.
    pub fn up(&self, server: Server) {
        self.set(server, true, &"");
    }

    /// Records that an operation of a server has failed.
    pub fn down(&self, server: Server, reason: &dyn Display) {
        self.set(server, false, reason);
    }

    fn set(&self, server: Server, is_up: bool, reason: &dyn Display) {
        let link = &self.links[server as usize];
        if !is_up {
            *link.reason.lock().unwrap_or_else(PoisonError::into_inner) = format!("{reason:#}");
        }
        link.is_up.store(is_up, Ordering::Relaxed);
        let mut told = link.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = told.is_none_or(|(was_up, at)| was_up != is_up && at.elapsed() > Self::QUIET);
        if is_news {
            *told = Some((is_up, Instant::now()));
            drop(told);
            match is_up {
                true => self.say(&format!("{}: up", server.name())),
                false => self.say(&format!("{}: down: {reason:#}", server.name())),
            }
        }
    }

    /// Whether a server is up, for the live page.
    pub fn lamp(&self, server: Server) -> Lamp {
        let link = &self.links[server as usize];
        match link.is_up() {
            None => Lamp::Unknown,
            Some(true) => Lamp::Up,
            Some(false) => {
                let reason = link.reason.lock().unwrap_or_else(PoisonError::into_inner);
                Lamp::Down(reason.clone())
            }
        }
    }

    pub fn checkpoint_saved(&self, bytes: usize) {
        self.checkpoints.add(1);
        self.checkpoint_bytes.store(bytes as u64, Ordering::Relaxed);
        self.checkpoint_at.store(millis(self.began.elapsed()) + 1, Ordering::Relaxed);
    }

    /// A line of the log.
    pub fn say(&self, text: &str) {
        let line = format!("[{:8.1}s] {text}", self.began.elapsed().as_secs_f64());
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut log.kept {
            None => eprintln!("{line}"),
            Some(kept) => {
                kept.push_back(line);
                if kept.len() > Self::KEPT_LINES {
                    kept.pop_front();
                }
            }
        }
    }

    /// Switches between keeping lines for the view and printing them. Returns the lines that were kept.
    pub fn keep_lines(&self, keep: bool) -> VecDeque<String> {
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        mem::replace(&mut log.kept, keep.then(VecDeque::new)).unwrap_or_default()
    }

    pub fn kept_lines(&self) -> Vec<String> {
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.kept.iter().flatten().cloned().collect()
    }

    /// The state of each reading in flight, oldest first.
    pub fn window(&self) -> Cells {
        self.stage.get().map(StageHandle::window).map_or_else(Cells::default, Cells::from)
    }

    pub fn numbers(&self) -> Numbers {
        let saved = self.checkpoint_at.load(Ordering::Relaxed).checked_sub(1);
        let up_for = self.began.elapsed();
        Numbers {
            up_for,
            servers: Server::ALL.map(|server| (server, self.links[server as usize].is_up())),
            received: self.received.value(),
            repeated: self.repeated.value(),
            acknowledged: self.acknowledged.value(),
            unacknowledged: self.inbox.get().map_or(0, |inbox| inbox.unacknowledged() as u64),
            refused: self.refused.value(),
            enriched: self.enriched.value(),
            dead_lettered: self.dead_lettered.value(),
            timeouts: self.timeouts.value(),
            checkpoints: self.checkpoints.value(),
            checkpoint_bytes: self.checkpoint_bytes.load(Ordering::Relaxed),
            checkpoint_age: saved.map(|at| up_for.saturating_sub(Duration::from_millis(at))),
            stage: self.stage.get().map(StageHandle::metrics).unwrap_or_default(),
        }
    }

    /// The counts of this run so far, in a line.
    pub fn summary(&self) -> impl Display {
        Summary(self.numbers())
    }
}

struct Summary(Numbers);

impl Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Numbers { received, repeated, enriched, dead_lettered, unacknowledged, .. } = self.0;
        let Numbers { timeouts, checkpoints, checkpoint_age, stage, .. } = &self.0;
        write!(
            f,
            "{received} messages taken in, {repeated} came again, {unacknowledged} unacknowledged; {} in \
             flight; {enriched} enriched, {dead_lettered} dead letters; {} retries, {timeouts} timeouts; \
             {checkpoints} checkpoints",
            stage.in_flight, stage.retried
        )?;
        checkpoint_age.map_or(Ok(()), |age| write!(f, ", the last {:.1} s old", age.as_secs_f64()))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
