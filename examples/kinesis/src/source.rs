//! A shard as a pipeline's source.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use inflight::StreamElement;
use inflight::pipeline::ReplayableSource;

use crate::patience::CallError;
use crate::reader::{Batch, Reader};
use crate::record::Record;

/// The records of a shard. It ends when the shard was split or merged, behind its last record.
///
/// A record's timestamp is the time at which Kinesis took it, and there are no watermarks.
///
/// Its position is the sequence number of the last record that was handed out, and `None` before the first. Kinesis does not tell
/// whether it has deleted records behind a position: a job that stands still for longer than the stream keeps records goes on with
/// the first one that is left.
pub struct KinesisSource {
    /// `None` from `open` on.
    reader: Option<Reader>,
    /// The read that is under way; `None` before `open` and at the end.
    reading: Option<Pin<Box<dyn Future<Output = Result<(Reader, Batch), CallError>> + Send>>>,
    /// Records that were read and not handed out.
    ahead: VecDeque<Record>,
    is_latest: bool,
    position: Option<String>,
}

impl KinesisSource {
    pub fn new(reader: Reader) -> Self {
        let (ahead, reader) = (VecDeque::new(), Some(reader));
        Self { reader, reading: None, ahead, is_latest: false, position: None }
    }
}

impl ReplayableSource for KinesisSource {
    type Record = Record;
    type Position = Option<String>;
    type Error = CallError;
    type Acknowledger = (); // the stream keeps its records for a time, whoever has read them

    async fn open(&mut self, position: Option<Option<String>>) -> Result<(), CallError> {
        self.position = position.flatten();
        if let Some(reader) = &mut self.reader {
            reader.go(self.position.clone()).await?;
        }
        self.reading = self.reader.take().map(|reader| Box::pin(reader.read()) as _);
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Record>, CallError>>> {
        loop {
            if let Some(record) = self.ahead.pop_front() {
                self.position = Some(record.sequence.clone());
                return Poll::Ready(Some(Ok(element(record))));
            }
            let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
            let read = ready!(reading.as_mut().poll(cx));
            self.reading = None;
            match read {
                Ok((reader, batch)) => {
                    self.ahead.extend(batch.records);
                    self.is_latest = batch.is_latest;
                    self.reading = (!batch.is_end).then(|| Box::pin(reader.read()) as _);
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            }
        }
    }

    fn position(&self) -> Option<String> {
        self.position.clone()
    }

    /// Kinesis tells the age of the records that follow, and not their number: it is known only when none follows.
    fn lag(&self) -> Option<u64> {
        self.is_latest.then_some(self.ahead.len() as u64)
    }

    fn acknowledger(&mut self) {}
}

fn element(record: Record) -> StreamElement<Record> {
    match record.arrived {
        Some(at) => StreamElement::record(record, at),
        None => StreamElement::value(record),
    }
}
