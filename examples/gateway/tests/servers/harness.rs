//! Real servers for the tests, and the program that they test.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Stopping a server affects all tests, so one test runs at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The servers of this process, while a test uses them.
static SERVERS: Mutex<Weak<Servers>> = Mutex::new(Weak::new());

/// Longer than any step takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// The three servers, on ports of their own, with their data in a folder of their own.
#[derive(Debug)]
pub struct Servers {
    folder: tempfile::TempDir,
    pub mqtt: SocketAddr,
    pub postgres: SocketAddr,
    pub nats: SocketAddr,
}

/// A test's turn to use the servers.
pub struct Turn {
    pub servers: Arc<Servers>,
    _turn: MutexGuard<'static, ()>,
}

/// Waits for its turn. `None`, with a message, if the servers are not available.
pub fn turn() -> Option<Turn> {
    let servers = servers();
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let servers = servers?;
    servers.up(); // the previous test may have failed half-way
    Some(Turn { servers, _turn: turn })
}

fn servers() -> Option<Arc<Servers>> {
    let mut known = SERVERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(servers) = known.upgrade() {
        return Some(servers);
    }
    // Outside of the target folder, which another user, such as PostgreSQL's, may not be able to enter.
    let folder = tempfile::tempdir().expect("a folder");
    open_to_all(folder.path());
    let (mqtt, postgres, nats) = (free_port(), free_port(), free_port());
    let servers = Servers { folder, mqtt, postgres, nats };
    if !servers.up() {
        skipped();
        return None;
    }
    let servers = Arc::new(servers);
    *known = Arc::downgrade(&servers);
    Some(servers)
}

/// Without `eprintln`, because the output of a test that passes is not shown.
pub fn skipped() {
    let _ = writeln!(io::stderr(), "\nSKIPPED: the servers are not there\n");
}

#[cfg(unix)]
pub fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("permissions");
}

/// A free port below those of outgoing connections: a client that tries again and again to connect to such a
/// port, while no server listens there, finally gets it as its own port and connects to itself.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = process::id() as u16 % 10_000;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

impl Servers {
    /// Starts the servers that do not run; `false` if they are not installed.
    pub fn up(&self) -> bool {
        let status = self.script("up").status().expect("a shell");
        match status.code() {
            Some(0) => true,
            Some(77) => false,
            _ => panic!("the servers do not start: {status}"),
        }
    }

    /// Stops one of them.
    pub fn down(&self, server: &str) {
        let status = self.script("down").arg(server).status().expect("a shell");
        assert!(status.success(), "{server} does not stop");
    }

    /// Sends a signal to one of them.
    pub fn signal(&self, server: &str, signal: &str) {
        let id = fs::read_to_string(self.folder.path().join(server).with_extension("pid"));
        kill(signal, id.expect("it runs").trim());
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
        command
            .arg(self.folder.path())
            .env("MQTT_PORT", self.mqtt.port().to_string())
            .env("POSTGRES_PORT", self.postgres.port().to_string())
            .env("NATS_PORT", self.nats.port().to_string())
            .env("GATEWAY_NO_INSTALL", "1")
            .stdout(Stdio::null());
        command
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        let _ = self.script("down").status();
    }
}

/// A gateway's name and folder, the readings published to it, and the options of both.
pub struct Job<'s> {
    servers: &'s Servers,
    name: &'static str,
    data: tempfile::TempDir,
    pub readings: u64,
    pub rate: u64,
    pub options: Vec<&'static str>,
}

/// The output of `--check`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    pub published: u64,
    pub enriched: u64,
    pub dead: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub wrong: u64,
    pub disordered: u64,
}

