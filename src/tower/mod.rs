//! Any [tower](https://docs.rs/tower) service as the function of a stage: see [`from_service`].

mod line;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use inflight_core::{AsyncFunction, AttemptInfo};
use pin_project_lite::pin_project;
use tower_service::Service;

use self::line::{Line, Place};

/// A function that asks `service`, with the request that `request` makes of each record and its attempt.
///
/// Rate limits, circuit breakers, load shedding, balancing: what the tower family has goes between the stage
/// and the service, in a `tower::ServiceBuilder`. Timeouts and retries are better left to the stage, which knows
/// what is in flight; [`AttemptInfo::request_id`] is what the service can tell repeats by.
///
/// **Readiness.** All calls share the one `service`; it need not be `Clone`. An attempt asks it with `call` only
/// when `poll_ready` has said that it may, in the same poll. So an attempt uses one permit of a limited service
/// and holds none while it waits. Attempts that wait stand in line, the first to come is the first to be served,
/// and only the first in line asks for readiness: what wakes it wakes the right one. An attempt that is
/// dropped while it waits leaves the line, and the next one moves up.
///
/// **The wait counts** against the stage's timeouts, as the attempt has started. Let
/// [`AsyncWait::max_running`](crate::AsyncWait::max_running) be no larger than what the service lets
/// through at once, and nothing waits there.
///
/// **A limit that is shared** with users of the service outside of this stage (a `GlobalConcurrencyLimit`, clones)
/// needs [`releasing`](FromService::releasing).
///
/// An error of `poll_ready` is the failure of the attempt that asked, as one of `call` is.
///
/// ```
/// use inflight::{AsyncWait, AsyncWaitExt, Tokio, from_service};
/// use std::time::Duration;
/// use tower::{ServiceBuilder, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), inflight::StartError> {
/// let service = ServiceBuilder::new()
///     .rate_limit(10, Duration::from_secs(1))
///     .service(service_fn(async |place: String| Ok::<_, std::io::Error>(place.len())));
///
/// let places = futures::stream::iter(["Bergen", "Lima", "Hanoi"]);
/// let mut lengths = places
///     .async_wait_with(AsyncWait::ordered(100), from_service(service, |place, _| String::from(*place)))
///     .spawn(Tokio)?;
/// while let Some(done) = lengths.next().await {
///     println!("{}: {:?}", done.input, done.result);
/// }
/// # Ok(())
/// # }
/// ```
pub fn from_service<In, S, M, Request>(service: S, request: M) -> FromService<S, M>
where
    M: FnMut(&In, AttemptInfo) -> Request,
    S: Service<Request>,
{
    FromService { line: Line::new(service), request }
}

/// A tower service as a function. Returned by [`from_service`].
pub struct FromService<S, M> {
    line: Line<S>,
    request: M,
}

impl<S: Clone, M> FromService<S, M> {
    /// Gives back the readiness that nobody is left to use: for a service whose limit others share.
    ///
    /// A service that was asked for readiness may hold a permit, or a place in the queue for one, until it is
    /// called. If the attempt that asked is dropped (it has timed out, say) and no other waits, those others
    /// would miss that permit until the next record comes. With this the service is then replaced by a clone of
    /// itself and dropped, permit and all. Clones of a service share its limits; that is tower's convention.
    #[must_use]
    pub fn releasing(mut self) -> Self {
        self.line = self.line.releasing();
        self
    }
}

impl<In, S, M, Request> AsyncFunction<In> for FromService<S, M>
where
    M: FnMut(&In, AttemptInfo) -> Request,
    S: Service<Request>,
{
    type Output = S::Response;
    type Error = S::Error;
    type Future = ServiceCall<S, Request>;

    fn invoke(&mut self, input: &In, attempt: AttemptInfo) -> Self::Future {
        let request = Some((self.request)(input, attempt));
        ServiceCall { state: State::Waiting { place: self.line.place(), request } }
    }
}

impl<S, M> fmt::Debug for FromService<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FromService").finish_non_exhaustive()
    }
}

pin_project! {
    /// A request to a service: waits until the service is ready, and then for its response. Dropping it cancels it.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct ServiceCall<S, Request>
    where
        S: Service<Request>,
    {
        #[pin]
        state: State<S, Request, S::Future>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, Request, Response> {
        Waiting { place: Place<S>, request: Option<Request> },
        Called { #[pin] response: Response },
    }
}

impl<S, Request> Future for ServiceCall<S, Request>
where
    S: Service<Request>,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        if let StateProjection::Waiting { place, request } = state.as_mut().project() {
            let response = ready!(place.poll_attempt(cx, request))?;
            state.set(State::Called { response });
        }
        match state.project() {
            StateProjection::Called { response } => response.poll(cx),
            StateProjection::Waiting { .. } => Poll::Pending, // it was called above
        }
    }
}

impl<S, Request> fmt::Debug for ServiceCall<S, Request>
where
    S: Service<Request>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceCall").finish_non_exhaustive()
    }
}
