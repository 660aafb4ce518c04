//! An emulator for the tests of this process.

use std::env;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{self, Command};
use std::sync::atomic::{AtomicU16, Ordering};

use tempfile::TempDir;

/// An emulator on ports of its own. It is stopped when this is dropped.
pub(crate) struct Emulator {
    pub(crate) url: String,
    folder: TempDir,
}

impl Emulator {
    /// `None`, with a message, if the emulator is not installed; on a CI machine that is a failure.
    pub(crate) fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_ports();
        let mut up = script("up", folder.path());
        up.env("KINESIS_PORT", port.to_string()).env("KINESIS_NO_INSTALL", "1");
        for setting in ["CREATE_STREAM", "SPLIT_SHARD", "MERGE_SHARDS"] {
            up.env(format!("{setting}_DURATION"), "20ms");
        }
        let status = up.status().expect("a shell");
        if status.code() == Some(77) {
            let must_not_skip = env::var_os("INFLIGHT_CI").is_some_and(|ci| ci == "1");
            assert!(!must_not_skip, "the emulator is not installed");
            // Without `eprintln`, because the output of a test that passes is not shown.
            let _ = writeln!(io::stderr(), "\nSKIPPED: the emulator of Kinesis is not installed\n");
            return None;
        }
        assert!(status.success(), "the emulator does not start: {status}");
        Some(Self { url: format!("http://127.0.0.1:{port}"), folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = script("down", self.folder.path()).status();
    }
}

fn script(name: &str, folder: &Path) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(name));
    script.arg(folder);
    script
}

/// Two free ports in a row, below those of outgoing connections, which could otherwise take one while no server listens there.
fn free_ports() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = process::id() as u16 % 5_000;
    loop {
        let port = 20_000 + 2 * ((first + NEXT.fetch_add(1, Ordering::Relaxed)) % 5_000);
        if [port, port + 1].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return port;
        }
    }
}
