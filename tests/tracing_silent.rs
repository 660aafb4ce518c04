//! What it costs when nobody listens. Alone in its program: a subscriber on any thread makes `tracing` ask more.

use std::cell::Cell;
use std::mem::size_of;

use futures::stream;
use inflight::Tokio;
use inflight::{AsyncWait, AsyncWaitExt};
use inflight::{TracedRequest, traced};
use tracing::Span;
use tracing_subscriber::Registry;

#[test]
fn a_key_is_asked_for_only_when_somebody_listens() {
    let asked = Cell::new(0);
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.expect("a runtime").block_on(async {
            let key = |n: &u32| {
                asked.set(asked.get() + 1);
                *n
            };
            let answer = |n: &u32| std::future::ready(Ok::<_, ()>(*n));
            let stage = stream::iter(0..5)
                .async_wait_with(AsyncWait::ordered(1), traced("numbers", key, answer));
            let mut stage = stage.in_place(Tokio).unwrap();
            while stage.next().await.is_some() {}
        });
    };
    work();
    assert_eq!(asked.take(), 0, "there is no subscriber");
    tracing::subscriber::with_default(Registry::default(), work);
    assert_eq!(asked.take(), 5);
}

#[test]
fn a_request_grows_by_a_span() {
    type Request = std::future::Pending<Result<u64, ()>>;
    let room = size_of::<TracedRequest<Request>>() - size_of::<Option<Request>>();
    assert!(room <= size_of::<Span>() + size_of::<usize>(), "{room} bytes");
}
