//! Writes outcomes to a file of lines, and failed ones to another.

use std::fmt;
use std::path::{Path, PathBuf};

use inflight_core::pipeline::TransactionalSink;
use inflight_core::{CheckpointId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::LinesError;
use crate::file::LineFile;

/// A sink of two files: the output, and the rejected lines in a file of the same name with `.rejected`
/// appended.
///
/// It commits by length: a checkpoint holds the lengths of the files, and recovery cuts them back to these
/// lengths. So a commit only checks that the files are unchanged: before and after each checkpoint is saved,
/// a file that another program has cut, replaced, deleted or written to is an error.
///
/// Both files are locked against a second job ([`LinesError::Owned`]).
pub struct LineSink<F> {
    output: LineFile,
    rejected: LineFile,
    format: F,
}

/// The lengths of the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The output, in bytes.
    pub output: u64,
    /// The rejected lines, in bytes.
    pub rejected: u64,
}

impl<F> LineSink<F> {
    /// Opens or creates the two files. `format` turns each outcome into a line: `Ok(line)` goes to the
    /// output, `Err(line)` to the rejected lines. The sink adds a line feed. A line feed inside the line ends
    /// the pipeline with [`LinesError::LineFeed`], before any byte of that line is written, so `format` has
    /// to escape it. (JSON does.)
    ///
    /// # Errors
    ///
    /// [`LinesError`] if the files cannot be opened or created, or another job has them open.
    pub fn open<T>(path: impl AsRef<Path>, format: F) -> Result<Self, LinesError>
    where
        F: FnMut(T) -> Result<String, String>,
    {
        let output = LineFile::open(&path)?;
        let rejected = LineFile::open(rejected(path.as_ref()))?;
        Ok(Self { output, rejected, format })
    }
}

fn rejected(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".rejected");
    name.into()
}

impl<T, F: FnMut(T) -> Result<String, String>> TransactionalSink<T> for LineSink<F> {
    type Prepared = Lengths;
    type Error = LinesError;

    async fn write(&mut self, record: T, _: Option<Timestamp>) -> Result<(), LinesError> {
        match (self.format)(record) {
            Ok(line) => self.output.write(line.as_bytes()),
            Err(line) => self.rejected.write(line.as_bytes()),
        }
    }

    async fn pre_commit(&mut self, _id: CheckpointId) -> Result<Lengths, LinesError> {
        Ok(Lengths { output: self.output.sync().await?, rejected: self.rejected.sync().await? })
    }

    async fn commit(&mut self, _id: CheckpointId, _: &Lengths) -> Result<(), LinesError> {
        self.output.check().await?;
        self.rejected.check().await
    }

    async fn abort(&mut self, kept: Option<&Lengths>) -> Result<(), LinesError> {
        match kept {
            Some(kept) => {
                self.output.cut(kept.output).await?;
                self.rejected.cut(kept.rejected).await
            }
            None => self.output.check_empty().and_then(|()| self.rejected.check_empty()),
        }
    }
}

impl<F> fmt::Debug for LineSink<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (output, rejected) = (&self.output, &self.rejected);
        f.debug_struct("LineSink").field("output", output).field("rejected", rejected).finish()
    }
}
