//! An HTTP endpoint with latency and failures, in place of a real one.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

/// One request in so many fails.
const FAILS: u64 = 20;

/// Starts the endpoint on loopback and returns its URL. It lives as long as the runtime.
pub async fn start(latency: Duration) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    tokio::spawn(serve(listener, latency));
    Ok(url)
}

/// The answer to a record.
pub fn answer(question: &str) -> String {
    format!("seen {question}")
}

async fn serve(listener: TcpListener, latency: Duration) {
    let requests = Arc::new(AtomicU64::new(0));
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await; // no file descriptor is left, say
            continue;
        };
        let _ = connection.set_nodelay(true);
        let requests = Arc::clone(&requests);
        let respond = service_fn(move |request| {
            let number = requests.fetch_add(1, Ordering::Relaxed);
            async move { Ok::<_, Infallible>(respond(request, number, latency).await) }
        });
        tokio::spawn(async move {
            // It ends when the client disconnects, which is not an error.
            let mut http = http1::Builder::new();
            let connection = TokioIo::new(connection);
            let _ = http.timer(TokioTimer::new()).serve_connection(connection, respond).await;
        });
    }
}

async fn respond(
    request: Request<Incoming>,
    number: u64,
    latency: Duration,
) -> Response<Full<Bytes>> {
    let question = request.into_body().collect().await;
    tokio::time::sleep(latency).await;
    let (status, body) = match question {
        _ if number % FAILS == FAILS - 1 => (StatusCode::SERVICE_UNAVAILABLE, String::new()),
        Ok(question) => (StatusCode::OK, answer(&String::from_utf8_lossy(&question.to_bytes()))),
        Err(_) => (StatusCode::BAD_REQUEST, String::new()),
    };
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
