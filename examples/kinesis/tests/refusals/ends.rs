//! The source and the sink.

use std::time::Duration;

use aws_sdk_kinesis::Client;
use inflight::pipeline::{ReplayableSource, TransactionalSink};
use inflight::{CheckpointId, Outcome, StreamElement};
use inflight_kinesis::ask::AskError;
use inflight_kinesis::reader::Reader;
use inflight_kinesis::record::{Answer, Record};
use inflight_kinesis::sink::{KinesisSink, SinkError};
use inflight_kinesis::source::KinesisSource;
use serde_json::{Value, json};

use crate::fake::{kinesis, names, refused};

fn records(numbers: &[&str], next: Option<&str>) -> (u16, Value) {
    let records = numbers
        .iter()
        .map(|number| json!({ "SequenceNumber": number, "PartitionKey": "key", "Data": "" }));
    let records: Vec<_> = records.collect();
    (200, json!({ "Records": records, "NextShardIterator": next, "MillisBehindLatest": 0 }))
}

fn source(client: Client) -> KinesisSource {
    KinesisSource::new(Reader::new(client, "input", "shard-1", Duration::from_millis(250)))
}

/// The sequence numbers of the next records; those before the end if it comes earlier.
async fn read(source: &mut KinesisSource, count: usize) -> Vec<String> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let next = std::future::poll_fn(|cx| source.poll_next(cx)).await;
        let Some(element) = next else { break };
        let StreamElement::Record { value, .. } = element.unwrap() else { panic!("a record") };
        numbers.push(value.sequence);
    }
    numbers
}

// K10
#[tokio::test(start_paused = true)]
async fn an_iterator_that_has_expired_is_replaced_behind_the_last_record() {
    let (client, calls) = kinesis(|call, name, _| match (call, name) {
        (_, "GetShardIterator") => (200, json!({ "ShardIterator": "fresh" })),
        (1, _) => records(&["5", "7"], Some("old")),
        (2, _) => refused("ExpiredIteratorException"),
        (4, _) => records(&["9"], None),
        _ => panic!("call {call} is {name}"),
    });
    let mut source = source(client);
    source.open(None).await.unwrap();
    assert_eq!(source.lag(), None, "nothing is known yet");
    assert_eq!(read(&mut source, 1).await, ["5"]);
    assert_eq!((source.position(), source.lag()), (Some("5".into()), Some(1)));
    assert_eq!(read(&mut source, 9).await, ["7", "9"], "the shard ends there");
    let again = &calls.lock().unwrap()[3].1;
    assert_eq!(again["ShardIteratorType"], "AFTER_SEQUENCE_NUMBER");
    assert_eq!(again["StartingSequenceNumber"], "7");
}

#[tokio::test(start_paused = true)]
async fn a_new_job_begins_with_the_first_record_that_is_left() {
    let (client, calls) = kinesis(|_, name, _| match name {
        "GetShardIterator" => (200, json!({ "ShardIterator": "fresh" })),
        _ => records(&["5"], None),
    });
    let mut source = source(client);
    source.open(None).await.unwrap();
    assert_eq!(calls.lock().unwrap()[0].1["ShardIteratorType"], "TRIM_HORIZON");
    assert_eq!(source.position(), None);
}

