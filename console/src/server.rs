//! The console's thread: it answers requests, and takes samples.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::console::{Panicked, Shared};
use crate::history::STEP;
use crate::host;

const PAGE: &str = include_str!("page.html");

/// The most clients at a time; further ones wait.
const CLIENTS: usize = 64;

/// A client has to send the head of its next request within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// A connection ends after this time, and a browser makes another one. So a client that does not read its answers gives its place back.
const LIFE: Duration = Duration::from_secs(60);

/// A stage has this long to take a turn and publish its window. One that is held up is shown as it was before.
const TURN: Duration = Duration::from_millis(10);

/// After a client could not be accepted, for example because there were too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts the console's thread, which works until `stopped` ends.
pub(crate) fn start(
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: oneshot::Receiver<()>,
) -> io::Result<JoinHandle<()>> {
    let (tell, told) = mpsc::channel();
    // The runtime lives and ends on this thread, whatever fails: where it is called, the program may be in a runtime of its own, in
    // which no other can be dropped.
    let thread = thread::Builder::new().name("inflight-console".into()).spawn(move || {
        let (runtime, listener) = match prepare(listener) {
            Ok(ready) => ready,
            Err(reason) => {
                let _ = tell.send(reason);
                return;
            }
        };
        drop(tell);
        runtime.spawn(sample(Arc::clone(&shared)));
        runtime.spawn(accept(listener, shared));
        let _ = runtime.block_on(stopped);
        // Dropping the runtime ends all connections.
    })?;
    match told.recv() {
        Ok(reason) => Err(reason),
        Err(mpsc::RecvError) => Ok(thread), // it has begun
    }
}

fn prepare(listener: TcpListener) -> io::Result<(Runtime, tokio::net::TcpListener)> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    listener.set_nonblocking(true)?;
    let inside = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    drop(inside);
    Ok((runtime, listener))
}

async fn sample(shared: Arc<Shared>) {
    let mut seconds = interval(STEP);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    seconds.tick().await; // the first one comes at once
    loop {
        seconds.tick().await;
        shared.sample();
    }
}

async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>) {
    let clients = Arc::new(Semaphore::new(CLIENTS));
    while let Ok(client) = Arc::clone(&clients).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    serve(stream, shared).await;
                    drop(client);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let answer = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(&request, &shared).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answer));
    // An error is the client's: it has gone, or has sent something else than HTTP.
    if timeout(LIFE, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown(); // an answer that is under way still arrives
        let _ = timeout(PATIENCE, connection).await;
    }
}

type Answer = Response<Full<Bytes>>;

async fn answer<B>(request: &Request<B>, shared: &Shared) -> Answer {
    if !shared.anyone && !host::is_loopback(request) {
        return text(
            StatusCode::FORBIDDEN,
            "This console answers to names of loopback alone, as localhost.\n",
        );
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused =
            text(StatusCode::METHOD_NOT_ALLOWED, "Look, and change nothing: GET and HEAD.\n");
        refused.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match request.uri().path() {
        "/" => page(),
        "/state.json" => {
            shared.ask();
            sleep(TURN).await;
            match shared.state() {
                Ok(state) => typed(StatusCode::OK, "application/json", state),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
            }
        }
        "/metrics" => match shared.metrics() {
            Some(Ok(metrics)) => {
                typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics)
            }
            Some(Err(Panicked)) => text(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The program's function for its metrics has panicked.\n",
            ),
            None => text(StatusCode::NOT_FOUND, "This program shows no metrics here.\n"),
        },
        _ => text(StatusCode::NOT_FOUND, "There is /, /state.json and perhaps /metrics.\n"),
    }
}

/// The page. Its script runs because it has the number of this answer; no other script would.
fn page() -> Answer {
    let random = |part: u8| RandomState::new().hash_one(part);
    let nonce = format!("{:016x}{:016x}", random(0), random(1));
    let page = PAGE.replace("<script>", &format!("<script nonce=\"{nonce}\">"));
    let mut answer = typed(StatusCode::OK, "text/html; charset=utf-8", page);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    if let Ok(policy) = HeaderValue::try_from(policy) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    answer
        .headers_mut()
        .extend(headers.map(|(name, value)| (name, HeaderValue::from_static(value))));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    async fn served<const N: usize>(requests: [&str; N]) -> Duration {
        let (mut client, stream) = duplex(512);
        let shared = Arc::new(Shared::new("test".into(), false));
        let began = tokio::time::Instant::now();
        let server = tokio::spawn(async move {
            serve(stream, shared).await;
            began.elapsed()
        });
        for request in requests {
            client.write_all(request.as_bytes()).await.expect("there is room");
        }
        // The client stays, and reads nothing.
        let life = server.await.expect("it has not panicked");
        drop(client);
        life
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_nothing_gives_its_place_back() {
        assert_eq!(served([]).await, PATIENCE);
        assert_eq!(served(["GET / HTTP/1.1\r\nHost: loc"]).await, PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_gives_its_place_back() {
        assert_eq!(served(["GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]).await, LIFE + PATIENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_no_more_gives_its_place_back() {
        let (mut client, stream) = duplex(512);
        let server = tokio::spawn(serve(stream, Arc::new(Shared::new("test".into(), false))));
        client
            .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .expect("there is room");
        let began = tokio::time::Instant::now();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.expect("text, until the server ends it");
        server.await.expect("it has not panicked");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
