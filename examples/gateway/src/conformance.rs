//! The suites for all sinks and sources, with the real servers. Without them each test says that it was skipped.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use inflight::pipeline::TransactionalSink;
use inflight::{CheckpointId, Outcome};
use inflight_pipeline_conformance::sink::Medium as _;
use inflight_pipeline_conformance::{sink, source};
use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio::runtime::Runtime;

use crate::devices::{Device, EnrichError};
use crate::message::{Message, Reading};
use crate::mqtt::Session;
use crate::options::Options;
use crate::output::{Enriched, claims};
use crate::sink::{SinkError, StreamSink};
use crate::source::MqttSource;
use crate::status::Status;
use crate::stream::{Outlet, Stored};

/// JetStream recognises the ids of messages for this long at least.
const DUPLICATE_WINDOW: Duration = Duration::from_millis(100);

/// A server with its data in a folder of its own. It is killed when this is dropped.
struct Server {
    process: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Server {
    /// `None`, with a message, if the server is not installed.
    fn start(program: &str, arguments: impl FnOnce(&str, &Path) -> Vec<String>) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free_port();
        let mut command = Command::new(program);
        command.args(arguments(&address.port().to_string(), folder.path()));
        let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(process) = silent.spawn() else {
            let _ = writeln!(io::stderr(), "\nSKIPPED: {program} is not there\n");
            return None;
        };
        let server = Self { process, address, _folder: folder };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "{program} does not start");
            sleep(Duration::from_millis(10));
        }
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Below the ports of outgoing connections.
fn free_port() -> SocketAddr {
    (20_000..30_000)
        .map(|port| (port + std::process::id() as u16 % 10_000 - 20_000) % 10_000 + 20_000)
        .map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
        .find(|address| TcpListener::bind(address).is_ok())
        .expect("a port is free")
}

/// A stream of its own.
struct Shelf<'s> {
    options: Options,
    status: Arc<Status>,
    runtime: &'s Runtime,
    /// A reader of the stream.
    reader: Outlet,
    was_opened: bool,
}

impl<'s> Shelf<'s> {
    fn new(server: &Server, runtime: &'s Runtime) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("sink-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let window = humantime::format_duration(DUPLICATE_WINDOW).to_string();
        let address = server.address.to_string();
        let options =
            ["gateway", "--name", &name, "--nats", &address, "--duplicate-window", &window];
        let options = Options::parse_from(options);
        let status = Arc::new(Status::new());
        let reader = Outlet::open(&options, Arc::clone(&status));
        let reader = runtime.block_on(reader).expect("a client");
        Self { options, status, runtime, reader, was_opened: false }
    }
}

impl sink::Medium for Shelf<'_> {
    type Record = Outcome<Message, Device, EnrichError>;
    type Sink = StreamSink;

    fn capabilities(&self) -> sink::Capabilities {
        sink::Capabilities {
            is_ordered: true,
            owners: sink::Owners::FirstRefused,
            steps: 3,
            ..sink::Capabilities::default()
        }
    }

    fn open(&mut self) -> Result<StreamSink, SinkError> {
        if std::mem::replace(&mut self.was_opened, true) {
            // A process does not start again so fast that JetStream's own window for duplicates helps it.
            sleep(DUPLICATE_WINDOW + Duration::from_millis(10));
        }
        let outlet = Outlet::open(&self.options, Arc::clone(&self.status));
        let outlet = self.runtime.block_on(outlet).expect("a client");
        Ok(StreamSink::new(outlet, &self.options.name, Arc::clone(&self.status)))
    }

    fn record(&mut self, number: u64) -> Outcome<Message, Device, EnrichError> {
        let reading = Reading { device: "device".into(), sequence: number, value: 1.0 };
        let device = Device { site: "site".into(), gain: 1.0, bias: 0.0 };
        let (input, elapsed) = (Message::Reading(reading), Duration::ZERO);
        Outcome { input, result: Ok(device), attempts: 1, elapsed }
    }

    fn read(&mut self) -> Vec<u64> {
        let mut numbers = Vec::new();
        let each = |stored: Stored| {
            if stored.subject == claims(&self.options.name) {
                return;
            }
            let enriched: Enriched = serde_json::from_slice(&stored.payload).expect("a reading");
            numbers.push(enriched.sequence);
        };
        self.runtime.block_on(self.reader.read(0, false, each)).expect("the stream");
        numbers
    }
}

impl Drop for Shelf<'_> {
    fn drop(&mut self) {
        self.runtime.block_on(self.reader.delete());
    }
}

fn nats() -> Option<Server> {
    let arguments = |port: &str, folder: &Path| {
        let folder = folder.display().to_string();
        ["-a", "127.0.0.1", "-p", port, "-js", "-sd", &folder].map(str::to_owned).to_vec()
    };
    Server::start("nats-server", arguments)
}

