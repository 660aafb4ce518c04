//! The output stream as a pipeline's sink.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::pin::Pin;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::BuildError;
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::{PutRecordsRequestEntry, PutRecordsResultEntry};
use futures_util::FutureExt;
use inflight::pipeline::TransactionalSink;
use inflight::{CheckpointId, Outcome, Timestamp};

use crate::ask::AskError;
use crate::patience::{self, CallError};
use crate::record::{Answer, Record};

/// The most answers that wait.
const FULL: usize = 500;
/// The most records and bytes of a call. Kinesis takes 5 MiB.
const RECORDS: usize = 500;
const BYTES: usize = 4 << 20;
/// The calls in a row, the last of which put nothing, after which the sink has failed.
const TRIES: u32 = 12;

/// Puts the answer of each record under the record's key, **at least once**: Kinesis has no transactions, so what was put since the last
/// checkpoint stays after a crash, and is put again. The answers of a key are in order, apart from such repetitions, and
/// [`Seen`](crate::record::Seen) recognises those.
///
/// Nothing keeps an earlier owner of the shard out (rule 8 of a sink) but the lock of the store's folder.
///
/// One call is under way at a time, and takes what has come during the one before.
pub struct KinesisSink {
    client: Client,
    stream: String,
    /// Answers that are not put, in order.
    waiting: Vec<PutRecordsRequestEntry>,
    call: Option<Call>,
    /// The calls in a row in which Kinesis has refused something.
    failures: u32,
}

/// A call that is under way.
struct Call {
    /// The places of its answers among those that wait.
    places: Vec<usize>,
    results: Pin<Box<dyn Future<Output = Result<Vec<PutRecordsResultEntry>, CallError>> + Send>>,
}

impl KinesisSink {
    pub fn new(client: Client, stream: &str) -> Self {
        let (stream, waiting) = (stream.to_owned(), Vec::new());
        Self { client, stream, waiting, call: None, failures: 0 }
    }

    /// Puts until at most so many wait. It goes on where it was when its future was dropped.
    async fn put_until(&mut self, most: usize) -> Result<(), SinkError> {
        while self.waiting.len() > most {
            let results = (&mut self.call().results).await;
            self.end_call(results)?;
        }
        Ok(())
    }

    /// Puts as far as nothing has to be waited for.
    fn put_some(&mut self) -> Result<(), SinkError> {
        while !self.waiting.is_empty()
            && let Some(results) = (&mut self.call().results).now_or_never()
        {
            self.end_call(results)?;
        }
        Ok(())
    }

    /// The call that is under way, or a new one.
    fn call(&mut self) -> &mut Call {
        let Self { client, stream, waiting, call, failures } = self;
        call.get_or_insert_with(|| {
            let places = first_of_each_key(waiting);
            let entries = places.iter().map(|place| waiting[*place].clone()).collect();
            let results = put(client.clone(), stream.clone(), entries, *failures);
            Call { places, results: Box::pin(results) }
        })
    }

    /// What Kinesis has refused stays in its place, and the later answers of its key wait for it.
    fn end_call(
        &mut self,
        results: Result<Vec<PutRecordsResultEntry>, CallError>,
    ) -> Result<(), SinkError> {
        let places = self.call.take().map(|call| call.places).unwrap_or_default();
        let done = those_put(&places, &results?)?;
        self.failures = if done.len() == places.len() { 0 } else { self.failures + 1 };
        if done.is_empty() && self.failures >= TRIES {
            return Err(SinkError::Throttled);
        }
        let mut place = 0..;
        self.waiting.retain(|_| place.next().is_none_or(|place| !done.contains(&place)));
        Ok(())
    }
}

/// One call, after a delay if the last ones were refused in part.
async fn put(
    client: Client,
    stream: String,
    entries: Vec<PutRecordsRequestEntry>,
    failures: u32,
) -> Result<Vec<PutRecordsResultEntry>, CallError> {
    if failures > 0 {
        tokio::time::sleep(patience::delay(failures)).await;
    }
    let request = || {
        let request = client.put_records().stream_name(&stream);
        request.set_records(Some(entries.clone())).send()
    };
    let put = patience::call(request).await;
    put.map(|put| put.records).map_err(|error| CallError::new("PutRecords", error))
}

