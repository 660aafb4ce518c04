//! A real server for the tests. The tests of examples/recipes use this file too.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, OnceLock};

pub(crate) struct Server {
    pub(crate) port: u16,
    script: Child,
    /// The script's ends; `None` when it has been told to stop.
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Server {
    /// The server that the tests of this process share. `None`, with a message, if PostgreSQL is not installed.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        SERVER.get_or_init(Self::start).as_ref()
    }

    /// A server of its own.
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                env::var_os("INFLIGHT_CI").is_none_or(|ci| ci != "1"),
                "PostgreSQL is not installed"
            );
            // Without `eprintln`, because the output of a test that passes is not shown.
            let _ = writeln!(io::stderr(), "\nSKIPPED: PostgreSQL is not installed\n");
            return None;
        };
        let port = free_port();
        // As text, because the server's user may not be able to enter this folder.
        let text = include_str!("serve");
        let mut command = as_a_user("sh");
        command.args([OsStr::new("-c"), text.as_ref(), "serve".as_ref(), programs.as_ref()]);
        command.arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Keys that interrupt the tests do not reach it; it ends when its standard input does.
        let mut script = command.process_group(0).spawn().expect("a shell");
        let ends = (script.stdin.take().unwrap(), BufReader::new(script.stdout.take().unwrap()));
        let server = Self { port, script, talk: Mutex::new(Some(ends)) };
        server.wait();
        Some(server)
    }

    /// Ends the server as a crash would, and starts it again.
    pub(crate) fn restart(&self) {
        let mut talk = self.talk.lock().unwrap();
        writeln!(talk.as_mut().unwrap().0, "restart").expect("the script");
        drop(talk);
        self.wait();
    }

    fn wait(&self) {
        let mut answer = String::new();
        self.talk.lock().unwrap().as_mut().unwrap().1.read_line(&mut answer).expect("the script");
        assert_eq!(answer, "up\n", "the server does not start");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.talk.lock().unwrap() = None;
        let _ = self.script.wait();
    }
}

/// PostgreSQL refuses to run as root.
fn as_a_user(program: &str) -> Command {
    let mut command = Command::new("id");
    let is_root = command.arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !is_root {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--", program]);
    command
}

/// The folder of the server's programs. Debian keeps them out of the PATH, by version.
fn programs() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort_by_key(|folder| {
        let version = folder.parent().and_then(Path::file_name).and_then(OsStr::to_str);
        version.and_then(|version| version.parse::<u32>().ok())
    });
    folders.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let is_complete = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"].iter().all(|it| folder.join(it).is_file())
    };
    folders.into_iter().rev().find(is_complete)
}

/// A free port below those of outgoing connections, which could otherwise take it while no server listens there.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = process::id() as u16 % 10_000;
    loop {
        let port = 20_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
