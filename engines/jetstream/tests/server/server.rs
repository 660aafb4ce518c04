//! A real server for the tests.

use std::env;
use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};

/// The longest wait for an answer in the tests: short, so that lost ones do not hold them up.
pub(crate) const LIMIT: Duration = Duration::from_secs(1);

pub(crate) struct Server {
    pub(crate) port: u16,
    script: Child,
    /// The script's ends; `None` when it has been told to stop.
    talk: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Server {
    /// The server that the tests of this process share. `None`, with a message, if it cannot be had.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        SERVER.get_or_init(Self::start).as_ref()
    }

    /// A server of its own.
    pub(crate) fn start() -> Option<Self> {
        static PROGRAM: OnceLock<Option<String>> = OnceLock::new();
        let Some(program) = PROGRAM.get_or_init(program) else {
            assert!(!is_required(), "no NATS server");
            // Without `eprintln`, because the output of a test that passes is not shown.
            let _ = writeln!(io::stderr(), "\nSKIPPED: the NATS server cannot be had\n");
            return None;
        };
        let port = free_port();
        let mut command = Command::new("sh");
        command.args([OsStr::new("-c"), include_str!("serve").as_ref(), "serve".as_ref()]);
        command.arg(program).arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
        // Keys that interrupt the tests do not reach it; it ends when its standard input does.
        let mut script = command.process_group(0).spawn().expect("a shell");
        let ends = (script.stdin.take().unwrap(), BufReader::new(script.stdout.take().unwrap()));
        let server = Self { port, script, talk: Mutex::new(Some(ends)) };
        server.tell("up");
        Some(server)
    }

    /// `up` starts the server, and `down` ends it as a crash would.
    pub(crate) fn tell(&self, command: &str) {
        let mut talk = self.talk.lock().unwrap();
        let (to, from) = talk.as_mut().unwrap();
        writeln!(to, "{command}").expect("the script");
        let mut answer = String::new();
        from.read_line(&mut answer).expect("the script");
        assert_eq!(answer, "done\n");
    }

    pub(crate) async fn context(&self) -> jetstream::Context {
        context(self.port).await
    }

    /// A new stream for outputs and checkpoints, over subjects that begin with its name.
    pub(crate) async fn stream(&self, name: &str) -> jetstream::Context {
        let context = self.context().await;
        create(&context, inflight_jetstream::output_stream(name, [format!("{name}.>")])).await;
        context
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *self.talk.lock().unwrap() = None;
        let _ = self.script.wait();
    }
}

/// Whether a server that cannot be had is a failure.
pub(crate) fn is_required() -> bool {
    env::var_os("INFLIGHT_CI").is_some_and(|ci| ci == "1")
}

/// A context of a client of its own, which waits for the server as long as it takes.
pub(crate) async fn context(port: u16) -> jetstream::Context {
    let options = ConnectOptions::new()
        .retry_on_initial_connect()
        .reconnect_delay_callback(|_| Duration::from_millis(20))
        .connection_timeout(LIMIT);
    let client = options.connect(format!("127.0.0.1:{port}")).await.expect("a client");
    while client.try_server_info().is_none() {
        tokio::task::yield_now().await;
    }
    jetstream::context::ContextBuilder::new().timeout(LIMIT).build(client)
}

/// Creates a stream, as soon as the server takes it.
pub(crate) async fn create(context: &jetstream::Context, config: stream::Config) {
    while context.create_stream(config.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// The server's program, which the fleet's script installs.
fn program() -> Option<String> {
    let up = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fleet/up");
    let output = Command::new(up).arg("--install").stderr(Stdio::inherit()).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| path.trim().to_owned())
}

/// A free port below those of outgoing connections, which could otherwise take it while no server listens there.
pub(crate) fn free_port() -> u16 {
    static TAKEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    let mut taken = TAKEN.lock().unwrap();
    let is_free =
        |port: &u16| !taken.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let port = (14_250..14_300).find(is_free).expect("a free port from 14250 to 14299");
    taken.push(port);
    port
}