#[tokio::test(start_paused = true)]
async fn a_busy_kinesis_is_asked_again_after_growing_delays() {
    let (client, calls) = kinesis(|call, name, _| match (call, name) {
        (0, _) => (200, json!({ "ShardIterator": "fresh" })),
        (1, _) => refused("ProvisionedThroughputExceededException"),
        (2, _) => (500, json!({})),
        (3, _) => records(&["5"], None),
        _ => panic!("call {call} is {name}"),
    });
    let mut source = source(client);
    source.open(None).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(read(&mut source, 9).await, ["5"]);
    assert_eq!(began.elapsed(), Duration::from_millis(50 + 100));
    assert_eq!(calls.lock().unwrap().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_busy_kinesis_is_not_asked_for_ever() {
    let (client, calls) = kinesis(|_, _, _| refused("LimitExceededException"));
    let error = source(client).open(None).await.unwrap_err();
    assert!(error.passes() && error.to_string().contains("LimitExceeded"), "{error}");
    assert_eq!(calls.lock().unwrap().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_shard_that_does_not_exist_cannot_be_opened() {
    let (client, calls) = kinesis(|_, _, _| refused("ResourceNotFoundException"));
    let error = source(client).open(Some(Some("5".into()))).await.unwrap_err();
    assert!(!error.passes());
    let text = "GetShardIterator: service error: ResourceNotFoundException: not now";
    assert_eq!(error.to_string(), text);
    assert_eq!(names(&calls), ["GetShardIterator"]);
}

fn outcome(key: &str, number: u64) -> Outcome<Record, String, AskError> {
    let (shard, sequence, key) = ("shard-1".into(), number.to_string(), key.to_owned());
    let input = Record { shard, sequence, key, data: Vec::new(), arrived: None };
    Outcome { input, result: Ok(format!("answer {number}")), attempts: 1, elapsed: Duration::ZERO }
}

/// An answer of `PutRecords` that refuses some of the keys.
fn put_all_but(body: &Value, keys: &[&str], code: &str) -> (u16, Value) {
    let results = body["Records"].as_array().unwrap().iter().map(|record| {
        match keys.contains(&record["PartitionKey"].as_str().unwrap()) {
            true => json!({ "ErrorCode": code, "ErrorMessage": "not this one" }),
            false => json!({ "SequenceNumber": "1", "ShardId": "shard-1" }),
        }
    });
    let results: Vec<_> = results.collect();
    (200, json!({ "FailedRecordCount": keys.len(), "Records": results }))
}

fn keys(call: &(String, Value)) -> String {
    let records = call.1["Records"].as_array().unwrap().iter();
    records.map(|record| record["PartitionKey"].as_str().unwrap()).collect()
}

// O3: what Kinesis refuses is put before the later answers of its key.
#[tokio::test(start_paused = true)]
async fn answers_of_a_key_wait_for_one_that_was_refused() {
    let (client, calls) = kinesis(|call, _, body| match call {
        0..3 => put_all_but(body, &["a"], "ProvisionedThroughputExceededException"),
        _ => put_all_but(body, &[], ""),
    });
    let mut sink = KinesisSink::new(client, "output");
    sink.abort(None).await.unwrap();
    for (number, key) in ["a", "b", "a", "b"].into_iter().enumerate() {
        sink.write(outcome(key, number as u64), None).await.unwrap();
    }
    sink.pre_commit(CheckpointId(1)).await.unwrap();
    let calls = calls.lock().unwrap();
    let put: Vec<_> = calls.iter().map(keys).collect();
    assert_eq!(put, ["a", "a", "ab", "ab", "a"]);
    let data = |call: usize, at: usize| calls[call].1["Records"][at]["Data"].as_str().unwrap();
    assert_eq!(data(0, 0), data(3, 0), "the first answer of `a`, again");
    assert_ne!(data(3, 0), data(4, 0), "and then the second");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_puts_nothing_fails_in_the_end() {
    let (client, calls) =
        kinesis(|_, _, body| put_all_but(body, &["a"], "ProvisionedThroughputExceededException"));
    let mut sink = KinesisSink::new(client, "output");
    sink.write(outcome("a", 1), None).await.unwrap();
    let error = sink.pre_commit(CheckpointId(1)).await.unwrap_err();
    assert!(matches!(error, SinkError::Throttled), "{error}");
    assert_eq!(calls.lock().unwrap().len(), 12);
}

// K10: a checkpoint that was given up in the middle leaves what the next one puts.
#[tokio::test(start_paused = true)]
async fn a_pre_commit_that_was_dropped_loses_nothing() {
    let (client, calls) = kinesis(|call, _, body| match call {
        0 => put_all_but(body, &["a"], "InternalFailure"),
        _ => put_all_but(body, &[], ""),
    });
    let mut sink = KinesisSink::new(client, "output");
    sink.write(outcome("a", 1), None).await.unwrap();
    let dropped = tokio::time::timeout(Duration::from_millis(1), sink.pre_commit(CheckpointId(1)));
    assert!(dropped.await.is_err(), "it waits before it tries again");
    sink.pre_commit(CheckpointId(2)).await.unwrap();
    assert_eq!(names(&calls), ["PutRecords", "PutRecords"]);
}

#[test]
fn an_answer_says_of_which_record_it_is() {
    let answer = Answer::new(&outcome("a", 5));
    let text = serde_json::to_string(&answer).unwrap();
    assert_eq!(text, r#"{"shard":"shard-1","sequence":"5","answer":{"Ok":"answer 5"}}"#);
}
