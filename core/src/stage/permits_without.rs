//! Without a heap, stages share no permits.

use crate::operator::{Call, Operator};
use crate::requests::Requests;
use crate::storage::Storage;

/// A share of nothing.
pub(super) struct Share;

#[allow(clippy::unused_self)] // as with permits
impl Share {
    pub(super) const NONE: Self = Self;

    #[inline(always)]
    pub(super) fn is_limited(&self) -> bool {
        false
    }

    #[inline(always)]
    pub(super) fn get_permit<F, R, C, S>(&mut self, _: &mut Operator<C, S>, _: &R, _: bool) -> bool
    where
        F: Future,
        R: Requests<F>,
        C: Call,
        S: Storage,
    {
        false
    }

    #[inline(always)]
    pub(super) fn end(&mut self) {}
}
