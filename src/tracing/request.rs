//! A request inside its span.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ::tracing::Span;
use pin_project_lite::pin_project;

pin_project! {
    /// A request that is polled, and dropped, inside its span. Dropping it cancels it.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct TracedRequest<Fut> {
        // `None` once it has its answer, unless the span is disabled.
        #[pin]
        request: Option<Fut>,
        span: Span,
    }

    impl<Fut> PinnedDrop for TracedRequest<Fut> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if !this.span.is_disabled() && this.request.is_some() {
                this.span.record("outcome", "cancelled");
                let _entered = this.span.enter();
                this.request.set(None);
            }
        }
    }
}

impl<Fut> TracedRequest<Fut> {
    pub(crate) fn new(span: Span, request: Fut) -> Self {
        Self { request: Some(request), span }
    }
}

impl<Fut, Output, Error> Future for TracedRequest<Fut>
where
    Fut: Future<Output = Result<Output, Error>>,
{
    type Output = Result<Output, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(request) = this.request.as_mut().as_pin_mut() else { return Poll::Pending };
        if this.span.is_disabled() {
            return request.poll(cx);
        }
        let entered = this.span.enter();
        let result = ready!(request.poll(cx));
        this.request.set(None);
        drop(entered);
        this.span.record("outcome", if result.is_ok() { "ok" } else { "error" });
        Poll::Ready(result)
    }
}

impl<Fut> fmt::Debug for TracedRequest<Fut> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TracedRequest").field("span", &self.span).finish_non_exhaustive()
    }
}
