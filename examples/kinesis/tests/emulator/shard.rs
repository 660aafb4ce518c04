//! The suite for all sources, over a shard.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::primitives::Blob;
use clap::Parser;
use inflight::StreamElement;
use inflight::pipeline::ReplayableSource;
use inflight_kinesis::client::client;
use inflight_kinesis::options::Options;
use inflight_kinesis::patience::CallError;
use inflight_kinesis::reader::Reader;
use inflight_kinesis::rehearsal::streams::{Streams, split};
use inflight_kinesis::source::KinesisSource;
use inflight_pipeline_conformance::source::{Capabilities, Check, Medium, check};
use tokio::runtime::Runtime;

use crate::harness::Emulator;

const SHARD: &str = "shardId-000000000000";

/// The first shard of a stream of its own.
struct Shard<'r> {
    runtime: &'r Runtime,
    client: Client,
    stream: String,
    is_closed: bool,
    records: u64,
}

impl<'r> Shard<'r> {
    const RECORDS: u64 = 5;

    fn new(emulator: &Emulator, runtime: &'r Runtime, is_closed: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let stream = format!("shard-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let options = Options::parse_from(["kinesis", "--emulator", &emulator.url]);
        let client = runtime.block_on(client(&options)).expect("a client");
        let mut shard = Self { runtime, client, stream, is_closed, records: 0 };
        let created = runtime.block_on(Streams::create(&shard.client, [&shard.stream]));
        drop(created.expect("a stream")); // the emulator ends with the test
        (0..Self::RECORDS).for_each(|_| shard.append());
        if is_closed {
            runtime.block_on(split(&shard.client, &shard.stream, SHARD)).expect("two shards");
        }
        shard
    }
}

/// A source of records as they were put. Their numbers and times differ from one stream to the next, and the suite makes a stream for
/// each of its scenarios.
struct AsPut(KinesisSource);

impl ReplayableSource for AsPut {
    type Record = (String, Vec<u8>);
    type Position = Option<String>;
    type Error = CallError;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<Option<String>>) -> Result<(), CallError> {
        self.0.open(position).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Self::Record>, CallError>>> {
        self.0.poll_next(cx).map_ok(|element| match element {
            StreamElement::Record { value, .. } => StreamElement::value((value.key, value.data)),
            other => panic!("{other:?}"),
        })
    }

    fn position(&self) -> Option<String> {
        self.0.position()
    }

    fn acknowledger(&mut self) {}
}

impl Medium for Shard<'_> {
    type Source = AsPut;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            records: Self::RECORDS as usize,
            ends: self.is_closed,
            grows: !self.is_closed,
            ..Capabilities::default()
        }
    }

    fn source(&mut self) -> AsPut {
        let pause = Duration::from_millis(20);
        AsPut(KinesisSource::new(Reader::new(self.client.clone(), &self.stream, SHARD, pause)))
    }

    fn append(&mut self) {
        let put = self.client.put_record().stream_name(&self.stream).partition_key("key");
        let put = put.explicit_hash_key("0").data(Blob::new(self.records.to_string()));
        self.runtime.block_on(put.send()).expect("a record");
        self.records += 1;
    }
}

// K10
#[test]
fn an_open_shard_and_a_closed_one_are_sources() {
    let Some(emulator) = Emulator::start() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    for is_closed in [false, true] {
        let report = check(|| Shard::new(&emulator, &runtime, is_closed));
        let report = report.unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(report.skipped, [Check::Refused]); // a stream forgets no records here
    }
}
