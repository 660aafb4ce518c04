//! What is in flight, as bytes and back.

mod read;
#[cfg(feature = "alloc")]
mod rescale;
mod write;

pub use self::read::RestoreError;
pub(super) use self::read::Saved;
#[cfg(feature = "alloc")]
pub(crate) use self::rescale::holds_anything;
#[cfg(feature = "alloc")]
pub use self::rescale::{merge_snapshots, split_snapshot};
pub use self::write::Checkpointing;
