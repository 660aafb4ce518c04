//! The types of a call, under one name.

use crate::function::TimedOutCall;
use crate::outcome::{Failure, Outcome};
use crate::policy::Extras;
use crate::retry::RetryStrategy;

/// The types of a call, under one name: what goes in, what comes out, how it fails, how it is retried, and where its record
/// has its key from. Sealed.
///
/// An operator's is the tuple `(Input, Output, Error, Retry, Key, Extras)`; a stage's is its [`Job`](crate::Job).
///
/// ```
/// use inflight_core::{Fixed, FixedDelay, Operator, Unkeyed};
///
/// /// Reads a sensor by its number; the answer is a temperature, or an error code.
/// type Readings = Operator<(u8, i32, u16, FixedDelay, Unkeyed, ()), Fixed<16>>;
/// # let _ = size_of::<Readings>();
/// ```
pub trait Call: sealed::Sealed {
    /// A record's value.
    type Input;
    /// The result of a call that succeeds.
    type Output;
    /// The function's own error.
    type Error;
    /// Decides whether an attempt is followed by another one.
    type Retry: RetryStrategy<Self::Input, Self::Output, Self::Error>;
    /// Selects a record's key.
    type Key;
    /// The policy's optional parts; `()` for none.
    type Extras: Extras<Self::Input, Self::Output, Self::Error>;
}

impl<In, Out, E, R, K, X> Call for (In, Out, E, R, K, X)
where
    R: RetryStrategy<In, Out, E>,
    X: Extras<In, Out, E>,
{
    type Input = In;
    type Output = Out;
    type Error = E;
    type Retry = R;
    type Key = K;
    type Extras = X;
}

pub(crate) mod sealed {
    #[allow(unreachable_pub)]
    pub trait Sealed {}

    impl<In, Out, E, R, K, X> Sealed for (In, Out, E, R, K, X) {}
}

/// How an attempt or a call of these types ends.
pub(crate) type ResultOf<C> = Result<<C as Call>::Output, Failure<<C as Call>::Error>>;

/// A call of these types that has timed out.
pub(crate) type TimedOutCallOf<'a, C> =
    TimedOutCall<'a, <C as Call>::Input, <C as Call>::Output, <C as Call>::Error>;

/// The outcome of a call of these types.
pub(crate) type OutcomeOf<C> = Outcome<<C as Call>::Input, <C as Call>::Output, <C as Call>::Error>;
