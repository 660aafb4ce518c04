//! `up` starts all three servers or none, and names the process that occupies a port.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::harness::{free_port, open_to_all};

/// A folder of servers for one test, and their ports.
struct Place {
    folder: tempfile::TempDir,
    ports: [SocketAddr; 3],
}

/// The result of `up`.
#[derive(Debug)]
struct Said {
    status: Option<i32>,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        open_to_all(folder.path());
        Self { folder, ports: [free_port(), free_port(), free_port()] }
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
        command.arg(self.folder.path()).env("GATEWAY_NO_INSTALL", "1");
        for (name, port) in ["MQTT_PORT", "POSTGRES_PORT", "NATS_PORT"].into_iter().zip(self.ports)
        {
            command.env(name, port.port().to_string());
        }
        command
    }

    fn up(&self, command: &mut Command) -> Said {
        let output = command.output().expect("a shell");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        Said { status: output.status.code(), stderr }
    }

    /// Every sign of a server that still runs.
    fn assert_nothing_is_left(&self, said: &Said) {
        let mine: Vec<_> = processes().filter(|line| line.contains(&self.name())).collect();
        assert!(mine.is_empty(), "{mine:?}: {said:#?}");
        for port in self.ports {
            assert!(TcpListener::bind(port).is_ok(), "{port} is not free: {said:#?}");
        }
        let entries = fs::read_dir(self.folder.path()).expect("the folder").flatten();
        let ids: Vec<_> =
            entries.filter(|e| e.path().extension() == Some("pid".as_ref())).collect();
        assert!(ids.is_empty(), "{ids:?}: {said:#?}");
    }

    fn name(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    /// A folder for `PATH`, with a server in it that ends at once.
    fn broken(&self, program: &str) -> PathBuf {
        let folder = self.folder.path().join("broken");
        fs::create_dir(&folder).expect("a folder");
        let path = folder.join(program);
        fs::write(&path, "#!/bin/sh\necho I am broken >&2\nexit 1\n").expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("permissions");
        folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.script("down").status();
    }
}

/// The command lines of all processes.
fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").expect("this is Linux").flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
}

/// Checks that `up` is refused because of one port, and names this process.
fn assert_told(said: &Said, variable: &str, port: u16) {
    assert_eq!(said.status, Some(1), "{said:#?}");
    for words in [
        format!("port {port} ({variable}) is taken"),
        format!("process {}", process::id()),
        "nothing was started".to_owned(),
    ] {
        assert!(said.stderr.contains(&words), "{words:?} is not said: {said:#?}");
    }
}

#[test]
fn whoever_listens_on_a_port_is_named_and_nothing_is_started() {
    for (which, variable) in ["MQTT_PORT", "POSTGRES_PORT", "NATS_PORT"].into_iter().enumerate() {
        let place = Place::new();
        let taken = TcpListener::bind(place.ports[which]).expect("it was free");
        let said = place.up(&mut place.script("up"));
        assert_told(&said, variable, place.ports[which].port());
        drop(taken);
        place.assert_nothing_is_left(&said);
    }
}

/// A process that listens on all addresses of both families also occupies the port on loopback.
#[test]
fn whoever_listens_everywhere_is_named() {
    let place = Place::new();
    let port = place.ports[2].port();
    let taken = TcpListener::bind(("::", port)).or_else(|_| TcpListener::bind(("0.0.0.0", port)));
    let taken = taken.expect("it was free");
    let said = place.up(&mut place.script("up"));
    assert_told(&said, "NATS_PORT", port);
    drop(taken);
    place.assert_nothing_is_left(&said);
}

/// The port is the local end of a connection, as can happen to ports of the outgoing range.
#[test]
fn whoever_has_a_connection_from_a_port_is_named() {
    let mut place = Place::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("its port")).expect("it listens");
    place.ports[1] = client.local_addr().expect("its port");
    let said = place.up(&mut place.script("up"));
    assert_told(&said, "POSTGRES_PORT", place.ports[1].port());
    assert!(said.stderr.contains("a connection of"), "{said:#?}");
    let mine: Vec<_> = processes().filter(|line| line.contains(&place.name())).collect();
    assert!(mine.is_empty(), "{mine:?}");
}

/// If any of the three cannot be started, the other two are stopped again.
#[test]
fn what_was_started_before_a_failure_is_stopped_again() {
    for program in ["mosquitto", "nats-server", "postgres"] {
        let place = Place::new();
        let mut command = place.script("up");
        if program == "postgres" {
            let data = place.folder.path().join("postgres");
            fs::create_dir(&data).expect("a folder");
            fs::write(data.join("PG_VERSION"), "none\n").expect("a file");
        } else {
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", place.broken(program).display()));
        }
        let said = place.up(&mut command);
        if said.status == Some(77) {
            return crate::harness::skipped();
        }
        assert_eq!(said.status, Some(1), "{program}: {said:#?}");
        assert!(
            said.stderr.contains("the servers that this run has started are stopped"),
            "{said:#?}"
        );
        place.assert_nothing_is_left(&said);
    }
}

/// A running server is left alone, also by an `up` that fails; but it does not count as a newly requested
/// one.
#[test]
fn what_runs_on_another_port_is_named_and_left_alone() {
    let mut place = Place::new();
    let said = place.up(&mut place.script("up"));
    if said.status == Some(77) {
        return crate::harness::skipped();
    }
    assert_eq!(said.status, Some(0), "{said:#?}");
    let again = place.up(&mut place.script("up"));
    assert_eq!((again.status, again.stderr.as_str()), (Some(0), ""));

    let [_, _, nats] = place.ports;
    place.ports[2] = free_port();
    let said = place.up(&mut place.script("up"));
    assert_eq!(said.status, Some(1), "{said:#?}");
    let words = format!("nats runs already and does not listen on port {}", place.ports[2].port());
    assert!(said.stderr.contains(&words), "{said:#?}");
    assert!(TcpStream::connect(nats).is_ok(), "it was stopped");
}
