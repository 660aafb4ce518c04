//! Makes the names of files and folders durable.

use std::io;
use std::path::Path;

/// Syncs a folder: the names in it, new and removed ones, survive a crash of the machine from then on. The content of a
/// file needs a sync of its own.
///
/// On systems other than Unix a folder cannot be opened like a file; there this does nothing, and the file
/// system has to keep names by itself.
///
/// # Errors
///
/// The file system's, if it cannot open or sync the folder.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

/// [Syncs](sync_folder) the folder that contains `path`, which should be absolute. The root has no such folder; then this
/// does nothing.
///
/// # Errors
///
/// As [`sync_folder`].
pub fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}
