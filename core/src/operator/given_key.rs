//! What goes in with a key that somebody else knows.

use super::{Full, Operator};
use crate::element::StreamElement;
use crate::policy::GivenKey;
use crate::retry::RetryStrategy;
use crate::storage::Storage;
use crate::time::Instant;

impl<In, Out, E, R, S> Operator<In, Out, E, R, S, GivenKey>
where
    R: RetryStrategy<In, Out, E>,
    S: Storage,
{
    /// Takes in an element whose record has this key, as
    /// [`ordered_by_given_key`](crate::AsyncWait::ordered_by_given_key) says; a control element's is not looked at.
    ///
    /// # Errors
    ///
    /// As for [`push`](Self::push).
    #[cfg_attr(feature = "alloc", inline(always))]
    pub fn push_with_key(
        &mut self,
        now: Instant,
        key: u64,
        element: StreamElement<In>,
    ) -> Result<(), Full<StreamElement<In>>> {
        self.push_element(now, key, element)
    }
}
