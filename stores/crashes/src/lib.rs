//! Tests of crash safety: this crate records the file operations of a program, and simulates a crash of the
//! machine between any two of them.
//!
//! A test starts another test, its *victim*, in a process of its own ([`Recording::run`]). The victim is
//! `#[ignore]`d, and does nothing without a [`folder`]. A preloaded library records each write, sync, cut,
//! new file or folder, rename, link and removal in that folder. The victim calls [`mark`] for everything that
//! it relies on. It may be killed right before any step, and further victims may continue on the remains.
//!
//! For a crash after each step, [`Recording::each_crash`] then gives the possible contents: unsynced bytes
//! survive completely, not at all, or with half of each last write; names in a folder that was not synced
//! survive completely or not at all. Bytes and names whose sync has returned survive.
//!
//! It needs Linux and a C compiler, which Rust needs there anyway.
#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

mod model;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use model::{Model, Step};
use tempfile::TempDir;

const FOLDER: &str = "INFLIGHT_CRASHES_FOLDER";
const JOURNAL: &str = "INFLIGHT_CRASHES_JOURNAL";
const STEPS: &str = "INFLIGHT_CRASHES_STEPS";

/// The number of the signal SIGKILL.
const KILLED: i32 = 9;

/// The file in the folder with the victim's marks. It survives every simulated crash.
const MARKS: &str = "marks";

/// For a victim: the folder to work in; `None` if no test has started this process as a victim.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// For a victim: records a fact that it relies on from here on, and that a crash must not undo.
pub fn mark(what: impl std::fmt::Display) {
    let marks = folder().expect("only a victim marks").join(MARKS);
    let mut marks = File::options().create(true).append(true).open(marks).unwrap();
    marks.write_all(format!("{what}\n").as_bytes()).unwrap();
}

/// The operations of victims on a folder, one victim after the other.
#[derive(Debug)]
pub struct Recording {
    _place: TempDir,
    folder: PathBuf,
    journal: PathBuf,
}

/// The remains of a crash of the machine.
#[derive(Debug)]
pub struct Crash {
    /// The number of steps, and how much of the unsynced bytes survives: for messages.
    pub when: String,
    /// The victim's marks by then.
    pub marks: Vec<String>,
    /// The surviving files, by their names in the folder.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

impl Recording {
    /// A recording of an empty folder.
    pub fn new() -> Self {
        let place = in_memory();
        // The recorder sees the canonical path.
        let path = place.path().canonicalize().unwrap();
        let (folder, journal) = (path.join("folder"), path.join("journal"));
        fs::create_dir(&folder).unwrap();
        File::create(&journal).unwrap();
        Self { _place: place, folder, journal }
    }

    /// Starts the test `victim` of this program and waits for its end; with `steps`, kills it before it makes
    /// a further step. Returns true if it ran to its end.
    pub fn run(&self, victim: &str, steps: Option<usize>) -> bool {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", victim, "--ignored", "--test-threads=1"]);
        command.env(FOLDER, &self.folder).env(JOURNAL, &self.journal).env("LD_PRELOAD", recorder());
        if let Some(steps) = steps {
            command.env(STEPS, steps.to_string());
        }
        let ended = command.stdout(Stdio::null()).stderr(Stdio::inherit()).status().unwrap();
        assert!(ended.success() || ended.signal() == Some(KILLED), "{victim}: {ended}");
        ended.success()
    }

    /// Shows the possible remains of a crash before the first step, between any two steps and after the last.
    pub fn each_crash(&self, mut show: impl FnMut(&Crash)) {
        let mut model = Model::new(&self.folder);
        let journal = self.journal();
        for (at, step) in journal.iter().map(Some).chain([None]).enumerate() {
            let marks = model.read(&self.marks_file()).unwrap_or_default();
            let marks: Vec<_> = String::from_utf8(marks).unwrap().lines().map(Into::into).collect();
            for (what, left) in model.crashes() {
                let name = |path: &Path| path.strip_prefix(&self.folder).unwrap().to_owned();
                let files = left.iter().filter(|(path, _)| **path != self.marks_file());
                let files = files.map(|(path, bytes)| (name(path), bytes.clone())).collect();
                let when = format!("after {at} steps ({:?}), {what}", journal[..at].last());
                show(&Crash { when, marks: marks.clone(), files });
            }
            step.inspect(|step| model.make(step));
        }
    }

    /// The marks at the end.
    pub fn marks(&self) -> Vec<String> {
        let marks = fs::read_to_string(self.marks_file()).unwrap_or_default();
        marks.lines().map(Into::into).collect()
    }

    fn marks_file(&self) -> PathBuf {
        self.folder.join(MARKS)
    }

    fn journal(&self) -> Vec<Step> {
        let journal = fs::read(&self.journal).unwrap();
        let mut rest = journal.as_slice();
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let head = rest.iter().position(|byte| *byte == b'\n').unwrap();
            let fields: Vec<_> = rest[..head].split(|byte| *byte == b'\t').collect();
            let number = |field: &[u8]| str::from_utf8(field).unwrap().parse::<usize>().unwrap();
            let path = |field: &[u8]| PathBuf::from(OsString::from_vec(field.to_vec()));
            let end = head + 1 + number(fields[4]);
            let (name, bytes) = (path(fields[1]), rest[head + 1..end].to_vec());
            steps.push(match fields[0] {
                b"write" => Step::Write { name, offset: number(fields[3]), bytes },
                b"cut" => Step::Cut { name, length: number(fields[3]) },
                b"sync" => Step::Sync { name },
                b"make" => Step::Make { name },
                b"folder" => Step::MakeFolder { name },
                b"rename" => Step::Rename { name, to: path(fields[2]) },
                b"link" => Step::Link { name, to: path(fields[2]) },
                b"remove" => Step::Remove { name },
                other => panic!("{other:?}"),
            });
            rest = &rest[end..];
        }
        steps
    }
}

impl Crash {
    /// Creates a folder with the surviving files.
    pub fn folder(&self) -> TempDir {
        let folder = in_memory();
        for (name, bytes) in &self.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder
    }
}

/// A folder in memory, if the machine has a file system there, because the tests create thousands of them.
fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// The recording library, built once per process.
fn recorder() -> &'static Path {
    static RECORDER: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = RECORDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (source, library) =
            (folder.path().join("recorder.c"), folder.path().join("recorder.so"));
        fs::write(&source, include_str!("recorder.c")).unwrap();
        let mut compiler = Command::new("cc");
        compiler
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&library)
            .arg(&source);
        let built = compiler.args(["-ldl", "-lpthread"]).status().expect("a C compiler, `cc`");
        assert!(built.success(), "the recorder does not compile");
        (folder, library)
    });
    path
}