impl<'s> Job<'s> {
    pub fn new(turn: &'s Turn, name: &'static str, readings: u64, rate: u64) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        Self { servers: &turn.servers, name, data, readings, rate, options: Vec::new() }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inflight-gateway"));
        command.arg("--data").arg(self.data.path()).args(["--name", self.name]);
        command.args(["--mqtt", &self.servers.mqtt.to_string()]);
        command.args(["--postgres", &self.servers.postgres.to_string()]);
        command.args(["--nats", &self.servers.nats.to_string()]);
        command.args(&self.options);
        command
    }

    /// A gateway, whose log is in a file.
    pub fn gateway(&self) -> Process {
        let metrics = free_port();
        let mut command = self.command();
        command.args(["--metrics", &metrics.to_string()]);
        Process::start(command, self.data.path(), metrics)
    }

    /// A process that publishes all readings, which may take some time.
    pub fn publisher(&self) -> Process {
        let mut command = self.command();
        command.args(["--publish", "--readings", &self.readings.to_string()]);
        command.args(["--rate", &self.rate.to_string()]);
        Process::start(command, self.data.path(), free_port())
    }

    pub fn check(&self) -> Checked {
        let output = self.command().arg("--check").output().expect("the program");
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |name: &str| {
            let (_, rest) = text.split_once(name).unwrap_or_else(|| panic!("{output:?}"));
            let digits: String =
                rest.trim_start().chars().take_while(char::is_ascii_digit).collect();
            digits.parse().unwrap_or_else(|_| panic!("{output:?}"))
        };
        let checked = Checked {
            published: number("published"),
            enriched: number("enriched"),
            dead: number("dead letters"),
            lost: number("lost"),
            duplicated: number("duplicated"),
            wrong: number("wrong"),
            disordered: number("out of order"),
        };
        let Checked { lost, duplicated, wrong, disordered, .. } = checked;
        let is_good = lost + duplicated + wrong + disordered == 0;
        assert_eq!(output.status.success(), is_good, "{output:?}");
        checked
    }

    /// Waits until all readings are published and in the stream.
    pub fn wait_until_through(&self, gateway: &mut Process) {
        let is_through = |checked: Checked| checked.published == self.readings && checked.lost == 0;
        wait_for("all readings", || {
            gateway.assert_alive();
            is_through(self.check())
        });
    }

    /// Ends the gateway by SIGTERM, and checks that the stream has everything exactly once. Returns the
    /// gateway's output, too.
    pub fn finish(&self, gateway: Process) -> (Checked, String) {
        let text = gateway.interrupt();
        assert!(text.contains("the stream has all readings that were taken in"), "{text}");
        let checked = self.check();
        let Checked { published, enriched, dead, lost, duplicated, wrong, disordered } = checked;
        assert_eq!((published, lost, duplicated, wrong), (self.readings, 0, 0, 0), "{text}");
        assert_eq!(disordered, 0, "{text}");
        assert_eq!(enriched + dead, published, "{text}");
        assert!(dead > 0, "the seed has poison: {text}");
        (checked, text)
    }
}

/// A process of the program. It is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
    metrics: SocketAddr,
}

impl Process {
    fn start(mut command: Command, data: &Path, metrics: SocketAddr) -> Self {
        let log = data.join(format!("{}.log", metrics.port()));
        let file = fs::File::create(&log).expect("a file for the log");
        let both = file.try_clone().expect("a file for the log");
        let child = command.stdin(Stdio::null()).stdout(both).stderr(file).spawn();
        Self { child: child.expect("the program"), log, metrics }
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn assert_alive(&mut self) {
        let ended = self.child.try_wait().expect("its status");
        assert!(ended.is_none(), "the process has ended ({ended:?}):\n{}", self.log());
    }

    pub fn wait_for_line(&mut self, text: &str) {
        wait_for(text, || {
            self.assert_alive();
            self.log().contains(text)
        });
    }

    /// Waits for its successful end.
    pub fn wait(mut self) {
        wait_for("the process to end", || self.child.try_wait().expect("its status").is_some());
        assert!(self.child.wait().expect("its status").success(), "{}", self.log());
    }

    /// `kill -9`
    pub fn kill(mut self) -> String {
        self.assert_alive();
        self.child.kill().expect("it is there");
        self.child.wait().expect("its status");
        self.log()
    }

    /// Ctrl-C
    pub fn interrupt(mut self) -> String {
        self.assert_alive();
        kill("-INT", &self.child.id().to_string());
        let status = self.child.wait().expect("its status");
        assert!(status.success(), "{status}: {}", self.log());
        self.log()
    }

    /// Its peak memory, in KiB.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("the process is there");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    /// One of its numbers, as Prometheus sees it.
    pub fn metric(&self, name: &str) -> f64 {
        let page = self.scrape().unwrap_or_else(|error| panic!("{error}: {}", self.log()));
        let line = page.lines().find_map(|line| {
            let rest = line.strip_prefix("inflight_gateway_")?.strip_prefix(name)?;
            rest.strip_prefix(' ')
        });
        line.unwrap_or_else(|| panic!("no {name} in {page}")).parse().expect("a number")
    }

    fn scrape(&self) -> io::Result<String> {
        let mut server = TcpStream::connect(self.metrics)?;
        server.set_read_timeout(Some(Duration::from_secs(5)))?;
        server.write_all(b"GET /metrics HTTP/1.1\r\nHost: gateway\r\n\r\n")?;
        let mut page = String::new();
        server.read_to_string(&mut page)?;
        Ok(page)
    }

    /// Waits until one of its numbers has the expected value.
    pub fn wait_for_metric(&mut self, name: &str, is_right: impl Fn(f64) -> bool) {
        wait_for(name, || {
            self.assert_alive();
            self.scrape().is_ok() && is_right(self.metric(name))
        });
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn kill(signal: &str, id: &str) {
    let killed = Command::new("kill").args([signal, id]).status().expect("kill");
    assert!(killed.success());
}

/// Retries until the time limit of the tests.
pub fn wait_for(what: &str, mut is_there: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        sleep(Duration::from_millis(100));
    }
}
