//! A file that grows at its end, and can be cut back.

use std::cmp::Ordering;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use blocking::unblock;

use crate::error::LinesError;
use crate::identity::leads_to;

/// What is gathered before it is written.
const CHUNK: usize = 64 * 1024;

/// An output of lines: what a sink of your own is made of. [`LineSink`](crate::LineSink) is made of two.
///
/// What is in the file ends with a whole line, unless the process or the machine died while it was being
/// written. While this value lives, and a sync of it that it has left behind, the file is locked against others
/// of its kind. What others do to it nevertheless is found out when it is [synced](Self::sync) or
/// [checked](Self::check).
#[derive(Debug)]
pub struct LineFile {
    file: Arc<Locked>,
    /// Lines that are not in the file yet.
    buffer: Vec<u8>,
    /// With those in the buffer.
    length: u64,
}

impl LineFile {
    /// Opens a file, which is made if it is not there, and leaves it as it is.
    ///
    /// # Errors
    ///
    /// [`LinesError`] when that cannot be done, it is no regular file, or another one has it open
    /// ([`LinesError::Owned`]).
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LinesError> {
        let path = path.as_ref();
        // Before it is opened: to open a pipe is to wait for its reader.
        if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
            return Err(LinesError::NoFile { path: path.into() });
        }
        let file = Locked::open(path)?;
        let length = file.length()?;
        sync_parent(path).map_err(LinesError::io("write", path))?;
        Ok(Self { file: Arc::new(file), buffer: Vec::new(), length })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// Its length in bytes, with all that was written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes a line, to which a line feed is added. It is in the file after the next
    /// [`sync`](Self::sync), or earlier. (A carriage return makes no second line.)
    ///
    /// # Errors
    ///
    /// [`LinesError::LineFeed`] when there is one in the line: then nothing is written, and the file can be used
    /// as before. [`LinesError::Io`]: from then on only [`cut`](Self::cut) makes sense.
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

    /// Makes sure that everything outlives a crash of the machine, and says how long the file is then:
    /// what a sink's pre-commit has to do.
    ///
    /// # Errors
    ///
    /// [`LinesError::Io`], and those of [`check`](Self::check): from then on only [`cut`](Self::cut) makes sense.
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

    /// Whether the file is as it was left: what a sink's commit has to ask. [`sync`](Self::sync) does it too.
    ///
    /// It is told by its name and its length. What is changed in place, byte for byte, is not found out.
    ///
    /// # Errors
    ///
    /// [`LinesError::OutputMoved`], [`LinesError::Shrunk`], [`LinesError::Grown`], [`LinesError::Io`].
    pub async fn check(&self) -> Result<(), LinesError> {
        let (file, length) = (Arc::clone(&self.file), self.length - self.buffer.len() as u64);
        unblock(move || file.check(length)).await
    }

    /// Forgets what is behind `length`, on the medium too, and goes on from there: what a sink does when
    /// it aborts.
    ///
    /// # Errors
    ///
    /// [`LinesError::Shrunk`] when the file is shorter than that, [`LinesError::OutputMoved`], and
    /// [`LinesError::Io`].
    pub async fn cut(&mut self, length: u64) -> Result<(), LinesError> {
        self.buffer.clear();
        let file = Arc::clone(&self.file);
        unblock(move || file.cut(length)).await?;
        self.length = length;
        Ok(())
    }

    /// What a new job does with what it finds: refuses it.
    ///
    /// # Errors
    ///
    /// [`LinesError::NotEmpty`] when there is anything in the file.
    pub fn check_empty(&self) -> Result<(), LinesError> {
        match self.length {
            0 => Ok(()),
            length => Err(LinesError::NotEmpty { path: self.path().into(), length }),
        }
    }
}

/// A file that is locked as long as this value lives, or its process.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    /// The same when the process changes its folder.
    place: PathBuf,
    file: File,
}

impl Locked {
    fn open(path: &Path) -> Result<Self, LinesError> {
        let refused = LinesError::io("write", path);
        let place = absolute(path).map_err(&refused)?;
        // What is appended goes to the end, wherever that is: a file that somebody cuts stays too short,
        // and gets no hole.
        // Nothing is read here: Windows does not lock a file that was opened only to append.
        let mut options = File::options();
        let file = options.create(true).read(true).append(true).open(path).map_err(&refused)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(LinesError::Owned { path: path.into() }),
            Err(TryLockError::Error(error)) => return Err(LinesError::io("lock", path)(error)),
        }
        let locked = Self { path: path.into(), place, file };
        // Somebody may have replaced it before it was locked.
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
        // To close the file is not enough: a child process that is just being started has it open
        // too, until it runs its own program.
        let _ = self.file.unlock();
    }
}

/// A new name outlives a crash of the machine once the folder it stands in is synced.
#[cfg(unix)]
fn sync_parent(path: &Path) -> io::Result<()> {
    let folder = path.canonicalize()?;
    folder.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(not(unix))]
fn sync_parent(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // K10: a child process that is just being started has all files open, and is nobody's owner.
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
