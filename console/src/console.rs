//! The console: what it is told, and its life.

use std::fmt;
use std::mem;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use inflight_core::StageHandle;
use tokio::sync::oneshot;

use crate::error::ConsoleError;
use crate::history::rounded;
use crate::lamp::Lamp;
use crate::pipeline::PipelineReports;
use crate::server;
use crate::stage::WatchedStage;
use crate::state::{LampState, State};

/// The most stages, and the most pipelines, that have ended and are still shown.
const ENDED: usize = 20;

/// A console that is not served yet.
#[derive(Clone, Debug)]
#[must_use = "a console does nothing unless it is served"]
pub struct Console {
    title: String,
    anyone: bool,
}

impl Console {
    /// A console with this title on its page.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), anyone: false }
    }

    /// Permits any address, and requests for any host. Then everybody who can reach the address can look. There is no password and no
    /// encryption: put a proxy in front that has them.
    pub fn anyone(mut self) -> Self {
        self.anyone = true;
        self
    }

    /// Serves it, on a thread of its own, until the returned value is dropped. Port 0 stands for any that is free:
    /// [`address`](ServedConsole::address) tells it.
    ///
    /// # Errors
    ///
    /// [`ConsoleError::NotLoopback`] for an address that other machines can reach, unless [`anyone`](Self::anyone) permits it;
    /// [`ConsoleError::Listen`], for example when another program listens there; [`ConsoleError::Start`] when the system has no thread.
    pub fn serve(self, address: impl ToSocketAddrs) -> Result<ServedConsole, ConsoleError> {
        let addresses: Vec<_> = address.to_socket_addrs().map_err(ConsoleError::Listen)?.collect();
        let other = addresses.iter().find(|address| !address.ip().is_loopback());
        if let Some(other) = other.filter(|_| !self.anyone) {
            return Err(ConsoleError::NotLoopback(*other));
        }
        let listener = TcpListener::bind(&addresses[..]).map_err(ConsoleError::Listen)?;
        let address = listener.local_addr().map_err(ConsoleError::Listen)?;
        let shared = Arc::new(Shared::new(self.title, self.anyone));
        let (stop, stopped) = oneshot::channel();
        let thread = server::start(listener, Arc::clone(&shared), stopped);
        let thread = Some(thread.map_err(ConsoleError::Start)?);
        Ok(ServedConsole { address, shared, stop: Some(stop), thread })
    }
}

/// A console that is served: it is told what to show, at any time and from any thread. Dropping it ends its thread.
///
/// A name that is used again replaces what was shown under it.
pub struct ServedConsole {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Never sent: its end is what the thread waits for.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ServedConsole {
    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The page's address, for people.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Shows a stage. It stays, with its last numbers, when it has ended, until 20 stages have ended that were added after it.
    pub fn stage(&self, name: impl Into<String>, stage: StageHandle) {
        let stage = WatchedStage::new(name.into(), stage);
        put(&self.shared.stages, stage, |stage| &stage.name);
        forget(&self.shared.stages, |stage| stage.handle.has_ended());
    }

    /// Shows a pipeline's checkpoints, as the reports that are recorded tell of them. Like a stage it stays when it has ended.
    pub fn pipeline(&self, name: impl Into<String>) -> PipelineReports {
        let reports = PipelineReports::default();
        put(&self.shared.pipelines, (name.into(), reports.clone()), |entry| &entry.0);
        forget(&self.shared.pipelines, |entry| entry.1.has_ended());
        reports
    }

    /// Shows the state of something that the program depends on. `look` is called on the console's thread each time that somebody looks,
    /// so it must not block. One that panics is shown as down.
    pub fn lamp(&self, name: impl Into<String>, look: impl Fn() -> Lamp + Send + Sync + 'static) {
        let look: Look = Arc::new(look);
        put(&self.shared.lamps, (name.into(), look), |entry| &entry.0);
    }

    /// The text for `/metrics`, in Prometheus' format. `render` is called on the console's thread for each request, so it must not block.
    /// A request whose call panics is answered with status 500.
    pub fn metrics(&self, render: impl Fn() -> String + Send + Sync + 'static) {
        let old = lock(&self.shared.metrics).replace(Arc::new(render));
        drop(old); // not under the lock: it may own something that calls this console as it is dropped
    }
}

impl Drop for ServedConsole {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Not when the console's own thread drops it, in a lamp.
        if let Some(thread) =
            self.thread.take().filter(|own| own.thread().id() != thread::current().id())
        {
            let _ = thread.join(); // a panic has been reported on that thread
        }
    }
}

