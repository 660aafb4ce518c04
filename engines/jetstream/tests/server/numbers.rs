//! Numbers as outputs.

use async_nats::jetstream::Context;
use inflight_core::StreamElement;
use inflight_core::pipeline::ReplayableSource;
use inflight_core::pipeline::{Output, Transaction};
use inflight_jetstream::{
    JetStreamError, JetStreamJob, JetStreamSource, JetStreamTransaction, Message, WriteError,
};

use crate::server::LIMIT;

pub(crate) type Number = Output<u64>;

pub(crate) fn number(value: u64) -> Number {
    Output { value, timestamp: None }
}

pub(crate) fn job(context: &Context, stream: &str) -> JetStreamJob {
    JetStreamJob::new(context.clone(), stream, format!("{stream}.checkpoint")).limit(LIMIT)
}

/// A transaction that publishes numbers under `<stream>.out`.
pub(crate) fn numbers(
    context: &Context,
    stream: &str,
) -> JetStreamTransaction<impl FnMut(&Number) -> Result<Message, WriteError> + use<>> {
    let subject = format!("{stream}.out");
    job(context, stream)
        .writing(move |output: &Number| Ok(Message::new(subject.clone(), output.value.to_string())))
}

/// A claimed transaction.
pub(crate) async fn owner(
    context: &Context,
    stream: &str,
) -> impl Transaction<u64, Error = JetStreamError> + use<> {
    let mut owner = numbers(context, stream);
    owner.claim().await.expect("a claim");
    owner
}

/// The numbers in the stream, in its order.
pub(crate) async fn read(context: &Context, stream: &str) -> Vec<u64> {
    let subject = format!("{stream}.out");
    let mut source = JetStreamSource::new(context.clone(), stream).filter(subject);
    while source.open(None).await.is_err() {
        tokio::task::yield_now().await;
    }
    let (all, mut found) = (source.lag().expect("it is open"), Vec::new());
    while (found.len() as u64) < all {
        match std::future::poll_fn(|cx| source.poll_next(cx)).await {
            Some(Ok(StreamElement::Record { value, .. })) => {
                found.push(std::str::from_utf8(&value.payload).unwrap().parse().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
    found
}
