//! The input as bytes: a file that can be taken up in the middle, or standard input.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use crate::line::MAX_LENGTH;
use crate::problem::Problem;

pub type Reader = Box<dyn AsyncBufRead + Send + Unpin>;

/// A file of lines.
#[derive(Debug)]
pub struct InputFile {
    /// Absolute, without symbolic links.
    pub path: PathBuf,
    pub length: u64,
    /// A checksum of the file's first bytes, by which a checkpoint knows it again.
    pub beginning: u32,
    file: File,
}

impl InputFile {
    /// The checksum covers this much: enough to tell files apart, and quick for a large one.
    const BEGINNING: u64 = 64 * 1024;

    pub fn open(path: &Path) -> Result<Self, Problem> {
        let way_out = "Name a file that can be read with --input, or `-` for standard input.";
        let problem = |error| Problem::file("read", path, way_out)(error);
        if !fs::metadata(path).map_err(problem)?.is_file() {
            let what = format!("{} is no regular file", path.display());
            return Err(Problem::new(what, "Name a file, or pipe it in with --input -."));
        }
        let mut file = File::open(path).map_err(problem)?;
        let mut beginning = Vec::new();
        file.by_ref().take(Self::BEGINNING).read_to_end(&mut beginning).map_err(problem)?;
        Ok(Self {
            path: path.canonicalize().map_err(problem)?,
            length: file.metadata().map_err(problem)?.len(),
            beginning: crc32fast::hash(&beginning),
            file,
        })
    }

    /// The bytes from `offset` on.
    pub fn read_from(mut self, offset: u64) -> Result<Reader, Problem> {
        self.file.seek(SeekFrom::Start(offset)).map_err(Problem::file(
            "read",
            &self.path,
            "Name another file with --input.",
        ))?;
        Ok(Box::new(BufReader::with_capacity(64 * 1024, tokio::fs::File::from_std(self.file))))
    }
}

pub fn standard_input() -> Reader {
    Box::new(BufReader::new(tokio::io::stdin()))
}

/// A line as it was read.
#[derive(Debug, Default)]
pub struct RawLine {
    /// Without the line feed, and cut short behind [`MAX_LENGTH`].
    pub bytes: Vec<u8>,
    /// How long the line is, without the line feed.
    pub length: u64,
    /// How far the next line is from this one.
    pub consumed: u64,
}

/// The next line; `None` at the end. The last one may lack its line feed.
pub async fn read_line(reader: &mut Reader) -> io::Result<Option<RawLine>> {
    let mut line = RawLine::default();
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            return Ok((line.consumed > 0).then_some(line));
        }
        let feed = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..feed.unwrap_or(chunk.len())];
        let room = usize::try_from(MAX_LENGTH).unwrap_or(usize::MAX) - line.bytes.len();
        line.bytes.extend_from_slice(&part[..part.len().min(room)]);
        line.length += part.len() as u64;

        let consumed = part.len() + usize::from(feed.is_some());
        line.consumed += consumed as u64;
        reader.consume(consumed);
        if feed.is_some() {
            return Ok(Some(line));
        }
    }
}