impl fmt::Debug for ServedConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServedConsole").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What the console's thread reads.
pub(crate) struct Shared {
    title: String,
    pub(crate) anyone: bool,
    started: Instant,
    stages: Mutex<Vec<WatchedStage>>,
    pipelines: Mutex<Vec<(String, PipelineReports)>>,
    lamps: Mutex<Vec<(String, Look)>>,
    metrics: Mutex<Option<Arc<dyn Fn() -> String + Send + Sync>>>,
}

type Look = Arc<dyn Fn() -> Lamp + Send + Sync>;

impl Shared {
    pub(crate) fn new(title: String, anyone: bool) -> Self {
        Self {
            title,
            anyone,
            started: Instant::now(),
            stages: Mutex::default(),
            pipelines: Mutex::default(),
            lamps: Mutex::default(),
            metrics: Mutex::default(),
        }
    }

    /// Takes note of the numbers of all stages and pipelines, once a second.
    pub(crate) fn sample(&self) {
        let now = Instant::now();
        lock(&self.stages).iter_mut().for_each(|stage| stage.sample(now));
        lock(&self.pipelines).iter().for_each(|(_, reports)| reports.sample());
    }

    /// Asks all stages for their windows, which are there a little later, unless a stage is held up.
    pub(crate) fn ask(&self) {
        for stage in lock(&self.stages).iter() {
            let _ = stage.handle.window();
        }
    }

    /// The state as JSON.
    pub(crate) fn state(&self) -> serde_json::Result<Vec<u8>> {
        // Not under a lock: a lamp may tell the console something.
        let lamps = lock(&self.lamps).clone();
        let lamps = lamps.iter().map(|(name, look)| lamp_state(name, call(&**look))).collect();
        let (stages, pipelines) = (lock(&self.stages), lock(&self.pipelines));
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        serde_json::to_vec(&State {
            title: &self.title,
            now: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            uptime: rounded(self.started.elapsed().as_secs_f64()),
            stages: stages.iter().map(WatchedStage::state).collect(),
            pipelines: pipelines.iter().map(|(name, reports)| reports.state(name)).collect(),
            lamps,
        })
    }

    /// The text for `/metrics`, if there is any.
    pub(crate) fn metrics(&self) -> Option<Result<String, Panicked>> {
        let render = lock(&self.metrics).clone();
        render.map(|render| call(&*render))
    }
}

/// A function of the program has panicked.
#[derive(Debug)]
pub(crate) struct Panicked;

/// Calls a function of the program, which may panic. The program's panic hook tells why.
fn call<T>(function: &(impl Fn() -> T + ?Sized)) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(function)).map_err(|_| Panicked)
}

fn lamp_state(name: &str, lamp: Result<Lamp, Panicked>) -> LampState<'_> {
    let (state, note) = match lamp {
        Ok(Lamp::Up) => ("up", String::new()),
        Ok(Lamp::Down(note)) => ("down", note),
        Ok(Lamp::Unknown) => ("unknown", String::new()),
        Err(Panicked) => ("down", "its function has panicked".into()),
    };
    LampState { name, state, note }
}

/// Adds an entry, in the place of the one with the same name, if there is one.
fn put<T>(entries: &Mutex<Vec<T>>, entry: T, name: impl Fn(&T) -> &String) {
    let mut entries = lock(entries);
    let old = match entries.iter_mut().find(|old| name(old) == name(&entry)) {
        Some(old) => Some(mem::replace(old, entry)),
        None => {
            entries.push(entry);
            None
        }
    };
    drop(entries);
    drop(old); // not under the lock: it may own something that calls this console as it is dropped
}

/// Forgets the first ones that have ended, if too many have: a program may make new ones for as long as it runs.
fn forget<T>(entries: &Mutex<Vec<T>>, has_ended: impl Fn(&T) -> bool) {
    let mut forgotten = Vec::new(); // dropped after the lock
    let mut entries = lock(entries);
    let ended = entries.iter().filter(|entry| has_ended(entry)).count();
    for _ in ENDED..ended {
        if let Some(first) = entries.iter().position(&has_ended) {
            forgotten.push(entries.remove(first));
        }
    }
}

/// A panic under a lock leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
