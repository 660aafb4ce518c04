//! The methods that add optional parts to a policy.

use core::time::Duration;

use super::{
    AdaptiveLimit, AsyncWait, BatchSize, GivenKey, JudgeBy, KeyBy, LimitStrategy, OnRetry,
    OneAttemptPerKey, Pausable, PauseOn, Rate, RateLimit, RetriedCall, TimeoutBy, Verdict, WeighBy,
};
use crate::outcome::Failure;

/// The optional parts: a program pays for those that it names, and for no others.
impl<R, K, X> AsyncWait<R, K, X> {
    /// Starts attempts at this rate at most, retries included. Waiting for it takes no time of a call's timeout.
    ///
    /// A second rate beside the first one holds as well: 10 a second, say, and 200 a minute.
    pub fn rate(self, rate: Rate) -> AsyncWait<R, K, (X, RateLimit)> {
        self.with(RateLimit::count(rate))
    }

    /// Starts attempts at this rate at most, where each takes as many tokens as its record weighs: the tokens of a model's service,
    /// or bytes.
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, Rate};
    ///
    /// struct Prompt {
    ///     text: String,
    /// }
    ///
    /// let minute = Duration::from_secs(60);
    /// let policy = AsyncWait::unordered(64)
    ///     .rate(Rate::per(minute, 500).burst(50))
    ///     .rate_by(Rate::per(minute, 90_000).burst(9_000), |prompt: &Prompt| prompt.text.len() as u64 / 4);
    /// # let _ = policy;
    /// ```
    pub fn rate_by<In, F>(
        self,
        rate: Rate,
        weight: F,
    ) -> AsyncWait<R, K, (X, RateLimit<WeighBy<F>>)>
    where
        F: Fn(&In) -> u64,
    {
        self.with(RateLimit::weigh(rate, weight))
    }

    /// Lets as many attempts run as the service can take (A1): the limit of running attempts follows its answers, up to
    /// [`max_running`](Self::max_running). Every failure of an attempt counts as overload; [`limit_by`](Self::limit_by) tells apart.
    ///
    /// ```
    /// use inflight_core::{Aimd, AsyncWait};
    ///
    /// let policy = AsyncWait::unordered(500).limit(Aimd::between(4, 100));
    /// # let _ = policy;
    /// ```
    pub fn limit<L: LimitStrategy>(self, strategy: L) -> AsyncWait<R, K, (X, AdaptiveLimit<L>)> {
        self.with(AdaptiveLimit::new(strategy))
    }

    /// The same, where a function says what a failure tells about the service's load. An unknown customer does not mean that there are
    /// too many requests:
    ///
    /// ```
    /// use inflight_core::{AsyncWait, Failure, Gradient, Verdict};
    ///
    /// let policy = AsyncWait::unordered(500).limit_by(
    ///     Gradient::between(4, 100),
    ///     |failure: &Failure<u16>| match failure {
    ///         Failure::Error(400..=428 | 430..=499) => Verdict::Ignored,
    ///         _ => Verdict::Overloaded, // 429, 5xx, and timeouts
    ///     },
    /// );
    /// # let _ = policy;
    /// ```
    pub fn limit_by<E, L, F>(
        self,
        strategy: L,
        verdict: F,
    ) -> AsyncWait<R, K, (X, AdaptiveLimit<L, JudgeBy<F>>)>
    where
        L: LimitStrategy,
        F: Fn(&Failure<E>) -> Verdict,
    {
        self.with(AdaptiveLimit::judging(strategy, verdict))
    }

    /// Lets an attempt's failure hold back all attempts for as long as `pause_after` says: one `Retry-After` for everybody (A2).
    /// Meanwhile no attempt starts, no retry is used up, and the time of no call passes whose attempt is not running. Attempts that run
    /// go on. Of several failures the latest instant counts.
    ///
    /// The attempt has failed all the same, so add a retry strategy for its own record.
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, Failure, FixedDelay};
    ///
    /// struct Refused {
    ///     retry_after: Option<Duration>,
    /// }
    ///
    /// let policy = AsyncWait::unordered(64)
    ///     .retry(FixedDelay::new(Duration::from_millis(10)).max_retries(5))
    ///     .pause_on(|failure: &Failure<Refused>| failure.error()?.retry_after);
    /// # let _ = policy;
    /// ```
    pub fn pause_on<E, F>(self, pause_after: F) -> AsyncWait<R, K, (X, PauseOn<F>)>
    where
        F: Fn(&Failure<E>) -> Option<Duration>,
    {
        self.with(PauseOn(pause_after))
    }

    /// Lets [`pause`](crate::Stage::pause) and [`resume`](crate::Stage::resume) be called in a program without the feature `alloc`, where a
    /// pause costs some flash. With `alloc` every stage can be paused.
    pub fn pausable(self) -> AsyncWait<R, K, (X, Pausable)> {
        self.with(Pausable)
    }

    /// Bounds each record's call by a timeout of its own, in place of [`timeout`](Self::timeout) (T9). `None` leaves the record with
    /// that one. The function must give the same answer each time it is asked about a record. A call with a timeout of zero is over as
    /// soon as its first attempt has been polled without an answer.
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::AsyncWait;
    ///
    /// struct Query {
    ///     patience: Option<Duration>,
    /// }
    ///
    /// let policy = AsyncWait::ordered(64)
    ///     .timeout(Duration::from_secs(1))
    ///     .timeout_by(|query: &Query| query.patience);
    /// # let _ = policy;
    /// ```
    pub fn timeout_by<In, F>(self, timeout: F) -> AsyncWait<R, K, (X, TimeoutBy<F>)>
    where
        F: Fn(&In) -> Option<Duration>,
    {
        self.with(TimeoutBy(timeout))
    }

    /// Tells a function of each retry when it is decided: for a log, or a counter of one's own (R8). The number of all retries is in
    /// [`Metrics::retried`](crate::Metrics::retried) anyway.
    ///
    /// The function runs within the stage, so it must be quick and must not block. It hears nothing of a result that becomes the
    /// outcome, and of no attempt that a crash has interrupted. If the call's timeout passes before the delay is over, the attempt
    /// does not come.
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, ExponentialBackoff, RetriedCall};
    ///
    /// let policy = AsyncWait::ordered(64)
    ///     .retry(ExponentialBackoff::new(Duration::from_millis(50)).max_retries(4))
    ///     .on_retry(|call: RetriedCall<'_, u64, String, std::io::Error>| {
    ///         let RetriedCall { input, attempts, delay, .. } = call;
    ///         eprintln!("order {input}: attempt {attempts}, {:?}, again in {delay:?}", call.error());
    ///     });
    /// # let _ = policy;
    /// ```
    pub fn on_retry<In, Out, E, F>(self, look: F) -> AsyncWait<R, K, (X, OnRetry<F>)>
    where
        F: FnMut(RetriedCall<'_, In, Out, E>),
    {
        self.with(OnRetry(look))
    }

    /// Makes one request for several records: for [`async_wait_batch`](crate::AsyncWaitExt::async_wait_batch), or an engine with
    /// [`poll_batch`](crate::Operator::poll_batch) (B1).
    ///
    /// A batch goes as soon as nothing more can join it: it has as many records as it may have, or its weight; or the window is
    /// full, the input has ended, or a control element is behind one of its records, which does not wait for a batch to fill (B2).
    /// Otherwise it goes when its first record has waited for the time [`within`](BatchSize::within) which it should go.
    ///
    /// Each record keeps its own outcome, place in the order, attempts, timeout and place in a snapshot. The capacity counts
    /// records; [`max_running`](Self::max_running) and a [`rate`](Self::rate) count batches (B4). Batches are full when the capacity has
    /// room for those that run and for one more.
    ///
    /// ```
    /// use core::time::Duration;
    /// use inflight_core::{AsyncWait, BatchSize};
    ///
    /// struct Row {
    ///     bytes: u64,
    /// }
    ///
    /// let size = BatchSize::records(100).weight(1 << 20, |row: &Row| row.bytes);
    /// let policy = AsyncWait::ordered(1_000)
    ///     .max_running(8)
    ///     .batch(size.within(Duration::from_millis(5)));
    /// # let _ = policy;
    /// ```
    pub fn batch<W>(self, size: BatchSize<W>) -> AsyncWait<R, K, (X, BatchSize<W>)> {
        self.with(size)
    }

    fn with_one_attempt_per_key(mut self) -> AsyncWait<R, K, (X, OneAttemptPerKey)> {
        self.settings.order = self.settings.order.one_attempt_per_key();
        self.with(OneAttemptPerKey)
    }

    fn with<P>(self, part: P) -> AsyncWait<R, K, (X, P)> {
        let Self { settings, retry, key, extras } = self;
        AsyncWait { settings, retry, key, extras: (extras, part) }
    }
}

impl<R, F, X> AsyncWait<R, KeyBy<F>, X> {
    /// Lets one attempt run at a time for each key, while outcomes leave in the order of all inputs (O7): for a service that must not be
    /// asked about one customer twice at once. The order of keys that [`ordered_by_key`](AsyncWait::ordered_by_key) gives does that
    /// anyway, and an unordered policy becomes such a one.
    ///
    /// ```
    /// use inflight_core::AsyncWait;
    ///
    /// struct Order {
    ///     customer: u64,
    /// }
    ///
    /// let policy = AsyncWait::ordered(64).with_key(|order: &Order| order.customer).one_attempt_per_key();
    /// # let _ = policy;
    /// ```
    pub fn one_attempt_per_key(self) -> AsyncWait<R, KeyBy<F>, (X, OneAttemptPerKey)> {
        self.with_one_attempt_per_key()
    }
}

impl<R, X> AsyncWait<R, GivenKey, X> {
    /// Lets one attempt run at a time for each key, as with [keys from a function](AsyncWait::one_attempt_per_key).
    pub fn one_attempt_per_key(self) -> AsyncWait<R, GivenKey, (X, OneAttemptPerKey)> {
        self.with_one_attempt_per_key()
    }
}
