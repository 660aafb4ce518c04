//! A stage's numbers for Prometheus and Grafana (monitoring, `/metrics`, p99, alerts): `metrics-exporter-prometheus`.
//!
//! ```text
//! cargo run -p inflight-recipes --example prometheus            # checks itself and ends
//! cargo run -p inflight-recipes --example prometheus -- 9000    # goes on, for curl localhost:9000/metrics
//! ```
//!
//! The feature `metrics` hands the numbers to the facade `metrics`, and the recorder that the program has installed brings
//! them on: this one to Prometheus, others to StatsD or OpenTelemetry. The names are in the docs of `StageMetrics`.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use futures_util::stream;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use inflight::StageMetrics;
use inflight::prelude::*;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

#[derive(Debug)]
struct Busy;

async fn look_up(n: u64) -> Result<u64, Busy> {
    tokio::time::sleep(Duration::from_millis(2)).await; // a real program asks a service here
    if n % 50 == 7 { Err(Busy) } else { Ok(n * n) }
}

/// Answers each connection with the numbers of this moment.
async fn serve(listener: TcpListener, prometheus: PrometheusHandle, stage: StageHandle) {
    let mut numbers = StageMetrics::new("squares"); // the label `stage`; after the recorder was installed
    while let Ok((connection, _)) = listener.accept().await {
        numbers.record(&stage.metrics()); // reads memory and nothing else
        prometheus.run_upkeep(); // bounds the memory of the histograms
        let page = prometheus.render();
        let service = service_fn(move |_: Request<Incoming>| {
            let page = page.clone();
            async move { Ok::<_, Infallible>(Response::new(page)) }
        });
        let mut http = http1::Builder::new();
        let http = http.keep_alive(false); // one answer a connection
        tokio::spawn(http.serve_connection(TokioIo::new(connection), service));
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    let port = std::env::args().nth(1).map(|port| port.parse()).transpose()?;
    let records = if port.is_some() { u64::MAX } else { 1_000 };
    let mut squares =
        stream::iter(0..records).async_wait_owned(AsyncWait::ordered(100), look_up).spawn(Tokio)?;

    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).await?;
    let url = format!("http://{}/metrics", listener.local_addr()?);
    println!("{url}");
    tokio::spawn(serve(listener, prometheus, squares.handle()));
    while squares.next().await.is_some() {}

    // The rest checks what a scraper gets to see.
    let client = reqwest::Client::builder().no_proxy().build()?;
    let page = client.get(url).send().await?.text().await?;
    for line in [
        "# TYPE inflight_emitted_total counter",
        "inflight_emitted_total{stage=\"squares\"} 1000",
        "inflight_failed_total{stage=\"squares\"} 20",
        "inflight_in_flight{stage=\"squares\"} 0",
        "inflight_call_seconds_count{stage=\"squares\"} 1000",
    ] {
        assert!(page.lines().any(|there| there == line), "{line} is not in\n{page}");
    }
    println!("prometheus: PASS, {} lines", page.lines().count());
    Ok(())
}
