//! The numbers for a monitor, in Prometheus' text format.

use std::fmt::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use inflight::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::status::{Numbers, Status};

/// A client has to send its request within this time and size.
const PATIENCE: Duration = Duration::from_secs(2);
const REQUEST: usize = 4096;

/// Serves the numbers at `/metrics`, one client after the other.
pub async fn serve(address: SocketAddr, status: Arc<Status>) -> anyhow::Result<AbortHandle> {
    let listener = TcpListener::bind(address);
    let listener = listener.await.with_context(|| format!("serving numbers on {address}"))?;
    let task = tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((client, _)) => drop(timeout(PATIENCE, answer(client, &status)).await),
                // For example too many open files; the error is temporary.
                Err(_) => sleep(PATIENCE).await,
            }
        }
    });
    Ok(task.abort_handle())
}

async fn answer(mut client: TcpStream, status: &Status) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < REQUEST {
        if client.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let (code, body) = match request.starts_with(b"GET /metrics ") {
        true => ("200 OK", text(&status.numbers())),
        false => ("404 Not Found", "The numbers are at /metrics.\n".to_owned()),
    };
    let head = format!(
        "HTTP/1.1 {code}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}

/// The numbers, each with a line of description.
pub fn text(numbers: &Numbers) -> String {
    let mut page = Page(String::new());
    let stage = &numbers.stage;
    let servers = numbers.servers.into_iter().filter_map(|(server, is_up)| {
        Some((label("server", server.name()), f64::from(u8::from(is_up?))))
    });
    let servers: Vec<_> = servers.collect();
    page.samples("server_up", "gauge", "1 if the last operation on a server succeeded.", &servers);
    page.samples(
        "in_flight",
        "gauge",
        "Readings in flight, by state.",
        &[
            (label("state", "running"), stage.running as f64),
            (label("state", "backoff"), stage.in_backoff as f64),
            (label("state", "done"), stage.done as f64),
            (label("state", "waiting"), numbers.waiting() as f64),
        ],
    );
    page.gauge("capacity", "The maximum number of readings in flight.", stage.capacity as f64);
    page.gauge("oldest_seconds", "Age of the oldest reading in flight.", seconds(stage.oldest));
    page.gauge(
        "unacknowledged",
        "Messages that are not acknowledged.",
        numbers.unacknowledged as f64,
    );
    page.gauge(
        "checkpoint_age_seconds",
        "Time since the last checkpoint.",
        seconds(numbers.checkpoint_age),
    );
    page.gauge("checkpoint_bytes", "Size of the last checkpoint.", numbers.checkpoint_bytes as f64);
    page.counter("checkpoints", "Checkpoints saved.", numbers.checkpoints);
    page.counter("received", "Messages taken in.", numbers.received);
    page.counter("repeated", "Repeated messages, which were skipped.", numbers.repeated);
    page.counter(
        "refused",
        "Messages of QoS 0 that were dropped for lack of room.",
        numbers.refused,
    );
    page.counter("acknowledged", "Messages acknowledged.", numbers.acknowledged);
    page.counter("enriched", "Readings in the stream.", numbers.enriched);
    page.counter("dead_lettered", "Dead letters in the stream.", numbers.dead_lettered);
    page.counter("attempts", "Attempts to query the database.", stage.attempts);
    page.counter("retries", "Attempts that were followed by another one.", stage.retried);
    page.counter("timeouts", "Attempts that took too long.", numbers.timeouts);
    page.histogram(
        "call_seconds",
        "From the first attempt to the outcome; the sum is an estimate.",
        &stage.call_time,
    );
    page.0
}

fn seconds(duration: Option<Duration>) -> f64 {
    duration.unwrap_or_default().as_secs_f64()
}

fn label(name: &str, value: &str) -> String {
    format!("{{{name}=\"{value}\"}}")
}

struct Page(String);

impl Page {
    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.samples(name, "gauge", help, &[(String::new(), value)]);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.samples(&format!("{name}_total"), "counter", help, &[(String::new(), value as f64)]);
    }

    fn samples(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, f64)]) {
        self.head(name, kind, help);
        for (labels, value) in samples {
            self.line(name, labels, *value);
        }
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let (mut below, mut sum) = (0, 0.0);
        for (bound, count) in histogram.buckets() {
            below += count;
            // A bucket reaches from half its bound to its bound.
            sum += bound.as_secs_f64() * 0.75 * count as f64;
            let bound = label("le", &bound.as_secs_f64().to_string());
            self.line(&format!("{name}_bucket"), &bound, below as f64);
        }
        self.line(&format!("{name}_bucket"), &label("le", "+Inf"), below as f64);
        self.line(&format!("{name}_sum"), "", sum);
        self.line(&format!("{name}_count"), "", below as f64);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP inflight_gateway_{name} {help}");
        let _ = writeln!(self.0, "# TYPE inflight_gateway_{name} {kind}");
    }

    fn line(&mut self, name: &str, labels: &str, value: f64) {
        let _ = writeln!(self.0, "inflight_gateway_{name}{labels} {value}");
    }
}
