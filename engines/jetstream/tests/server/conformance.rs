//! The suites for all stores and all sources.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context as Task, Poll};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{Context, stream};
use inflight_core::pipeline::{
    Output, ReplayableSource, StoreHalf, StoreHalfError, one_transaction,
};
use inflight_core::{CheckpointStore, StreamElement};
use inflight_jetstream::{
    JetStreamError, JetStreamJob, JetStreamSource, JetStreamTransaction, Message, WriteError,
};
use inflight_pipeline_conformance::source;
use inflight_store_conformance::{Capabilities, Check, Medium, Owners, check};
use tokio::runtime::{Handle, Runtime};

use crate::server::{LIMIT, Server, create};

fn new_name() -> String {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    format!("suite{}", NAMES.fetch_add(1, Ordering::Relaxed))
}

/// A stream of its own for checkpoints.
struct OwnStream {
    server: &'static Server,
    context: Context,
    name: String,
}

type Write = fn(&Output<()>) -> Result<Message, WriteError>;

impl Medium for OwnStream {
    type Store = StoreHalf<(), JetStreamTransaction<Write>>;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 1,
            durable: true,
            largest: Some((1 << 20) - 512),
            owners: Owners::FirstRefused,
            vanishes: true,
            ..Capabilities::default()
        }
    }

    fn open(&mut self) -> Result<Self::Store, StoreHalfError<JetStreamError>> {
        let checkpoint = format!("{}.checkpoint", self.name);
        let job = JetStreamJob::new(self.context.clone(), &self.name, checkpoint).limit(LIMIT);
        let write: Write = |_| Err(WriteError::new("there are no outputs"));
        let (_, mut store) = one_transaction(job.writing(write));
        Handle::current().block_on(store.load_latest())?;
        Ok(store)
    }

    fn take_away(&mut self) {
        self.server.tell("down");
        while self.context.client().connection_state() == State::Connected {
            std::thread::yield_now();
        }
    }

    fn bring_back(&mut self) {
        self.server.tell("up");
        // Until the client is connected again.
        while Handle::current().block_on(self.context.query_account()).is_err() {}
    }
}

// K9
#[test]
fn the_store_half_is_a_store() {
    let Some(server) = Server::start().map(|server| &*Box::leak(Box::new(server))) else { return };
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let report = check(|| {
        let name = new_name();
        OwnStream { server, context: runtime.block_on(server.stream(&name)), name }
    });
    // Nothing below the server is touched here: its files and its disk are its own matter.
    let not_possible = [Check::Retention, Check::Torn, Check::Flipped, Check::Full];
    assert_eq!(report.unwrap().skipped, not_possible);
    server.tell("down");
}

/// The source without what differs from one stream to the next: the subject and the time.
struct Plain(JetStreamSource);

impl ReplayableSource for Plain {
    type Record = (u64, Vec<u8>);
    type Position = u64;
    type Error = JetStreamError;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), JetStreamError> {
        self.0.open(position).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<StreamElement<Self::Record>, JetStreamError>>> {
        self.0.poll_next(cx).map_ok(|element| match element {
            StreamElement::Record { value, timestamp } => {
                assert!(timestamp.is_some());
                StreamElement::value((value.sequence, value.payload))
            }
            other => panic!("{other:?}"),
        })
    }

    fn position(&self) -> u64 {
        self.0.position()
    }

    fn acknowledger(&mut self) {}
}

/// One of two partitions of a stream.
struct Partition {
    context: Context,
    name: String,
    records: usize,
}

impl Partition {
    fn new(server: &Server) -> Self {
        let name = new_name();
        let config = stream::Config {
            name: name.clone(),
            subjects: vec![format!("{name}.*")],
            ..stream::Config::default()
        };
        let context = Handle::current().block_on(async {
            let context = server.context().await;
            create(&context, config).await;
            context
        });
        let mut partition = Self { context, name, records: 0 };
        (0..7).for_each(|_| source::Medium::append(&mut partition));
        partition
    }
}

impl source::Medium for Partition {
    type Source = Plain;

    fn capabilities(&self) -> source::Capabilities {
        source::Capabilities {
            records: 7,
            grows: true,
            loses: true,
            patience: Duration::from_secs(30),
            ..source::Capabilities::default()
        }
    }

    fn source(&mut self) -> Plain {
        let source = JetStreamSource::new(self.context.clone(), &self.name);
        Plain(source.filter(format!("{}.1", self.name)))
    }

    fn append(&mut self) {
        self.records += 1;
        Handle::current().block_on(async {
            for partition in [0, 1] {
                let subject = format!("{}.{partition}", self.name);
                let payload = self.records.to_string().into();
                self.context.publish(subject, payload).await.unwrap().await.unwrap();
            }
        });
    }

    fn lose(&mut self) {
        // Behind the last position too there is something that is lost.
        self.append();
        Handle::current().block_on(async {
            let stream = self.context.get_stream(&self.name).await.unwrap();
            stream.purge().await.unwrap();
        });
    }
}

// K10
#[test]
fn the_source_is_a_source() {
    let Some(server) = Server::shared() else { return };
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let report = source::check(|| Partition::new(server)).unwrap();
    assert_eq!(report.skipped, []);
}
