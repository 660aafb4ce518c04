//! Descriptions and positions as a checkpoint stores them, so that another life gets nothing but these bytes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Verdict, told};

pub(crate) fn to_bytes<T: Serialize>(value: &T) -> Verdict<Vec<u8>> {
    postcard::to_allocvec(value).map_err(told("it could not be serialised for a checkpoint"))
}

pub(crate) fn from_bytes<T: DeserializeOwned>(bytes: &[u8]) -> Verdict<T> {
    postcard::from_bytes(bytes).map_err(told("it could not be read from a checkpoint"))
}
