//! The input: a file that can be read from any position, or standard input.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use inflight::lines::{LineSource, LinesError};

use crate::line::{KEPT, MAX_LENGTH};
use crate::problem::Problem;

/// A file of lines.
#[derive(Debug)]
pub struct InputFile {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    pub length: u64,
    /// A checksum of the file's first bytes, which identifies the file in a checkpoint.
    pub beginning: u32,
    pub lines: LineSource,
}

impl InputFile {
    /// The checksum covers this many bytes: enough to distinguish files, and quick for a large one.
    const BEGINNING: u64 = 64 * 1024;

    pub fn open(path: &Path) -> Result<Self, Problem> {
        let way_out = "Name a file that can be read with --input, or `-` for standard input.";
        let problem = |error| Problem::file("read", path, way_out)(error);
        let path = path.canonicalize().map_err(problem)?;
        let lines = LineSource::open_complete(&path).map_err(|error| match error {
            LinesError::Io { source, .. } => problem(source),
            error => Problem::new(error.to_string(), "Name a file, or pipe it in with --input -."),
        })?;
        let mut file = File::open(&path).map_err(problem)?;
        let mut beginning = Vec::new();
        file.by_ref().take(Self::BEGINNING).read_to_end(&mut beginning).map_err(problem)?;
        let length = file.metadata().map_err(problem)?.len();
        let lines = lines.keep(MAX_LENGTH, KEPT);
        Ok(Self { path, length, beginning: crc32fast::hash(&beginning), lines })
    }
}

pub fn standard_input() -> LineSource {
    LineSource::once(io::stdin()).keep(MAX_LENGTH, KEPT)
}
