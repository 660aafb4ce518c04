//! The gateway survives faults of itself and of its servers, and the stream holds each reading exactly once.
//!
//! The servers, processes and times are real, because these tests are about how fast a gateway recovers.
//! Without the servers (see `../up`) each test says that it was skipped.
#![allow(missing_docs, unreachable_pub)]

mod harness;
mod up;

use std::thread::sleep;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tokio_postgres::NoTls;

use crate::harness::{Job, Servers, turn};

/// The default length of an outage.
const OUTAGE: Duration = Duration::from_secs(3);

/// JetStream forgets message ids at once, so that only the gateway itself prevents duplicates in these tests.
const FORGETFUL: [&str; 2] = ["--duplicate-window", "100ms"];

/// A server is stopped under load and started again.
fn survives_the_loss_of(server: &str, name: &'static str, says: &str) {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, name, 15_000, 2_000);
    job.options.extend(FORGETFUL);
    let mut gateway = job.gateway();
    gateway.wait_for_line("mqtt: up");
    let publisher = job.publisher();
    gateway.wait_for_metric("enriched_total", |enriched| enriched > 2_000.0);
    turn.servers.down(server);
    gateway.wait_for_line(says);
    sleep(OUTAGE);
    assert!(turn.servers.up());
    publisher.wait();
    job.wait_until_through(&mut gateway);
    let (checked, _) = job.finish(gateway);
    println!("{server}: {checked:?}");
}

#[test]
fn the_broker_is_stopped_and_started_again() {
    survives_the_loss_of("mosquitto", "broker", "mqtt: down");
}

#[test]
fn the_database_is_stopped_and_started_again() {
    survives_the_loss_of("postgres", "database", "postgres: down");
}

#[test]
fn the_stream_is_stopped_and_started_again() {
    survives_the_loss_of("nats", "stream", "nats: down");
}

/// The server stores a published message, but its answer comes after the gateway has given up.
#[test]
fn the_stream_hangs() {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, "hangs", 15_000, 2_000);
    job.options.extend(FORGETFUL);
    let mut gateway = job.gateway();
    let publisher = job.publisher();
    gateway.wait_for_metric("enriched_total", |enriched| enriched > 2_000.0);
    turn.servers.signal("nats", "-STOP");
    // At once, before the gateway tries again and the server has forgotten the message.
    gateway.wait_for_line("nats: down");
    turn.servers.signal("nats", "-CONT");
    publisher.wait();
    job.wait_until_through(&mut gateway);
    let (checked, _) = job.finish(gateway);
    println!("hangs: {checked:?}");
}

#[test]
fn the_gateway_is_killed_ten_times() {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, "killed", 20_000, 1_500);
    job.options.extend(FORGETFUL);
    let mut publisher = Some(job.publisher());
    let mut repeated = 0.0;
    for life in 0..10_u64 {
        let mut gateway = job.gateway();
        // At another moment between two checkpoints each time.
        let enough = 400.0 + 37.0 * life as f64;
        gateway.wait_for_metric("received_total", |received| received > enough);
        repeated += gateway.metric("repeated_total");
        let log = gateway.kill();
        assert_eq!(log.contains("resumes from checkpoint"), life > 0, "{log}");
        // So long that JetStream has forgotten the ids: only the gateway prevents duplicates.
        sleep(Duration::from_millis(300));
    }
    let mut gateway = job.gateway();
    publisher.take().expect("it is there").wait();
    job.wait_until_through(&mut gateway);
    repeated += gateway.metric("repeated_total");
    let (checked, _) = job.finish(gateway);
    println!("killed: {checked:?}, {repeated} messages came again and were recognised");
}

/// No reading can get through, so the process ends with readings in flight, both when it is killed and when
/// it is asked to stop.
#[test]
fn it_ends_while_the_database_is_away() {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, "away", 10_000, 2_000);
    job.options.extend(FORGETFUL);
    job.options.extend(["--drain", "500ms"]);
    let publisher = job.publisher();
    let mut gateway = job.gateway();
    gateway.wait_for_metric("enriched_total", |enriched| enriched > 1_000.0);
    turn.servers.down("postgres");
    gateway.wait_for_metric("in_flight{state=\"backoff\"}", |waiting| waiting > 200.0);
    gateway.kill();
    let mut gateway = job.gateway();
    gateway.wait_for_metric("in_flight{state=\"backoff\"}", |waiting| waiting > 200.0);
    let log = gateway.interrupt();
    assert!(log.contains("the next run resumes from the last checkpoint"), "{log}");
    let mut gateway = job.gateway();
    assert!(turn.servers.up());
    publisher.wait();
    job.wait_until_through(&mut gateway);
    job.finish(gateway);
}

