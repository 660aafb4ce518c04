//! Snapshots: the elements in flight as bytes, and back.

mod backlog;
mod codec;
#[cfg(feature = "checkpoint")]
mod decode;
#[cfg(feature = "checkpoint")]
mod encode;
mod error;
mod format;
#[cfg(feature = "checkpoint")]
mod read;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
mod rescale;
#[cfg(feature = "checkpoint")]
mod user_types;
#[cfg(not(feature = "checkpoint"))]
mod without;
#[cfg(feature = "checkpoint")]
mod write;

pub(super) use self::backlog::Saved;
pub use self::codec::Checkpointing;
pub use self::error::RestoreError;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub(super) use self::format::SavedCall;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub(crate) use self::rescale::holds_anything;
#[cfg(all(feature = "alloc", feature = "checkpoint"))]
pub use self::rescale::{merge_snapshots, split_snapshot};
