//! A partition as a pipeline's source.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use inflight_core::StreamElement;
use inflight_core::pipeline::ReplayableSource;
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;

use crate::blocking;
use crate::error::KafkaJobError;
use crate::fetcher::{Fetcher, Queue, Wake};
use crate::record::{self, KafkaRecord};

/// The records of a partition that are committed, from an offset: [`KafkaClient::source`](crate::KafkaClient::source) makes it.
///
/// Its position is the offset behind the last record that it has handed out. Offsets have gaps (the marks of transactions, records
/// that compaction has removed), so the position says nothing of a number of records. A new job begins where the log begins. It never
/// ends by itself, and goes on by itself while brokers are away. The timestamp of a record is that of its message. It makes no
/// watermarks, because times in a partition need not be in order.
///
/// It opens at no position that the log does not have ([`KafkaJobError::OutOfRange`]).
pub struct KafkaSource {
    fetcher: Arc<Fetcher>,
    partition: i32,
    limit: Duration,
    wake: Arc<Wake>,
    /// `None` before it is opened.
    queue: Option<Queue>,
    position: u64,
    /// Nothing is behind the last record but marks.
    is_at_end: bool,
}

impl KafkaSource {
    pub(crate) fn new(fetcher: Arc<Fetcher>, partition: i32, limit: Duration) -> Self {
        let (wake, queue) = (Arc::default(), None);
        Self { fetcher, partition, limit, wake, queue, position: 0, is_at_end: false }
    }

    /// The next record in the queue, or the mark of its end, if there is one.
    fn next(&mut self) -> Option<Result<Next, KafkaJobError>> {
        let polled = self.queue.as_ref()?.poll(Duration::ZERO)?;
        Some(match polled {
            Ok(message) => {
                let offset = message.offset().max(0).cast_unsigned();
                let timestamp = record::timestamp(&message);
                let value = KafkaRecord::new(offset, &message);
                Ok(Next::Record(offset, StreamElement::Record { value, timestamp }))
            }
            Err(ClientError::PartitionEOF(_)) => Ok(Next::End),
            // The client repeats by itself what may pass; other errors stand where records are missing.
            Err(error) => Err(error.into()),
        })
    }
}

enum Next {
    Record(u64, StreamElement<KafkaRecord>),
    End,
}

impl ReplayableSource for KafkaSource {
    type Record = KafkaRecord;
    type Position = u64;
    type Error = KafkaJobError;
    type Acknowledger = ();

    /// # Errors
    ///
    /// [`KafkaJobError::OutOfRange`], [`KafkaJobError::Busy`], [`KafkaJobError::Client`], [`KafkaJobError::NoRuntime`],
    /// [`KafkaJobError::ThreadEnded`].
    async fn open(&mut self, position: Option<u64>) -> Result<(), KafkaJobError> {
        let (fetcher, partition, limit) = (Arc::clone(&self.fetcher), self.partition, self.limit);
        let (low, high) = blocking::call(move || fetcher.range(partition, limit)).await?;
        let position = position.unwrap_or(low);
        if position < low || position > high {
            return Err(KafkaJobError::OutOfRange { partition, position, low, high });
        }
        let wake = Arc::clone(&self.wake);
        self.queue = Some(self.fetcher.read(partition, position, wake).await?);
        self.position = position;
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<KafkaRecord>, KafkaJobError>>> {
        let mut is_registered = false;
        loop {
            match self.next() {
                // A record that was read for an earlier position.
                Some(Ok(Next::Record(offset, _))) if offset < self.position => {}
                Some(Ok(Next::Record(offset, element))) => {
                    (self.position, self.is_at_end) = (offset + 1, false);
                    return Poll::Ready(Some(Ok(element)));
                }
                Some(Ok(Next::End)) => self.is_at_end = true,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if is_registered => return Poll::Pending,
                None => {
                    self.wake.register(cx.waker());
                    is_registered = true; // what came before that wakes nobody
                }
            }
        }
    }

    fn position(&self) -> u64 {
        self.position
    }

    /// Offsets from the position to the end of what is committed, as the client has heard of it in the last seconds.
    fn lag(&self) -> Option<u64> {
        if self.is_at_end {
            return Some(0);
        }
        self.fetcher.end(self.partition).map(|end| end.saturating_sub(self.position))
    }

    fn acknowledger(&mut self) {}
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.take() {
            self.fetcher.leave(self.partition, queue);
        }
    }
}

impl fmt::Debug for KafkaSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("KafkaSource");
        shown.field("partition", &self.partition).field("position", &self.position);
        shown.finish_non_exhaustive()
    }
}