/// All requests time out, because another client has locked the table.
#[test]
fn the_database_is_slow() {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, "slow", 10_000, 2_000);
    job.options.extend(["--attempt-timeout", "200ms"]);
    let mut gateway = job.gateway();
    gateway.wait_for_line("mqtt: up");
    let publisher = job.publisher();
    gateway.wait_for_metric("enriched_total", |enriched| enriched > 1_000.0);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let locked = Database::connect(&turn.servers).await;
        locked.client.batch_execute("BEGIN; LOCK TABLE devices").await.expect("a lock");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let before = gateway.metric("attempts_total");
        tokio::time::sleep(OUTAGE).await;
        let tried = gateway.metric("attempts_total") - before;
        assert!((20.0..2_000.0).contains(&tried), "{tried} attempts");
        // At a single moment all of them may be at an attempt.
        gateway.wait_for_metric("in_flight{state=\"backoff\"}", |waiting| waiting > 0.0);
        // Requests that were cancelled do not accumulate in the database.
        let busy = Database::connect(&turn.servers).await.connections_of_gateways().await;
        assert!(busy <= 3 * 8, "{busy} connections");
        locked.client.batch_execute("COMMIT").await.expect("no lock");
    });
    publisher.wait();
    job.wait_until_through(&mut gateway);
    assert!(gateway.metric("retries_total") > 0.0);
    job.finish(gateway);
}

/// While the database is away, messages wait at the broker, not in the gateway. `GATEWAY_OUTAGE=60` makes the
/// outage a minute long.
#[test]
fn without_a_database_memory_does_not_grow() {
    let Some(turn) = turn() else { return };
    let seconds = std::env::var("GATEWAY_OUTAGE").ok().and_then(|text| text.parse().ok());
    let outage = Duration::from_secs(seconds.unwrap_or(6));
    let rate = 2_000;
    let job = Job::new(&turn, "memory", rate * (outage.as_secs() + 4), rate);
    let mut gateway = job.gateway();
    gateway.wait_for_line("mqtt: up");
    let publisher = job.publisher();
    gateway.wait_for_metric("enriched_total", |enriched| enriched > 3.0 * rate as f64);
    let before = gateway.peak_memory();
    turn.servers.down("postgres");
    // The window and its memory fill up at once.
    gateway.wait_for_metric("unacknowledged", |unacknowledged| unacknowledged >= 2_000.0);
    let filled = gateway.peak_memory();
    let (began, mut most) = (Instant::now(), 0.0_f64);
    while began.elapsed() < outage {
        sleep(Duration::from_millis(500));
        gateway.assert_alive();
        most = most.max(gateway.metric("unacknowledged"));
        assert!(gateway.metric("in_flight{state=\"backoff\"}") <= 256.0);
    }
    let after = gateway.peak_memory();
    assert!(turn.servers.up());
    publisher.wait();
    job.wait_until_through(&mut gateway);
    let (checked, log) = job.finish(gateway);
    assert!(!log.contains("mqtt: down"), "the broker heard from it all the time: {log}");
    println!(
        "{} s without a database: peak {before} KiB before, {filled} KiB with the window full, {after} KiB after; \
         at most {most} of 2048 messages unacknowledged; {checked:?}",
        outage.as_secs()
    );
    assert!(most <= 2_048.0, "{most} messages");
    assert!(after < filled + 4 * 1024, "{filled} KiB became {after} KiB");
}

/// Ctrl-C under load: the readings in flight get through, and the next life has no work to repeat.
#[test]
fn it_is_stopped_politely_under_load() {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, "stopped", 6_000, 2_000);
    job.options.extend(FORGETFUL);
    let publisher = job.publisher();
    for _ in 0..2 {
        let mut gateway = job.gateway();
        gateway.wait_for_metric("received_total", |received| received > 1_000.0);
        let log = gateway.interrupt();
        assert!(log.contains("the stream has all readings that were taken in"), "{log}");
    }
    let mut gateway = job.gateway();
    publisher.wait();
    job.wait_until_through(&mut gateway);
    job.finish(gateway);
}

