//! The types of records.

use std::fmt::Debug;

use inflight_fuzz::bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record's type.
pub(crate) trait Record: Serialize + DeserializeOwned + Clone + PartialEq + Debug {
    fn read(bytes: &mut Bytes<'_>) -> Self;

    /// Reads some of the records of schema version 0 and 1.
    fn migrate(version: u32, bytes: &[u8]) -> Option<Self>;
}

impl Record for u32 {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        bytes.number() as Self
    }

    fn migrate(version: u32, bytes: &[u8]) -> Option<Self> {
        (version == 1).then(|| bytes.first().copied().map(Self::from))?
    }
}

impl Record for (u32, Vec<u8>) {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let length = bytes.below(12);
        (bytes.number() as u32, bytes.take(length).to_vec())
    }

    fn migrate(version: u32, bytes: &[u8]) -> Option<Self> {
        Some((version, bytes.to_vec()))
    }
}

impl Record for String {
    fn read(bytes: &mut Bytes<'_>) -> Self {
        let length = bytes.below(12);
        Self::from_utf8_lossy(bytes.take(length)).into_owned()
    }

    fn migrate(_: u32, bytes: &[u8]) -> Option<Self> {
        Self::from_utf8(bytes.to_vec()).ok()
    }
}
