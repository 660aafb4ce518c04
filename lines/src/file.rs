//! A file that grows at its end, and can be cut back.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blocking::unblock;

use crate::error::LinesError;

/// What is gathered before it is written.
const CHUNK: usize = 64 * 1024;

/// An output of lines: what a sink of your own is made of. [`LineSink`](crate::LineSink) is made of two.
///
/// What is in the file ends with a whole line, unless the process or the machine died while it was being
/// written.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: Arc<File>,
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
    /// [`LinesError`] when that cannot be done, or it is no regular file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, LinesError> {
        let path = path.as_ref();
        let refused = LinesError::io("write", path);
        // Before it is opened: to open a pipe is to wait for its reader.
        if fs::metadata(path).is_ok_and(|data| !data.is_file()) {
            return Err(LinesError::NoFile { path: path.into() });
        }
        let options = File::options().create(true).truncate(false).write(true).open(path);
        let mut file = options.map_err(&refused)?;
        let length = file.seek(SeekFrom::End(0)).map_err(&refused)?;
        sync_parent(path).map_err(&refused)?;
        Ok(Self { path: path.into(), file: Arc::new(file), buffer: Vec::new(), length })
    }

    /// Its name.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes, with all that was written.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Writes a line, to which a line feed is added. It is in the file after the next
    /// [`sync`](Self::sync), or earlier.
    ///
    /// # Errors
    ///
    /// [`LinesError::Io`]: from then on only [`cut`](Self::cut) makes sense.
    pub fn write(&mut self, line: &[u8]) -> Result<(), LinesError> {
        self.buffer.extend_from_slice(line);
        self.buffer.push(b'\n');
        self.length += line.len() as u64 + 1;
        if self.buffer.len() >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), LinesError> {
        let written = (&*self.file).write_all(&self.buffer);
        self.buffer.clear();
        written.map_err(LinesError::io("write", &self.path))
    }

    /// Makes sure that everything outlives a crash of the machine, and says how long the file is then:
    /// what a sink's pre-commit has to do.
    ///
    /// # Errors
    ///
    /// [`LinesError::Io`]: from then on only [`cut`](Self::cut) makes sense.
    pub async fn sync(&mut self) -> Result<u64, LinesError> {
        self.flush()?;
        self.sync_file().await?;
        Ok(self.length)
    }

    /// Forgets what is behind `length`, on the medium too, and goes on from there: what a sink does when
    /// it aborts.
    ///
    /// # Errors
    ///
    /// [`LinesError::Shrunk`] when the file is shorter than that, and [`LinesError::Io`].
    pub async fn cut(&mut self, length: u64) -> Result<(), LinesError> {
        let refused = LinesError::io("cut", &self.path);
        self.buffer.clear();
        let found = self.file.metadata().map_err(&refused)?.len();
        if found < length {
            let path = self.path.clone();
            return Err(LinesError::Shrunk { path, length: found, expected: length });
        }
        self.file.set_len(length).map_err(&refused)?;
        (&*self.file).seek(SeekFrom::Start(length)).map_err(&refused)?;
        self.length = length;
        self.sync_file().await
    }

    /// What a new job does with what it finds: refuses it.
    ///
    /// # Errors
    ///
    /// [`LinesError::NotEmpty`] when there is anything in the file.
    pub fn check_empty(&self) -> Result<(), LinesError> {
        match self.length {
            0 => Ok(()),
            length => Err(LinesError::NotEmpty { path: self.path.clone(), length }),
        }
    }

    async fn sync_file(&self) -> Result<(), LinesError> {
        let file = Arc::clone(&self.file);
        unblock(move || file.sync_data()).await.map_err(LinesError::io("write", &self.path))
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
