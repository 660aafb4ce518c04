//! A file that grows at its end, and that can be cut back.

use std::cmp::Ordering;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use blocking::unblock;
use inflight_store_file::sync_parent;

use crate::error::LinesError;
use crate::identity::leads_to;

/// Bytes that are buffered before they are written to the file.
const CHUNK: usize = 64 * 1024;

/// An output of lines, as a part of a sink of your own. [`LineSink`](crate::LineSink) consists of two.
///
/// The file ends with a complete line, unless the process or the machine died during a write. While this
/// value lives, and while a sync that it has started runs, the file is locked against other `LineFile`s.
/// [`sync`](Self::sync) and [`check`](Self::check) detect changes by other programs.
#[derive(Debug)]
pub struct LineFile {
    file: Arc<Locked>,
    /// Lines that are not written to the file yet.
    buffer: Vec<u8>,
    /// The length of the file with the buffered lines.
    length: u64,
}

impl LineFile {
    /// Opens a file, and creates it if it does not exist. Its content stays as it is.
    ///
    /// # Errors
    ///
    /// [`LinesError`] if the file cannot be opened, is not a regular file, or is open in another `LineFile`
    /// ([`LinesError::Owned`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LinesError> {
        let path = path.as_ref();
        // Check this before opening, because opening a pipe waits for its reader.
        if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
            return Err(LinesError::NoFile { path: path.into() });
        }
        let file = Locked::open(path)?;
        let length = file.length()?;
        // The path may be a link to a file in another folder.
        let synced = path.canonicalize().and_then(|path| sync_parent(&path));
        synced.map_err(LinesError::io("write", path))?;
        Ok(Self { file: Arc::new(file), buffer: Vec::new(), length })
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The length of the file in bytes, with all lines that were written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes a line and a line feed. The line is in the file after the next [`sync`](Self::sync), or
    /// earlier. (A carriage return does not end a line.)
    ///
    /// # Errors
    ///
    /// [`LinesError::LineFeed`] if the line contains a line feed: then nothing is written, and the file
    /// remains usable. [`LinesError::Io`]: from then on only [`cut`](Self::cut) is meaningful.
    pub fn write(&mut self, line: &[u8]) -> Result<(), LinesError> {
        if let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            return Err(LinesError::line_feed(self.path(), self.length, line, at));
        }
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.length += line.len() as u64 + 1;
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LinesError> {
        let written = (&self.file.file).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(LinesError::io("write", self.path()))
    }

    /// Makes all lines durable against a crash of the machine, and returns the length of the file: the
    /// pre-commit of a sink.
    ///
    /// # Errors
    ///
    /// [`LinesError::Io`], and the errors of [`check`](Self::check): from then on only [`cut`](Self::cut) is
    /// meaningful.
    pub async fn sync(&mut self) -> Result<u64, LinesError> {
        self.flush()?;
        let (file, length) = (Arc::clone(&self.file), self.length);
        unblock(move || {
            file.check(length)?;
            file.sync()
        })
        .await?;
        Ok(length)
    }

    /// Checks that no other program has changed the file: the commit of a sink calls this.
    /// [`sync`](Self::sync) checks it too.
    ///
    /// The check compares the path and the length. It does not detect bytes that were changed in place.
    ///
    /// # Errors
    ///
    /// [`LinesError::OutputMoved`], [`LinesError::Shrunk`], [`LinesError::Grown`], [`LinesError::Io`].
    pub async fn check(&self) -> Result<(), LinesError> {
        let (file, length) = (Arc::clone(&self.file), self.length - self.buffer.len() as u64);
        unblock(move || file.check(length)).await
    }

    /// Removes everything after `length`, on the medium too, and continues from there: the abort of a sink.
    ///
    /// # Errors
    ///
    /// [`LinesError::Shrunk`] if the file is shorter than `length`, [`LinesError::OutputMoved`], and
    /// [`LinesError::Io`].
    pub async fn cut(&mut self, length: u64) -> Result<(), LinesError> {
        self.buffer.clear();
        let file = Arc::clone(&self.file);
        unblock(move || file.cut(length)).await?;
        self.length = length;
        Ok(())
    }

    /// Refuses a file with content. A new job calls this for its output.
    ///
    /// # Errors
    ///
    /// [`LinesError::NotEmpty`] if the file has any content.
    pub fn check_empty(&self) -> Result<(), LinesError> {
        match self.length {
            0 => Ok(()),
            length => Err(LinesError::NotEmpty { path: self.path().into(), length }),
        }
    }
}

/// A file that is locked until this value is dropped or its process ends.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    /// The absolute path, which stays valid when the process changes its working directory.
    place: PathBuf,
    file: File,
}

impl Locked {
    fn open(path: &Path) -> Result<Self, LinesError> {
        let refused = LinesError::io("write", path);
        let place = absolute(path).map_err(&refused)?;
        // With `append`, writes go to the current end of the file: a file that another program cuts stays too
        // short, and gets no hole. The file is opened for reading only because Windows cannot lock a file
        // that was opened only to append.
        let mut options = File::options();
        let file = options.create(true).read(true).append(true).open(path).map_err(&refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LinesError::Owned { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(LinesError::io("lock", path)(error)),
        }
        let locked = Self { path: path.into(), place, file };
        // Another program may have replaced the file before it was locked.
        locked.check_place()?;
        Ok(locked)
    }

    fn length(&self) -> Result<u64, LinesError> {
        Ok(self.file.metadata().map_err(LinesError::io("write", &self.path))?.len())
    }

    fn check_place(&self) -> Result<(), LinesError> {
        match leads_to(&self.place, &self.file).map_err(LinesError::io("find", &self.path))? {
            true => Ok(()),
            false => Err(LinesError::OutputMoved { path: self.path.clone() }),
        }
    }

    fn check(&self, expected: u64) -> Result<(), LinesError> {
        self.check_place()?;
        let (path, length) = (self.path.clone(), self.length()?);
        match length.cmp(&expected) {
            Ordering::Less => Err(LinesError::Shrunk { path, length, expected }),
            Ordering::Equal => Ok(()),
            Ordering::Greater => Err(LinesError::Grown { path, length, expected }),
        }
    }

    fn sync(&self) -> Result<(), LinesError> {
        self.file.sync_data().map_err(LinesError::io("write", &self.path))
    }

    fn cut(&self, length: u64) -> Result<(), LinesError> {
        self.check_place()?;
        let found = self.length()?;
        if found < length {
            let path = self.path.clone();
            return Err(LinesError::Shrunk { path, length: found, expected: length });
        }
        self.file.set_len(length).map_err(LinesError::io("cut", &self.path))?;
        self.sync()
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file does not release the lock at once: a child process that is just being started has
        // the file open too, until it executes its own program.
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // K10: a child process that is just being started has all files open, but does not own them.
    #[test]
    fn who_is_dropped_owns_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output");
        let file = LineFile::open(&path).unwrap();
        let of_child = file.file.file.try_clone().unwrap();
        drop(file);
        LineFile::open(&path).unwrap();
        drop(of_child);
    }
}
