//! A partition as a source, beyond the suite.

use std::future::poll_fn;
use std::time::Duration;

use inflight_core::pipeline::ReplayableSource;
use inflight_core::{StreamElement, Timestamp};
use inflight_kafka::{KafkaJob, KafkaJobError, KafkaRecord, KafkaSource};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::broker::Broker;
use crate::topic::{PATIENCE, append, create};

async fn next(source: &mut KafkaSource) -> KafkaRecord {
    let next = poll_fn(|cx| source.poll_next(cx));
    match tokio::time::timeout(PATIENCE, next).await.expect("a record").unwrap().unwrap() {
        StreamElement::Record { value, .. } => value,
        other => panic!("{other:?}"),
    }
}

fn value(record: &KafkaRecord) -> &str {
    std::str::from_utf8(record.value.as_deref().unwrap()).unwrap()
}

// K10: offsets have gaps where transactions end, and aborted records are not handed out.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_committed_is_handed_out() {
    let Some(broker) = Broker::transactions() else { return };
    create(&broker.config(), "gaps", 1).await;
    tokio::task::spawn_blocking(|| {
        let mut config = broker.config();
        config.set("transactional.id", "gaps-writer");
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        for (number, is_committed) in [("0", true), ("1", false), ("2", true), ("3", false)] {
            producer.begin_transaction().unwrap();
            producer.send(BaseRecord::to("gaps").key("key").payload(number)).unwrap();
            producer.flush(PATIENCE).unwrap();
            match is_committed {
                true => producer.commit_transaction(PATIENCE).unwrap(),
                false => producer.abort_transaction(PATIENCE).unwrap(),
            }
        }
        append(&broker.config(), "gaps", 0, [4]);
    })
    .await
    .unwrap();
    let client = KafkaJob::new(broker.config(), "gaps", "gaps").start().unwrap();
    let mut source = client.source(0);
    source.open(None).await.unwrap();
    let (mut position, mut seen) = (source.position(), Vec::new());
    for _ in 0..3 {
        let record = next(&mut source).await;
        assert!(record.offset >= position, "{record:?}");
        position = record.offset + 1;
        assert_eq!(source.position(), position);
        seen.push(value(&record).to_owned());
    }
    assert_eq!(seen, ["0", "2", "4"]);
    assert!(position > 5, "{position}: nothing is between the records");
}

// K10: what a record carries.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_has_its_key_its_headers_and_its_time() {
    let Some(broker) = Broker::transactions() else { return };
    create(&broker.config(), "parts", 1).await;
    tokio::task::spawn_blocking(|| {
        let producer: BaseProducer = broker.config().create().unwrap();
        let headers = OwnedHeaders::new().insert(Header { key: "a", value: Some("1") });
        let headers = headers.insert(Header { key: "b", value: None::<&str> });
        let record = BaseRecord::to("parts").key("key").payload("value");
        producer.send(record.headers(headers).timestamp(4_000_000_000_000)).unwrap();
        producer.send(BaseRecord::<str, str>::to("parts").key("gone")).unwrap();
        producer.flush(PATIENCE).unwrap();
    })
    .await
    .unwrap();
    let client = KafkaJob::new(broker.config(), "parts", "parts").start().unwrap();
    let mut source = client.source(0);
    source.open(None).await.unwrap();
    let first = poll_fn(|cx| source.poll_next(cx)).await.unwrap().unwrap();
    let expected = KafkaRecord {
        offset: 0,
        key: Some(b"key".to_vec()),
        value: Some(b"value".to_vec()),
        headers: vec![("a".into(), Some(b"1".to_vec())), ("b".into(), None)],
    };
    let timestamp = Some(Timestamp::from_millis(4_000_000_000_000));
    assert_eq!(first, StreamElement::Record { value: expected, timestamp });
    let deleted = next(&mut source).await;
    assert_eq!((deleted.key.as_deref(), deleted.value), (Some(&b"gone"[..]), None));
}