/// The places of the answers that may go out together: `PutRecords` guarantees no order, so there is one of each key, the first.
fn first_of_each_key(waiting: &[PutRecordsRequestEntry]) -> Vec<usize> {
    let (mut keys, mut chosen, mut bytes) = (BTreeSet::new(), Vec::new(), 0);
    for (at, entry) in waiting.iter().enumerate() {
        if !keys.insert(entry.partition_key()) {
            continue;
        }
        bytes += entry.data().as_ref().len() + entry.partition_key().len();
        if chosen.len() == RECORDS || (bytes > BYTES && !chosen.is_empty()) {
            break;
        }
        chosen.push(at);
    }
    chosen
}

/// The places of the answers that Kinesis has put.
fn those_put(
    places: &[usize],
    results: &[PutRecordsResultEntry],
) -> Result<BTreeSet<usize>, SinkError> {
    let mut put = BTreeSet::new();
    for (place, result) in places.iter().zip(results) {
        match result.error_code() {
            None => drop(put.insert(*place)),
            code if patience::code_passes(code) => {}
            Some(code) => {
                let reason = result.error_message().unwrap_or_default();
                return Err(SinkError::Refused { code: code.into(), reason: reason.into() });
            }
        }
    }
    Ok(put)
}

impl TransactionalSink<Outcome<Record, String, AskError>> for KinesisSink {
    type Prepared = ();
    type Error = SinkError;

    async fn write(
        &mut self,
        outcome: Outcome<Record, String, AskError>,
        _: Option<Timestamp>,
    ) -> Result<(), SinkError> {
        let answer = serde_json::to_vec(&Answer::new(&outcome)).map_err(SinkError::Json)?;
        let entry = PutRecordsRequestEntry::builder().partition_key(outcome.input.key);
        let entry = entry.data(Blob::new(answer)).build().map_err(SinkError::Build)?;
        self.waiting.push(entry);
        self.put_some()?;
        self.put_until(FULL).await
    }

    /// Puts everything before the checkpoint is saved: otherwise a crash in between would lose it.
    async fn pre_commit(&mut self, _: CheckpointId) -> Result<(), SinkError> {
        self.put_until(0).await
    }

    async fn commit(&mut self, _: CheckpointId, _: &()) -> Result<(), SinkError> {
        Ok(())
    }

    async fn abort(&mut self, _: Option<&()>) -> Result<(), SinkError> {
        // Of an earlier life of this value.
        self.call = None;
        self.waiting.clear();
        Ok(())
    }
}

/// The answers could not be put.
#[derive(Debug)]
pub enum SinkError {
    /// A call has failed.
    Call(CallError),
    /// Kinesis has refused a record for good.
    Refused { code: String, reason: String },
    /// Kinesis has refused records again and again, because there were too many.
    Throttled,
    /// The answer cannot be written as JSON.
    Json(serde_json::Error),
    /// The answer cannot be a record.
    Build(BuildError),
}

impl From<CallError> for SinkError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Refused { code, reason } => write!(f, "PutRecords: {code}: {reason}"),
            Self::Throttled => f.write_str("PutRecords: the output stream has too few shards"),
            Self::Json(error) => error.fmt(f),
            Self::Build(error) => error.fmt(f),
        }
    }
}

impl Error for SinkError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, bytes: usize) -> PutRecordsRequestEntry {
        let entry = PutRecordsRequestEntry::builder().partition_key(key);
        entry.data(Blob::new(vec![0; bytes])).build().unwrap()
    }

    // O3: Kinesis may take some records of a call and refuse others.
    #[test]
    fn a_call_has_one_record_of_a_key() {
        let waiting = ["a", "b", "a", "c", "b"].map(|key| entry(key, 1));
        assert_eq!(first_of_each_key(&waiting), [0, 1, 3]);
    }

    #[test]
    fn a_call_is_not_too_large() {
        let keys: Vec<_> = (0..600).map(|key| entry(&key.to_string(), 1)).collect();
        assert_eq!(first_of_each_key(&keys).len(), RECORDS);
        let large = ["a", "b", "c"].map(|key| entry(key, BYTES / 2));
        assert_eq!(first_of_each_key(&large), [0]);
        assert_eq!(first_of_each_key(&[entry("a", BYTES + 1)]), [0], "Kinesis is to refuse it");
    }

    #[test]
    fn a_record_that_was_refused_stays() {
        let answer = |code: Option<&str>| {
            PutRecordsResultEntry::builder().set_error_code(code.map(Into::into)).build()
        };
        let busy = "ProvisionedThroughputExceededException";
        let put = those_put(&[0, 3, 4], &[answer(None), answer(Some(busy)), answer(None)]);
        assert_eq!(put.unwrap(), BTreeSet::from([0, 4]));
        let put = those_put(&[0], &[answer(Some("AccessDenied"))]);
        assert!(matches!(put, Err(SinkError::Refused { .. })));
    }
}
