//! Which file it is that a name leads to.

use std::fs::{self, File, Metadata};
use std::path::Path;

/// Whether a name leads to that open file, and not to another one or to none.
pub(crate) fn leads_to(path: &Path, file: &File) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(ours), Ok(found)) => is_same_file(&ours, &found),
        _ => false,
    }
}

#[cfg(unix)]
fn is_same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Elsewhere an open file does not give way to another one.
#[cfg(not(unix))]
fn is_same_file(_one: &Metadata, _other: &Metadata) -> bool {
    true
}
