//! The suites for all sources and sinks, over real files.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use inflight_core::{Instant, NoRuntime, Runtime, Timer};
use inflight_lines::{LineSink, LineSource, LinesError};
use inflight_pipeline_conformance::{sink, source};
use tempfile::TempDir;

/// A folder in memory where there is one, because a suite syncs thousands of times.
fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let folder =
        if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
    folder.unwrap()
}

type Format = fn(Result<String, String>) -> Result<String, String>;

/// The two files of a sink.
struct Files {
    folder: TempDir,
    /// Every second record is rejected.
    rejects: bool,
}

impl Files {
    fn new(rejects: bool) -> Self {
        Self { folder: folder(), rejects }
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["output", "output.rejected"].map(|name| self.folder.path().join(name))
    }

    fn aside(&self) -> PathBuf {
        self.folder.path().join("aside")
    }
}

impl sink::Medium for Files {
    type Record = Result<String, String>;
    type Sink = LineSink<Format>;

    fn capabilities(&self) -> sink::Capabilities {
        sink::Capabilities {
            visible: sink::Visible::UntilAbort,
            is_ordered: !self.rejects,
            owners: sink::Owners::SecondRefused,
            vanishes: true,
            steps: if self.rejects { 5 } else { 4 },
            ..sink::Capabilities::default()
        }
    }

    fn open(&mut self) -> Result<Self::Sink, LinesError> {
        LineSink::open(&self.paths()[0], (|record| record) as Format)
    }

    fn record(&mut self, number: u64) -> Result<String, String> {
        let line = number.to_string();
        if self.rejects && number % 2 == 1 { Err(line) } else { Ok(line) }
    }

    fn read(&mut self) -> Vec<u64> {
        let lines = self.paths().map(|path| fs::read_to_string(path).unwrap());
        lines.iter().flat_map(|text| text.lines()).map(|line| line.parse().unwrap()).collect()
    }

    fn take_away(&mut self) {
        fs::create_dir(self.aside()).unwrap();
        for path in self.paths() {
            fs::rename(&path, self.aside().join(path.file_name().unwrap())).unwrap();
        }
    }

    fn bring_back(&mut self) {
        for path in self.paths() {
            fs::rename(self.aside().join(path.file_name().unwrap()), &path).unwrap();
        }
    }
}

// K10
#[test]
fn the_sink_of_two_files() {
    for rejects in [true, false] {
        let report = sink::check(|| Files::new(rejects)).unwrap_or_else(|it| panic!("{it}"));
        assert_eq!((report.passed.len(), report.skipped), (10, vec![]));
    }
}

/// A timer that is due as soon as it was polled, so that a source that waits looks again at once.
#[derive(Clone, Copy, Debug)]
struct AtOnce {
    was_polled: bool,
}

impl Runtime for AtOnce {
    type Timer = Self;

    fn timer(&self) -> Result<Self, NoRuntime> {
        Ok(*self)
    }
}

impl Timer for AtOnce {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn arm(mut self: Pin<&mut Self>, _: Option<Instant>) {
        self.was_polled = false;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.was_polled {
            return Poll::Ready(());
        }
        self.was_polled = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The forms of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Open,
    OpenComplete,
    Follow,
    Once,
}

/// The file that a source reads: six lines, of which some are empty, long, or end with a carriage return, and the last one, or another
/// one behind it, is not finished.
struct Input {
    folder: TempDir,
    form: Form,
}

impl Input {
    fn new(form: Form) -> Self {
        let input = Self { folder: folder(), form };
        let long = "x".repeat(300_000);
        let unfinished = if form == Form::Open { "last\nunfinished" } else { "last" };
        let end = if form == Form::Follow { "\n" } else { "" };
        fs::write(input.path(), format!("one\n\ntwo\r\n{long}\nthree\n{unfinished}{end}")).unwrap();
        input
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("lines")
    }
}

impl source::Medium for Input {
    type Source = LineSource;

    fn capabilities(&self) -> source::Capabilities {
        source::Capabilities {
            records: 6,
            ends: self.form != Form::Follow,
            replays: self.form != Form::Once,
            grows: self.form == Form::Follow,
            loses: self.form != Form::Once,
            ..source::Capabilities::default()
        }
    }

    fn source(&mut self) -> LineSource {
        let path = self.path();
        let timer = AtOnce { was_polled: false };
        let source = match self.form {
            Form::Open => LineSource::open(&path),
            Form::OpenComplete => LineSource::open_complete(&path),
            Form::Follow => LineSource::follow(&path, timer, Duration::from_secs(1)),
            Form::Once => Ok(LineSource::once(File::open(&path).unwrap())),
        };
        source.unwrap().keep(1000, 10)
    }

    fn append(&mut self) {
        let length = fs::metadata(self.path()).unwrap().len();
        let mut file = File::options().append(true).open(self.path()).unwrap();
        writeln!(file, "appended at {length}").unwrap();
    }

    /// The first byte changes.
    fn lose(&mut self) {
        let mut bytes = fs::read(self.path()).unwrap();
        bytes[0] ^= 1;
        fs::write(self.path(), bytes).unwrap();
    }
}

// K10
#[test]
fn the_source_of_a_file_in_all_its_forms() {
    for form in [Form::Open, Form::OpenComplete, Form::Follow] {
        let report =
            source::check(|| Input::new(form)).unwrap_or_else(|it| panic!("{form:?}: {it}"));
        assert_eq!((report.passed.len(), report.skipped), (7, vec![]), "{form:?}");
    }
    let report = source::check(|| Input::new(Form::Once)).unwrap_or_else(|it| panic!("{it}"));
    let skipped =
        [source::Check::Positions, source::Check::Acknowledged, source::Check::Watermarks];
    assert_eq!(report.skipped, skipped);
}