// K10, K15
#[test]
fn the_sink_of_a_stream() {
    let Some(server) = nats() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let report = sink::check(|| Shelf::new(&server, &runtime));
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [sink::Check::Vanished]);
}

/// A reading that the source has forgotten comes again, and the stream recognises it.
#[test]
fn what_the_stream_has_already_holds_up_nothing() {
    let Some(server) = nats() else { return };
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let mut shelf = Shelf::new(&server, &runtime);
    shelf.options.duplicate_window = Duration::from_secs(120);
    let mut sink = shelf.open().expect("a client");
    let published = async {
        sink.abort(None).await?;
        for (round, numbers) in
            [vec![0, 1], vec![0, 1, 2, 1, 3, 0, 4], vec![5, 4, 6]].iter().enumerate()
        {
            for number in numbers {
                sink.write(shelf.record(*number), None).await?;
            }
            let batch = sink.pre_commit(CheckpointId(round as u64)).await?;
            sink.commit(CheckpointId(round as u64), &batch).await?;
        }
        Ok::<_, SinkError>(())
    };
    let published = runtime.block_on(tokio::time::timeout(Duration::from_secs(60), published));
    published.expect("it goes on").expect("it is the only owner");
    assert_eq!(shelf.read(), [0, 1, 2, 3, 4, 5, 6]);
}

/// A session of its own with a broker, which holds readings.
struct Queue<'s> {
    options: Options,
    status: Arc<Status>,
    runtime: &'s Runtime,
    session: Option<Session>,
    published: u64,
}

impl<'s> Queue<'s> {
    const READINGS: u64 = 5;

    fn new(server: &Server, runtime: &'s Runtime) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("source-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let options = Options::parse_from([
            "gateway",
            "--name",
            &name,
            "--mqtt",
            &server.address.to_string(),
        ]);
        let status = Arc::new(Status::new());
        let mut queue = Self { options, status, runtime, session: None, published: 0 };
        // The broker keeps messages for the session once it has subscribed.
        let topic = format!("{name}/readings/#");
        queue.talk(&name, |client| {
            client.try_subscribe(topic, QoS::AtLeastOnce).expect("there is room");
        });
        (0..Self::READINGS).for_each(|_| queue.publish());
        queue
    }

    fn publish(&mut self) {
        let reading = Reading {
            device: "device".into(),
            sequence: self.published,
            value: self.published as f64,
        };
        self.published += 1;
        let payload = serde_json::to_vec(&reading).expect("a reading");
        let name = &self.options.name;
        let topic = format!("{name}/readings/device");
        let publisher = format!("{name}-publisher");
        self.talk(&publisher, |client| {
            let sent = client.try_publish(topic, QoS::AtLeastOnce, false, payload);
            sent.expect("there is room");
        });
    }

    /// Connects, sends one packet, and disconnects when the broker has acknowledged it.
    fn talk(&self, id: &str, send: impl FnOnce(&AsyncClient)) {
        let broker = self.options.mqtt;
        let mut mqtt = MqttOptions::new(id, broker.ip().to_string(), broker.port());
        mqtt.set_clean_start(false).set_session_expiry_interval(Some(u32::MAX));
        let (client, mut events) = AsyncClient::new(mqtt, 8);
        send(&client);
        self.runtime.block_on(async {
            loop {
                match events.poll().await.expect("the broker") {
                    Event::Incoming(Packet::SubAck(_) | Packet::PubAck(_)) => {
                        client.try_disconnect().expect("there is room");
                    }
                    Event::Outgoing(Outgoing::Disconnect) => return,
                    _ => {}
                }
            }
        });
    }

    fn close(&mut self) {
        if let Some(session) = self.session.take() {
            self.runtime.block_on(session.close());
        }
    }
}

impl source::Medium for Queue<'_> {
    type Source = MqttSource;

    fn capabilities(&self) -> source::Capabilities {
        source::Capabilities {
            records: Self::READINGS as usize,
            grows: true,
            ..source::Capabilities::default()
        }
    }

    fn source(&mut self) -> MqttSource {
        self.close();
        let (session, inbox) = Session::open(&self.options, Arc::clone(&self.status));
        self.session = Some(session);
        MqttSource::new(inbox, Arc::clone(&self.status))
    }

    fn append(&mut self) {
        self.publish();
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        self.close();
    }
}

// K10
#[test]
fn the_source_of_a_session() {
    let arguments = |port: &str, folder: &Path| {
        let file = folder.join("mosquitto.conf");
        // As root, mosquitto would switch to another user.
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
        std::fs::write(&file, text).expect("a file");
        vec!["-c".to_owned(), file.display().to_string()]
    };
    let Some(server) = Server::start("mosquitto", arguments) else { return };
    let runtime = Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let report = source::check(|| Queue::new(&server, &runtime));
    let report = report.unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [source::Check::Refused]);
}
