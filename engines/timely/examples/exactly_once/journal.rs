//! The journal of a worker: its output and its checkpoints, in one file.
//!
//! ```text
//! r 6 0 128 31 16384      an answer: epoch, partition, number, key, answer
//! c 6 140                 the end of the epoch: its number, and the source's position behind it
//! ```
//!
//! An epoch counts when its last line is whole. One write appends an epoch, so the death of the process leaves at most the beginning of one,
//! which is cut off. (To survive the death of the machine, it would take an `fsync` as well, and a checksum in the last line.)

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

pub(crate) struct Journal {
    file: File,
    /// The end of each epoch.
    ends: Vec<End>,
}

struct End {
    /// The source's position.
    position: u64,
    /// The length of the file.
    length: u64,
}

impl Journal {
    /// Opens a worker's journal, or makes one.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut journal = Self { file, ends: Vec::new() };
        let mut length = 0;
        let mut whole = 0;
        for line in
            fs::read_to_string(path)?.split_inclusive('\n').filter(|line| line.ends_with('\n'))
        {
            length += line.len() as u64;
            if let Some((epoch, position)) = epoch_end(line) {
                journal.ends.truncate(epoch);
                journal.ends.push(End { position, length });
                whole = length;
            }
        }
        journal.file.set_len(whole)?;
        journal.file.seek(SeekFrom::Start(whole))?;
        Ok(journal)
    }

    /// The number of epochs that are whole.
    pub(crate) fn epochs(&self) -> u64 {
        self.ends.len() as u64
    }

    /// The position of the source behind all epochs.
    pub(crate) fn position(&self) -> u64 {
        self.ends.last().map_or(0, |end| end.position)
    }

    /// Forgets all epochs behind the first `epochs`, and cuts the file off there unless told otherwise.
    pub(crate) fn go_back(&mut self, epochs: u64, cut: bool) -> io::Result<()> {
        self.ends.truncate(epochs as usize);
        if cut {
            let length = self.ends.last().map_or(0, |end| end.length);
            self.file.set_len(length)?;
            self.file.seek(SeekFrom::Start(length))?;
        }
        Ok(())
    }

    /// Appends an epoch: its answers, as lines, and the source's position behind it.
    pub(crate) fn append(&mut self, mut answers: String, position: u64) -> io::Result<()> {
        answers.push_str(&format!("c {} {position}\n", self.epochs()));
        self.file.write_all(answers.as_bytes())?;
        let length = self.file.stream_position()?;
        self.ends.push(End { position, length });
        Ok(())
    }
}

/// The number of an epoch and the source's position, from its last line.
fn epoch_end(line: &str) -> Option<(usize, u64)> {
    let (epoch, position) = line.strip_prefix("c ")?.trim_end().split_once(' ')?;
    Some((epoch.parse().ok()?, position.parse().ok()?))
}
