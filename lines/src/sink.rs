//! Outcomes into a file of lines, and those that failed into another.

use std::fmt;
use std::path::{Path, PathBuf};

use inflight_core::pipeline::TransactionalSink;
use inflight_core::{CheckpointId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::LinesError;
use crate::file::LineFile;

/// A sink of two files: the output, and beside it the rejected lines, under the same name with
/// `.rejected` behind it.
///
/// It commits by length: what a checkpoint holds is how long the files are, and after a crash they are cut
/// back to that. So a commit has nothing left to do, but to see that the files are what they were: before and
/// after each checkpoint is saved, one that was cut, replaced, deleted or written to by somebody else is an
/// error.
///
/// Both files are locked, so that a second job cannot have them ([`LinesError::Owned`]).
pub struct LineSink<F> {
    output: LineFile,
    rejected: LineFile,
    format: F,
}

/// How long the files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// The output, in bytes.
    pub output: u64,
    /// The rejected lines, in bytes.
    pub rejected: u64,
}

impl<F> LineSink<F> {
    /// Writes what `format` makes of each outcome: `Ok(line)` into the output, `Err(line)` into the
    /// rejected lines. A line feed is added; one inside the line ends the pipeline with
    /// [`LinesError::LineFeed`], before anything of that line is written, so `format` has to escape it. (JSON does.)
    ///
    /// # Errors
    ///
    /// [`LinesError`] when the files can neither be opened nor made, or another job has them open.
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