/// A message that cannot be read or enriched is reported with the reason, and delays no other message.
#[test]
fn poison_becomes_a_dead_letter() {
    let Some(turn) = turn() else { return };
    let mut job = Job::new(&turn, "poison", 100, 1_000);
    job.options.extend(FORGETFUL);
    let mut gateway = job.gateway();
    gateway.wait_for_line("mqtt: up");
    job.publisher().wait();
    job.wait_until_through(&mut gateway);
    let poison: [&[u8]; 5] = [
        b"\xff\x00 no text",
        b"",
        br#"{"device":"device-001","sequence":900}"#,
        br#"{"device":"no.>name","sequence":900,"value":1}"#,
        br#"{"device":"nobody","sequence":900,"value":1}"#,
    ];
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dead = gateway.metric("dead_lettered_total");
    runtime.block_on(publish(&turn.servers, "poison/readings/x", &poison));
    gateway.wait_for_metric("dead_lettered_total", |now| now >= dead + poison.len() as f64);
    let log = gateway.interrupt();
    let letters = runtime.block_on(messages(&turn.servers, "poison", "poison.dead"));
    let expected = [
        ("ff00206e6f2074657874", "this is not a reading"),
        ("\"message\":\"\"", "EOF while parsing"),
        ("900}", "missing field `value`"),
        ("no.>name", "a device's name has"),
        ("nobody", "no device is called"),
    ];
    for (content, reason) in expected {
        let is_there = |letter: &&String| letter.contains(content) && letter.contains(reason);
        assert_eq!(letters.iter().filter(is_there).count(), 1, "{content}: {letters:?} {log}");
    }
}

/// All faults, in any order, for `GATEWAY_SOAK` seconds, a number that is also the seed.
#[test]
#[ignore = "it takes minutes"]
fn anything_at_any_time() {
    let Some(turn) = turn() else { return };
    let seconds = std::env::var("GATEWAY_SOAK").ok().and_then(|text| text.parse().ok());
    let seconds: u64 = seconds.unwrap_or(120);
    let mut job = Job::new(&turn, "soak", 1_000 * seconds, 1_000);
    job.options.extend(FORGETFUL);
    let publisher = job.publisher();
    let mut gateway = job.gateway();
    let (began, mut dice) = (Instant::now(), seconds);
    let mut throw = |sides: u64| {
        dice = inflight::hash_key(&dice);
        (dice >> 32) % sides
    };
    while began.elapsed() < Duration::from_secs(seconds) {
        let server = ["mosquitto", "postgres", "nats"][throw(3) as usize];
        let time = Duration::from_millis(throw(4_000));
        match throw(4) {
            0 => {
                turn.servers.down(server);
                sleep(time);
                turn.servers.up();
            }
            1 => {
                turn.servers.signal(server, "-STOP");
                sleep(2 * time);
                turn.servers.signal(server, "-CONT");
            }
            2 => {
                gateway.kill();
                gateway = job.gateway();
            }
            _ => {
                turn.servers.down(server);
                sleep(time / 4);
                gateway.kill();
                gateway = job.gateway();
                sleep(time / 4);
                turn.servers.up();
            }
        }
        sleep(Duration::from_millis(throw(2_000)));
        gateway.assert_alive();
    }
    publisher.wait();
    job.wait_until_through(&mut gateway);
    let (checked, _) = job.finish(gateway);
    println!("soak: {checked:?}");
}

/// Publishes messages, and returns when the broker has them.
async fn publish(servers: &Servers, topic: &str, payloads: &[&'static [u8]]) {
    let mqtt = MqttOptions::new("poisoner", servers.mqtt.ip().to_string(), servers.mqtt.port());
    let (client, mut events) = AsyncClient::new(mqtt, payloads.len());
    for payload in payloads {
        client.publish(topic, QoS::AtLeastOnce, false, *payload).await.expect("there is room");
    }
    let mut left = payloads.len();
    while left > 0 {
        if let Event::Incoming(Packet::PubAck(_)) = events.poll().await.expect("the broker") {
            left -= 1;
        }
    }
}

/// The messages of a stream on a subject.
async fn messages(servers: &Servers, stream: &str, subject: &str) -> Vec<String> {
    let client = async_nats::connect(servers.nats.to_string()).await.expect("the server");
    let stream = async_nats::jetstream::new(client).get_stream(stream).await.expect("the stream");
    let config = async_nats::jetstream::consumer::pull::Config {
        filter_subject: subject.to_owned(),
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.expect("a consumer");
    let batch = consumer.fetch().max_messages(1_000).messages().await.expect("messages");
    batch
        .map(|message| String::from_utf8_lossy(&message.expect("one").payload).into())
        .collect()
        .await
}

/// A connection to the database.
struct Database {
    client: tokio_postgres::Client,
}

impl Database {
    async fn connect(servers: &Servers) -> Self {
        let mut config = tokio_postgres::Config::new();
        config.host(servers.postgres.ip().to_string()).port(servers.postgres.port());
        let connected = config.user("gateway").dbname("postgres").connect(NoTls).await;
        let (client, connection) = connected.expect("the database");
        tokio::spawn(connection);
        Self { client }
    }

    async fn connections_of_gateways(&self) -> i64 {
        let query =
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'inflight-gateway'";
        self.client.query_one(query, &[]).await.expect("an answer").get(0)
    }
}
