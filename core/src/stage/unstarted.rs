//! What the compiler says when a stage is used as a stream before it is started.

use core::future::{Pending, pending};

use super::job::Job;
use super::start::StageBuilder;
use super::stream::ItemOf;

/// No type implements this. It makes the compiler say in these words that a [`StageBuilder`] is no stream.
#[allow(unreachable_pub)] // in a bound of a public method
#[diagnostic::on_unimplemented(
    message = "this stage has not been started: say `.spawn(Tokio)?` or `.in_place(Tokio)?` first, with your runtime",
    label = "not a stream yet"
)]
pub trait IsStarted {}

impl<J: Job> StageBuilder<'_, J> {
    /// Never compiles, and so the compiler says why there is no next outcome. Without it, it would look for `next` elsewhere.
    #[doc(hidden)]
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Pending<Option<ItemOf<J>>>
    where
        Self: IsStarted,
    {
        pending()
    }
}
