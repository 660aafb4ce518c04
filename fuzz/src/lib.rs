//! The code that the fuzz targets share.

pub mod bytes;
pub mod format;
pub mod life;
pub mod policy;
