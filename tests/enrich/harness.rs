//! Runs the example as a process, in a folder of its own, and compares its output with its input.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

pub const FLIGHTS: &str = include_str!("../../examples/enrich/data/flights.ndjson");
const AIRPORTS: &[u8] = include_bytes!("../../examples/enrich/data/airports.csv");

/// The kinds of checkpoints: the values of `--checkpoint`.
pub const MODES: [&str; 3] = ["positions", "snapshot", "drain"];

/// A job: an input, and a folder for everything else.
pub struct Job {
    folder: TempDir,
    /// Options that every run gets.
    options: Vec<String>,
}

/// The exit status and the messages of a run.
#[derive(Debug)]
pub struct Said {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Job {
    /// Makes a job over `input`, with a service that is quick and rarely fails.
    pub fn new(input: impl AsRef<[u8]>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("input"), input).unwrap();
        let service = ["--latency", "1ms", "--error-rate", "0.003", "--hang-rate", "0.0005"];
        // Generous, because a debug build on a busy machine is slow.
        let patience = ["--timeout", "60s", "--attempt-timeout", "300ms", "--retries", "20"];
        let interval = ["--checkpoint-interval", "20ms"];
        let options = service.into_iter().chain(patience).chain(interval);
        let options = options.map(String::from).collect();
        Self { folder, options }
    }

    /// Adds options to every run.
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| option.to_string()));
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a run with `more` options. If an option is given twice, the last one counts.
    pub fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(example());
        for (option, name) in [
            ("--input", "input"),
            ("--output", "output"),
            ("--checkpoint-dir", "checkpoints"),
            ("--summary", "summary"),
        ] {
            command.arg(option).arg(self.path(name));
        }
        command.args(&self.options).args(more);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn start(&self, more: &[&str]) -> Running {
        Running::new(self.command(more))
    }

    /// Runs the job to its end.
    pub fn run(&self, more: &[&str]) -> Said {
        self.start(more).said()
    }

    /// Runs the job to its end, which must finish it.
    pub fn finish(&self) -> Said {
        let said = self.run(&[]);
        assert!(said.status.success(), "{said:#?}");
        assert!(said.stdout.starts_with("finished"), "{said:#?}");
        said
    }

    /// Runs the job, which must refuse with these words in its message.
    pub fn refuses(&self, more: &[&str], words: &[&str]) {
        let said = self.run(more);
        assert_eq!(said.status.code(), Some(2), "{more:?}: {said:#?}");
        for word in words {
            assert!(said.stderr.contains(word), "{more:?} does not say {word:?}: {said:#?}");
        }
    }

    pub fn append_to_output(&self, bytes: &[u8]) {
        let mut file = fs::OpenOptions::new().append(true).open(self.path("output")).unwrap();
        file.write_all(bytes).unwrap();
    }

    pub fn output(&self) -> Vec<u8> {
        fs::read(self.path("output")).unwrap()
    }

    /// The lines of the output.
    pub fn flights(&self) -> Vec<Map<String, Value>> {
        objects(&self.path("output"))
    }

    pub fn rejected(&self) -> Vec<Map<String, Value>> {
        objects(&self.path("output.rejected.ndjson"))
    }

    pub fn rejected_bytes(&self) -> Vec<u8> {
        fs::read(self.path("output.rejected.ndjson")).unwrap()
    }

    pub fn summary(&self) -> Map<String, Value> {
        serde_json::from_slice(&fs::read(self.path("summary")).unwrap()).unwrap()
    }

    pub fn slots(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("checkpoints")).into_iter().flatten().flatten();
        let slots = entries.filter(|e| e.file_name().to_string_lossy().starts_with("slot-"));
        let mut slots: Vec<_> = slots.map(|entry| entry.path()).collect();
        slots.sort();
        slots
    }

    /// The progress of a run that is visible from outside.
    pub fn traces(&self) -> (u64, Vec<Vec<u8>>) {
        let length = fs::metadata(self.path("output")).map_or(0, |file| file.len());
        (length, self.slots_read())
    }

    /// The content of the checkpoints.
    pub fn slots_read(&self) -> Vec<Vec<u8>> {
        self.slots().iter().map(|slot| fs::read(slot).unwrap_or_default()).collect()
    }
}

