//! The input as bytes: a file that can be taken up in the middle, or standard input.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

use crate::line::MAX_LENGTH;
use crate::problem::Problem;
use crate::source::Position;

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

    /// The bytes from `position` on. Those before it have to be what they were.
    pub fn read_from(mut self, position: &Position) -> Result<Reader, Problem> {
        let problem = Problem::file("read", &self.path, "Name another file with --input.");
        self.file.seek(SeekFrom::Start(0)).map_err(&problem)?;
        let before =
            io::BufReader::with_capacity(64 * 1024, self.file.by_ref().take(position.offset));
        if checksum(before).map_err(&problem)? != position.checksum {
            let (path, offset) = (self.path.display(), position.offset);
            return Err(Problem::new(
                format!("{path} is another input than before: its first {offset} bytes differ"),
                "Put the file back as it was, or start over with --fresh.",
            ));
        }
        Ok(Box::new(tokio::io::BufReader::with_capacity(
            64 * 1024,
            tokio::fs::File::from_std(self.file),
        )))
    }
}

fn checksum(mut bytes: impl BufRead) -> io::Result<u32> {
    let mut checksum = crc32fast::Hasher::new();
    loop {
        let chunk = bytes.fill_buf()?;
        if chunk.is_empty() {
            return Ok(checksum.finalize());
        }
        checksum.update(chunk);
        let length = chunk.len();
        bytes.consume(length);
    }
}

pub fn standard_input() -> Reader {
    Box::new(tokio::io::BufReader::new(tokio::io::stdin()))
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
    /// Of all the bytes up to the next line.
    pub checksum: u32,
}

/// The next line; `None` at the end. The last one may lack its line feed. `checksum` is that of all
/// the bytes before it.
pub async fn read_line(reader: &mut Reader, checksum: u32) -> io::Result<Option<RawLine>> {
    let mut line = RawLine::default();
    let mut checksum = crc32fast::Hasher::new_with_initial(checksum);
    loop {
        let chunk = reader.fill_buf().await?;
        if chunk.is_empty() {
            line.checksum = checksum.finalize();
            return Ok((line.consumed > 0).then_some(line));
        }
        let feed = chunk.iter().position(|byte| *byte == b'\n');
        let part = &chunk[..feed.unwrap_or(chunk.len())];
        let room = usize::try_from(MAX_LENGTH).unwrap_or(usize::MAX) - line.bytes.len();
        line.bytes.extend_from_slice(&part[..part.len().min(room)]);
        line.length += part.len() as u64;

        let consumed = part.len() + usize::from(feed.is_some());
        line.consumed += consumed as u64;
        checksum.update(&chunk[..consumed]);
        reader.consume(consumed);
        if feed.is_some() {
            line.checksum = checksum.finalize();
            return Ok(Some(line));
        }
    }
}
