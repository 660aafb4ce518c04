//! The suites for all stores and for all sources.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use inflight_core::CheckpointStore;
use inflight_core::pipeline::{Output, StoreHalf, StoreHalfError, one_transaction};
use inflight_kafka::{KafkaJob, KafkaJobError, KafkaSource, KafkaTransaction, Message, WriteError};
use inflight_pipeline_conformance::source;
use inflight_store_conformance::{Capabilities, Check, Medium, Owners, check};
use tokio::runtime::{Handle, Runtime};

use crate::broker::Broker;
use crate::topic::{append, create, delete_before};

static TOPICS: AtomicU32 = AtomicU32::new(0);

/// A job of its own, with a topic of one partition.
fn new_job(broker: &Broker) -> (String, KafkaJob) {
    let topic = format!("suite-{}", TOPICS.fetch_add(1, Ordering::Relaxed));
    Handle::current().block_on(create(&broker.config(), &topic, 1));
    (topic.clone(), KafkaJob::new(broker.config(), &topic, &topic))
}

struct Partition {
    job: KafkaJob,
}

type Write = fn(&Output<()>) -> Result<Option<Message>, WriteError>;

impl Medium for Partition {
    type Store = StoreHalf<(), KafkaTransaction<Write>>;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 1,
            durable: true,
            largest: Some((4096 - "inflight1 0000000000000001 ".len()) / 4 * 3),
            owners: Owners::FirstRefused,
            ..Capabilities::default()
        }
    }

    fn open(&mut self) -> Result<Self::Store, StoreHalfError<KafkaJobError>> {
        let client = self.job.clone().start().map_err(StoreHalfError::Transaction)?;
        let write: Write = |_| Ok(None);
        let (_, mut store) = one_transaction(client.transaction(0, write));
        Handle::current().block_on(store.load_latest())?;
        Ok(store)
    }
}

// K9
#[test]
fn the_store_half_is_a_store() {
    let Some(broker) = Broker::transactions() else { return };
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let report = check(|| Partition { job: new_job(broker).1 }).unwrap();
    // Nothing below the brokers is touched here: their files are their own matter.
    let not_possible = [Check::Retention, Check::Torn, Check::Flipped, Check::Full, Check::Gone];
    assert_eq!(report.skipped, not_possible);
}

struct Log {
    broker: &'static Broker,
    topic: String,
    job: KafkaJob,
    next: u64,
}

impl Log {
    fn new(broker: &'static Broker) -> Self {
        let (topic, job) = new_job(broker);
        append(&broker.config(), &topic, 0, 0..4);
        Self { broker, topic, job, next: 4 }
    }
}

impl source::Medium for Log {
    type Source = KafkaSource;

    fn capabilities(&self) -> source::Capabilities {
        let patience = Duration::from_secs(10);
        source::Capabilities {
            records: 4,
            grows: true,
            loses: true,
            patience,
            ..Default::default()
        }
    }

    fn source(&mut self) -> KafkaSource {
        self.job.clone().start().unwrap().source(0)
    }

    fn append(&mut self) {
        append(&self.broker.config(), &self.topic, 0, [self.next]);
        self.next += 1;
    }

    fn lose(&mut self) {
        self.append();
        Handle::current().block_on(delete_before(&self.broker.config(), &self.topic, 5));
    }
}

// K10
#[test]
fn a_partition_is_a_source() {
    let Some(broker) = Broker::transactions() else { return };
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let report =
        source::check(|| Log::new(broker)).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, []);
}
