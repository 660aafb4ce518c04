//! A stage that is paused and watched over HTTP (admin endpoint, kill switch, maintenance window): `POST /pause`, `POST /resume`,
//! `GET /status`.
//!
//! ```text
//! cargo run --example pause_endpoint            # checks itself and ends
//! cargo run --example pause_endpoint -- 8080    # goes on, for curl -X POST localhost:8080/pause
//! ```
//!
//! While a stage is paused it starts no request, and requests that run go on. No retry is used up and no timeout runs; the
//! source waits when the window is full. The server is hyper's; in axum or actix a handler has the same two lines.

use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use inflight::prelude::*;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

/// One request to the endpoint. A [`StageHandle`] can be cloned and sent; it does not keep the stage alive.
fn answer(stage: &StageHandle, request: &Request<Incoming>) -> Response<String> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::POST, "/pause") => {
            stage.pause();
            (StatusCode::ACCEPTED, String::new()) // the stage pauses in its next turn
        }
        (&Method::POST, "/resume") => {
            stage.resume();
            (StatusCode::ACCEPTED, String::new())
        }
        (&Method::GET, "/status") => {
            let now = stage.metrics();
            let paused = if now.paused { "paused" } else { "running" };
            (StatusCode::OK, format!("{paused} {} of {}\n", now.in_flight, now.capacity))
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

async fn serve(listener: TcpListener, stage: StageHandle) {
    while let Ok((connection, _)) = listener.accept().await {
        let stage = stage.clone();
        let service = service_fn(move |request| {
            let response = answer(&stage, &request);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(connection), service));
    }
}

async fn look_up(n: u64) -> Result<u64, Infallible> {
    sleep(Duration::from_millis(2)).await; // a real program asks a service here
    Ok(n * n)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut squares =
        stream::iter(0..).async_wait_owned(AsyncWait::ordered(8), look_up).spawn(Tokio)?;

    let port = std::env::args().nth(1).map(|port| port.parse()).transpose()?;
    let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).await?;
    let address = listener.local_addr()?;
    tokio::spawn(serve(listener, squares.handle()));
    println!("http://{address}/status");
    if port.is_some() {
        while squares.next().await.is_some() {}
        return Ok(());
    }

    // The rest checks that the endpoint does what it says.
    assert!(squares.next().await.is_some());
    assert_eq!(
        ask(Method::POST, &format!("http://{address}/pause")).await?.0,
        StatusCode::ACCEPTED
    );
    // Outcomes that are under way come out, and then nothing does.
    let mut late = 0;
    while let Ok(Some(_)) = timeout(Duration::from_millis(200), squares.next()).await {
        late += 1;
        assert!(late < 100, "it is not paused");
    }
    let (_, status) = ask(Method::GET, &format!("http://{address}/status")).await?;
    assert_eq!(status, "paused 8 of 8\n", "the window is full, and the source waits");

    ask(Method::POST, &format!("http://{address}/resume")).await?;
    for _ in 0..100 {
        assert!(squares.next().await.is_some_and(|done| done.result.is_ok()));
    }
    let (_, status) = ask(Method::GET, &format!("http://{address}/status")).await?;
    assert!(status.starts_with("running"), "{status}");
    assert_eq!(ask(Method::GET, &format!("http://{address}/stop")).await?.0, StatusCode::NOT_FOUND);
    println!("pause_endpoint: PASS, paused and resumed over HTTP");
    Ok(())
}

async fn ask(method: Method, url: &str) -> Result<(StatusCode, String), Box<dyn Error>> {
    let request = Request::builder().method(method).uri(url).body(Empty::<Bytes>::new())?;
    let response = Client::builder(TokioExecutor::new()).build_http().request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8(body.into())?))
}
