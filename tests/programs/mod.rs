//! Runs programs that cargo has built with this test, and that check themselves: the exit status is the verdict.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Each program takes a second or two. A busy machine may take longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the programs, all at once, each in an empty folder of its own.
pub fn check(names: &[String]) {
    let running: Vec<_> = names.iter().map(|name| Running::start(name)).collect();
    let failed: Vec<_> =
        running.into_iter().filter_map(|program| program.verdict().err()).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// The programs in a folder: its files, and the folders in it with a `main.rs`.
pub fn in_folder(folder: &Path) -> Vec<String> {
    let paths =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let is_program = |path: &PathBuf| {
        path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").exists()
    };
    let name = |path: PathBuf| path.file_stem().expect("a name").to_string_lossy().into_owned();
    let mut names: Vec<_> = paths.filter(is_program).map(name).collect();
    names.sort();
    names
}

struct Running {
    name: String,
    started: Instant,
    folder: tempfile::TempDir,
    process: Child,
}

impl Running {
    fn start(name: &str) -> Self {
        let test = std::env::current_exe().expect("it is running");
        let build = test.ancestors().nth(2).expect("tests are in `deps` of the build folder");
        let path =
            build.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
        assert!(path.exists(), "no {name}: run `cargo build --examples` before this test alone");
        let folder = tempfile::tempdir().expect("a folder");
        // Into a file: a full pipe would hold the program up.
        let said = fs::File::create(folder.path().join("said")).expect("a file");
        let complained = said.try_clone().expect("a file");
        let process = Command::new(path)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(said)
            .stderr(complained)
            .spawn()
            .expect("it starts");
        Self { name: name.to_owned(), started: Instant::now(), folder, process }
    }

    /// Waits for the end of the program, but not for ever.
    fn verdict(mut self) -> Result<(), String> {
        let status = loop {
            match self.process.try_wait().expect("it can be waited for") {
                Some(status) => break Some(status),
                None if self.started.elapsed() > PATIENCE => break None,
                None => sleep(Duration::from_millis(10)),
            }
        };
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        let said = fs::read_to_string(self.folder.path().join("said")).unwrap_or_default();
        Err(match status {
            Some(status) => format!("{}: {status}\n{said}", self.name),
            None => format!("{} does not end\n{said}", self.name),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