// K10: it refuses a position that the log does not have.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_behind_the_end_is_refused() {
    let Some(broker) = Broker::transactions() else { return };
    create(&broker.config(), "short", 1).await;
    let config = broker.config();
    tokio::task::spawn_blocking(move || append(&config, "short", 0, 0..3)).await.unwrap();
    let client = KafkaJob::new(broker.config(), "short", "short").start().unwrap();
    client.source(0).open(Some(3)).await.unwrap();
    let refused = client.source(0).open(Some(4)).await;
    let Err(KafkaJobError::OutOfRange { position: 4, low: 0, high: 3, .. }) = refused else {
        panic!("{refused:?}")
    };
}

// K10: one reader of a partition; the next one begins when it is dropped. Others of the same client read on meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_read_side_by_side() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("many", 3, 1).unwrap();
    let config = crate::broker::config_of(&cluster);
    for partition in 0..3 {
        append(&config, "many", partition, (0..100).map(|n| n * 3 + partition as u64));
    }
    let client = KafkaJob::new(config, "many", "many").start().unwrap();
    let mut sources: Vec<_> = (0..3).map(|partition| client.source(partition)).collect();
    for source in &mut sources {
        source.open(None).await.unwrap();
    }
    let busy = client.source(1).open(None).await;
    assert!(matches!(busy, Err(KafkaJobError::Busy { partition: 1 })), "{busy:?}");
    for number in 0..50 {
        for (partition, source) in sources.iter_mut().enumerate() {
            let record = next(source).await;
            assert_eq!(value(&record), (number * 3 + partition).to_string());
        }
    }
    // Back, and forward, while the others go on where they are.
    for position in [10, 90, 0, 50] {
        sources[1] = client.source(1); // the earlier one is dropped after that
        sources[1].open(Some(position)).await.unwrap();
        assert_eq!(next(&mut sources[1]).await.offset, position);
    }
    assert_eq!(next(&mut sources[0]).await.offset, 50);
    assert_eq!(next(&mut sources[2]).await.offset, 50);
}

// K10: an opening that is given up gives the partition back.
#[tokio::test(flavor = "multi_thread")]
async fn an_opening_may_be_dropped() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("given-up", 1, 1).unwrap();
    let config = crate::broker::config_of(&cluster);
    append(&config, "given-up", 0, 0..3);
    let client = KafkaJob::new(config, "given-up", "given-up").start().unwrap();
    for polls in 0..20 {
        let mut source = client.source(0);
        {
            let mut open = std::pin::pin!(source.open(None));
            for _ in 0..polls {
                let is_done =
                    poll_fn(|cx| std::task::Poll::Ready(open.as_mut().poll(cx).is_ready()));
                if is_done.await {
                    break;
                }
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
    }
    let mut source = client.source(0);
    source.open(None).await.unwrap();
    assert_eq!(next(&mut source).await.offset, 0);
}

// C1: the lag, as far as the client knows it.
#[tokio::test(flavor = "multi_thread")]
async fn the_lag_falls_to_zero() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("lag", 1, 1).unwrap();
    let config = crate::broker::config_of(&cluster);
    append(&config, "lag", 0, 0..3);
    let client = KafkaJob::new(config, "lag", "lag").start().unwrap();
    let mut source = client.source(0);
    assert_eq!(source.lag(), None);
    source.open(None).await.unwrap();
    for lag in (1..=3).rev() {
        assert_eq!(source.lag(), Some(lag));
        next(&mut source).await;
    }
    assert_eq!(source.lag(), Some(0));
}

// K10: the source goes on by itself when its broker comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_goes_and_comes_back() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("away", 1, 1).unwrap();
    let config = crate::broker::config_of(&cluster);
    append(&config, "away", 0, 0..1);
    let client = KafkaJob::new(config.clone(), "away", "away").start().unwrap();
    let mut source = client.source(0);
    source.open(None).await.unwrap();
    assert_eq!(next(&mut source).await.offset, 0);
    for offset in 1..4 {
        cluster.broker_down(1).unwrap();
        // It waits, and does not fail.
        let mut waits = std::pin::pin!(poll_fn(|cx| source.poll_next(cx)));
        let quiet = tokio::time::timeout(Duration::from_millis(300), waits.as_mut()).await;
        assert!(quiet.is_err(), "{quiet:?}");
        cluster.broker_up(1).unwrap();
        append(&config, "away", 0, offset..offset + 1);
        assert_eq!(next(&mut source).await.offset, offset);
    }
}
