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

/// A function that calls `service`, with the request that `request` makes of each record and its attempt.
///
/// Rate limits, circuit breakers, load shedding and balancing go between the stage and the service, in a
/// `tower::ServiceBuilder`. Leave timeouts and retries to the stage, which knows the records in flight. A service can
/// recognise a repeated request by its [`AttemptInfo::request_id`].
///
/// **Readiness.** All attempts share the one `service`; it need not be `Clone`. An attempt calls it in the same poll in
/// which `poll_ready` has said that it may. So an attempt uses one permit of a limited service and holds none while it
/// waits. Waiting attempts stand in a line, first come, first served. Only the first one polls for readiness, because a
/// service wakes only the task that has polled it last. An attempt that is dropped while it waits leaves the line, and
/// the next one moves up.
///
/// **The wait counts** against the stage's timeouts, as the attempt has started. Let
/// [`AsyncWait::max_running`](crate::AsyncWait::max_running) be no larger than the number of calls that the service
/// lets through at once: then no attempt waits there.
///
/// **A limit that is shared** with users of the service outside of this stage (a `GlobalConcurrencyLimit`, clones)
/// needs [`releasing`](FromService::releasing).
///
/// An error of `poll_ready` fails the attempt that has polled, as an error of `call` does.
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
    /// Releases a reserved permit that no waiting attempt can use any more. For a service whose limit others share.
    ///
    /// A service that was polled for readiness may hold a permit, or a place in the queue for one, until it is
    /// called. If the attempt that has polled it is dropped (it has timed out, say) and no other waits, the others
    /// would miss that permit until the next record comes. With `releasing` the service is then replaced by its clone
    /// and dropped, with the permit. Clones of a service share its limits; that is tower's convention.
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
