//! For tests of what is crash-safe: what a program asks of the file system is recorded, and then it is played what
//! a crash of the machine between any two steps may leave.
//!
//! A test starts another one, its *victim*, in a process of its own ([`Recording::run`]): it is `#[ignore]`d,
//! and does nothing without a [`folder`]. A library in front of the C library writes down each write, sync, cut,
//! new file or folder, rename, link and removal in that folder. The victim says what it relies on with [`mark`]. It may
//! be killed right before any step, and others may follow on what it left.
//!
//! [`Recording::each_crash`] then gives, for a crash after each step, what may be there: of what was not synced all,
//! nothing, or half of each last write; of names whose folder was not synced all or none. What a sync has
//! returned for is there.
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

/// The signal.
const KILLED: i32 = 9;

/// In the folder: what a victim relies on. It is not part of what a crash leaves.
const MARKS: &str = "marks";

/// For a victim: the folder to work in; `None` if the test was started by somebody else.
pub fn folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// For a victim: from here on it relies on this, which a crash must not take back.
pub fn mark(what: impl std::fmt::Display) {
    let marks = folder().expect("only a victim marks").join(MARKS);
    let mut marks = File::options().create(true).append(true).open(marks).unwrap();
    marks.write_all(format!("{what}\n").as_bytes()).unwrap();
}

/// What victims have done to a folder, one after the other.
#[derive(Debug)]
pub struct Recording {
    _place: TempDir,
    folder: PathBuf,
    journal: PathBuf,
}

/// What a crash of the machine has left.
#[derive(Debug)]
pub struct Crash {
    /// After how many steps, and how much of what was not synced is there: for messages.
    pub when: String,
    /// What was relied on by then.
    pub marks: Vec<String>,
    /// The files that are there, by their names in the folder.
    pub files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Default for Recording {
    fn default() -> Self {
        Self::new()
    }
}

impl Recording {
    /// Of an empty folder.
    pub fn new() -> Self {
        let place = in_memory();
        // As the system spells it: by that the recorder knows it.
        let path = place.path().canonicalize().unwrap();
        let (folder, journal) = (path.join("folder"), path.join("journal"));
        fs::create_dir(&folder).unwrap();
        File::create(&journal).unwrap();
        Self { _place: place, folder, journal }
    }

    /// Starts the test `victim` of this program and waits for its end; or has it killed before it makes a step more
    /// than `steps`. Whether it came to its end.
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

    /// Shows what a crash before the first step, between any two and after the last may have left.
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

    /// What was relied on at the end.
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
    /// A folder that holds what is left.
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

/// In memory, if the machine has a file system there: there are thousands of them.
fn in_memory() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

/// The library that records, built once a process.
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