/// A running process.
pub struct Running(Option<Child>);

impl Running {
    pub fn new(mut command: Command) -> Self {
        Self(Some(command.spawn().unwrap()))
    }

    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    /// Waits until `done` is true. Returns false if the run ended before that.
    pub fn wait_until(&mut self, mut done: impl FnMut() -> bool) -> bool {
        let mut is_done = false;
        wait_until(|| {
            let ended = self.child().try_wait().unwrap().is_some();
            is_done = !ended && done();
            ended || is_done
        });
        is_done
    }

    /// Waits until it prints `words` on standard error, and returns the line.
    pub fn wait_for(&mut self, words: &str) -> String {
        let mut stderr = BufReader::new(self.child().stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains(words) {
            line.clear();
            assert!(stderr.read_line(&mut line).unwrap() > 0, "it ended and did not say {words:?}");
        }
        self.child().stderr = Some(stderr.into_inner());
        line
    }

    /// `kill -9`
    pub fn kill(mut self) {
        self.child().kill().unwrap();
        self.child().wait().unwrap();
    }

    /// Kills the run (`kill -9`) after a while. Returns true if it was still running.
    pub fn kill_after(mut self, moment: Duration) -> bool {
        thread::sleep(moment);
        let was_running = self.child().try_wait().unwrap().is_none();
        self.child().kill().unwrap();
        // The run may have ended in between.
        was_running && self.child().wait().unwrap().code().is_none()
    }

    pub fn signal(&mut self, name: &str) {
        let id = self.child().id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    pub fn write(&mut self, input: &[u8]) {
        self.child().stdin.take().unwrap().write_all(input).unwrap();
    }

    /// Waits for the end.
    pub fn said(mut self) -> Said {
        let child = self.0.take().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = Said {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        };
        for sign in ["panicked", "RUST_BACKTRACE", "\x1b"] {
            assert!(!said.stdout.contains(sign) && !said.stderr.contains(sign), "{said:#?}");
        }
        said
    }
}

/// A failing test leaves no process behind.
impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for something that happens outside of this process.
pub fn wait_until(mut done: impl FnMut() -> bool) {
    let since = Instant::now();
    while !done() {
        assert!(since.elapsed() < Duration::from_secs(60), "nothing happens");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The first lines of the flights.
pub fn flights(number: usize) -> String {
    FLIGHTS.split_inclusive('\n').take(number).collect()
}

/// The first lines of the flights, and a broken line before every tenth.
pub fn flights_and_broken_lines(number: usize) -> String {
    let with_broken = |(index, flight): (usize, &str)| match index % 10 {
        9 => format!("no flight, and number {index} of those\n{flight}"),
        _ => flight.to_owned(),
    };
    FLIGHTS.split_inclusive('\n').take(number).enumerate().map(with_broken).collect()
}

/// The expected output.
pub fn enriched(input: &str) -> Vec<Map<String, Value>> {
    static TABLE: LazyLock<HashMap<String, Value>> = LazyLock::new(airports);
    let lines = input.lines().map(|line| {
        let mut flight: Map<String, Value> = serde_json::from_str(line).unwrap();
        for end in ["origin", "destination"] {
            let airport = TABLE[flight[end].as_str().unwrap()].clone();
            flight.insert(format!("{end}_airport"), airport);
        }
        flight
    });
    lines.collect()
}

fn airports() -> HashMap<String, Value> {
    let rows = csv::Reader::from_reader(AIRPORTS).into_deserialize::<HashMap<String, String>>();
    let airports = rows.map(|row| {
        let row = row.unwrap();
        let degrees = |name: &str| row[name].parse::<f64>().unwrap();
        let airport = json!({
            "name": row["name"], "city": row["city"], "state": row["state"],
            "latitude": degrees("latitude"), "longitude": degrees("longitude"),
        });
        (row["iata"].clone(), airport)
    });
    airports.collect()
}

fn objects(path: &Path) -> Vec<Map<String, Value>> {
    let mut text = String::new();
    fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{} has half a line", path.display());
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Cargo has built the example for the tests, into the folder next to theirs.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let build = test.parent().and_then(Path::parent).unwrap();
    let example =
        build.join("examples").join("enrich").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        example.exists(),
        "no example: run `cargo build --example enrich` before this test alone"
    );
    example
}
