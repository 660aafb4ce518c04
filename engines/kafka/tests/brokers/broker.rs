//! Brokers for the tests.

use std::env;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{self, Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::mocking::MockCluster;

/// A server of its own.
pub(crate) struct Broker {
    port: u16,
    /// A shell with the server.
    shell: Child,
    folder: tempfile::TempDir,
}

/// Kills the server when the standard input ends, so also when the tests are killed.
const SERVE: &str = r#""$@" </dev/null & trap "kill -9 $!" EXIT; read -r _"#;

#[derive(Clone, Copy)]
enum Kind {
    /// Its transactions are right; its groups stall when a member dies.
    Noida,
    /// Its groups are right; it shows what was aborted.
    Tansu,
}

impl Broker {
    /// The server for transactions, which the tests of this process share. `None`, with a message, if it cannot be had.
    pub(crate) fn transactions() -> Option<&'static Self> {
        static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
        BROKER.get_or_init(|| Self::start(Kind::Noida)).as_ref()
    }

    /// The server for groups. `None`, with a message, if it cannot be had.
    pub(crate) fn groups() -> Option<&'static Self> {
        static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
        BROKER.get_or_init(|| Self::start(Kind::Tansu)).as_ref()
    }

    fn start(kind: Kind) -> Option<Self> {
        let [noida, tansu] = programs()?;
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", SERVE, "serve"]).current_dir(folder.path()).stdin(Stdio::piped());
        // Keys that interrupt the tests do not reach it; it ends when its standard input does.
        command.stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        match kind {
            Kind::Noida => {
                command.arg(noida).args(["start", "--only", "kafka", "--data-dir", "data"]);
                command.args(["--kafka-port", &port.to_string()]);
            }
            Kind::Tansu => {
                let url = format!("tcp://127.0.0.1:{port}");
                command.arg(tansu).args(["broker", "--listener-url", &url]);
                command.args(["--advertised-listener-url", &url]);
            }
        }
        let shell = command.spawn().expect("a shell");
        let broker = Self { port, shell, folder };
        broker.wait();
        Some(broker)
    }

    fn wait(&self) {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || std::fs::read_to_string(self.folder.path().join("log"));
            assert!(begun.elapsed() < Duration::from_secs(20), "no server: {:?}", log());
            std::thread::yield_now();
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        config(self.port)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

/// The configuration of a client.
pub(crate) fn config(port: u16) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
    config
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// The programs of the two servers.
fn programs() -> Option<[PathBuf; 2]> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers");
    let output = Command::new(script).stderr(Stdio::inherit()).output().expect("the script");
    if output.status.success() {
        let text = String::from_utf8(output.stdout).expect("paths");
        let paths: Vec<_> = text.lines().map(PathBuf::from).collect();
        return Some(paths.try_into().expect("two paths"));
    }
    assert!(env::var_os("INFLIGHT_CI").is_none_or(|ci| ci != "1"), "the servers cannot be had");
    // Without `eprintln`, because the output of a test that passes is not shown.
    let _ = writeln!(io::stderr(), "\nSKIPPED: the servers of the Kafka protocol cannot be had\n");
    None
}

/// A free port below those of outgoing connections.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = process::id() as u16 % 100;
    loop {
        let port = 15_900 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 100;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// The configuration of a client of the mock.
pub(crate) fn config_of<C: ClientContext>(cluster: &MockCluster<'_, C>) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    config
}
