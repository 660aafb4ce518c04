//! The sink: a line in one of two files for each outcome, and the checkpoint that says how far the
//! files are.

use std::fs::{self, File};
use std::io::SeekFrom;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::Arc;

use inflight::prelude::*;
use tokio::io::{AsyncSeekExt, AsyncWriteExt, BufWriter};

use crate::airport::Enrichment;
use crate::checkpoints::{Checkpoints, Written};
use crate::counters::Counters;
use crate::format;
use crate::line::Line;
use crate::lookup::LookupError;
use crate::problem::Problem;
use crate::progress::say;
use crate::source::{End, LastWord};

/// Where outcomes end.
pub struct Sink {
    pub output: OutputFile,
    pub rejected: OutputFile,
    /// `None`: there are none.
    pub checkpoints: Option<Checkpoints>,
    pub counters: Arc<Counters>,
    /// How many more lines until the process aborts.
    pub crash_after: Option<u64>,
}

impl Sink {
    pub async fn write(
        &mut self,
        outcome: Outcome<Line, Enrichment, LookupError>,
    ) -> Result<(), Problem> {
        self.counters.outcome(outcome.attempts, outcome.elapsed);
        match &outcome.result {
            Ok(airports) => {
                self.output.write(&format::enriched(&outcome.input, airports)).await?;
                self.counters.written.add(1);
                self.crash_if_due();
            }
            Err(failure) => {
                let reason = format::reason(failure, outcome.attempts);
                self.rejected.write(&format::rejected(&outcome.input, &reason)).await?;
                self.counters.rejected.add(1);
            }
        }
        Ok(())
    }

    /// Everything up to `time` has been written.
    pub fn watermark(&self, time: Timestamp) {
        self.counters.watermark(time);
    }

    /// Saves a checkpoint. All that was written before belongs to it: after a crash the files are
    /// cut back to this length, and the checkpoint holds everything that comes behind it.
    pub async fn commit(&mut self, checkpoint: Checkpoint) -> Result<(), Problem> {
        self.save(checkpoint, false).await
    }

    /// The last checkpoint, when nothing is in flight any more.
    pub async fn finish(&mut self, last_word: &LastWord) -> Result<(), Problem> {
        let checkpoint = last_word.position.checkpoint(last_word.next);
        self.save(checkpoint, matches!(last_word.end, End::Finished)).await
    }

    /// Ends before all that was in flight has come out. The last checkpoint stands, and what was
    /// written behind it is cut off when the job goes on; whoever looks meanwhile sees whole lines.
    pub async fn give_up(&mut self) -> Result<(), Problem> {
        self.output.sync().await?;
        self.rejected.sync().await?;
        Ok(())
    }

    async fn save(&mut self, checkpoint: Checkpoint, finished: bool) -> Result<(), Problem> {
        let written = Written {
            output: self.output.sync().await?,
            rejected: self.rejected.sync().await?,
            totals: self.counters.totals(),
            finished,
        };
        if let Some(checkpoints) = &mut self.checkpoints {
            checkpoints.save(checkpoint, &written).await?;
            self.counters.checkpoints.add(1);
        }
        Ok(())
    }

    fn crash_if_due(&mut self) {
        if let Some(left) = &mut self.crash_after {
            *left -= 1;
            if *left == 0 {
                say("--crash-after: aborting now, with no clean-up");
                process::abort();
            }
        }
    }
}

/// A file that grows at its end.
#[derive(Debug)]
pub struct OutputFile {
    path: PathBuf,
    file: BufWriter<tokio::fs::File>,
    length: u64,
}

impl OutputFile {
    const MAKE_ROOM: &str = "Make room there, and run the same command again: it goes on.";

    /// Opens or makes the file, and leaves it as it is.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let way_out =
            "Name a file that can be written to with --output; its folder has to be there.";
        let problem = Problem::file("write", path, way_out);
        let file = File::options().create(true).truncate(false).write(true).open(path);
        let file = file.map_err(&problem)?;
        let metadata = file.metadata().map_err(&problem)?;
        if !metadata.is_file() {
            return Err(Problem::new(format!("{} is no regular file", path.display()), way_out));
        }
        let file = BufWriter::with_capacity(64 * 1024, tokio::fs::File::from_std(file));
        Ok(Self { path: path.into(), file, length: metadata.len() })
    }

    /// How long the file is, which may not be there yet.
    pub fn length(path: &Path) -> u64 {
        fs::metadata(path).ok().filter(fs::Metadata::is_file).map_or(0, |data| data.len())
    }

    /// Whether all is there that a checkpoint says was written.
    pub fn check_length(path: &Path, least: u64) -> Result<(), Problem> {
        let length = Self::length(path);
        if length >= least {
            return Ok(());
        }
        let path = path.display();
        let what = format!("{path} has {length} bytes, but {least} were written by an earlier run");
        Err(Problem::new(what, "Put the file back as it was, or start over with --fresh."))
    }

    /// Forgets what is behind `length`, on the disk too, and goes on from there.
    pub async fn cut(&mut self, length: u64) -> Result<(), Problem> {
        let problem = Problem::file("cut", &self.path, "Name another file with --output.");
        self.file.get_mut().set_len(length).await.map_err(&problem)?;
        self.file.seek(SeekFrom::Start(length)).await.map_err(&problem)?;
        self.file.get_ref().sync_data().await.map_err(&problem)?;
        self.length = length;
        Ok(())
    }

    async fn write(&mut self, line: &[u8]) -> Result<(), Problem> {
        let problem = Problem::file("write", &self.path, Self::MAKE_ROOM);
        self.file.write_all(line).await.map_err(problem)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Makes sure that all of it is on the disk, and tells how long it is.
    async fn sync(&mut self) -> Result<u64, Problem> {
        let problem = Problem::file("write", &self.path, Self::MAKE_ROOM);
        self.file.flush().await.map_err(&problem)?;
        self.file.get_ref().sync_data().await.map_err(&problem)?;
        Ok(self.length)
    }
}
