//! A REST client with retries and with order per customer (HTTP, connection pool, 429, `Retry-After`, idempotency keys): `reqwest`.
//!
//! ```text
//! cargo run -p inflight-recipes --example http
//! ```
//!
//! Take it for any service that speaks HTTP. The client keeps the connections; the stage keeps the order for each customer,
//! the timeouts and the retries, so leave those of the client alone: dropping a request's future closes its connection.
//!
//! * The error says what may be retried, and `Retry-After` says when. A refusal (404, 422) is an outcome, not a reason to ask again.
//! * A request that times out may have had its effect. The `Idempotency-Key` is the same in all attempts of a record,
//!   so that the service can recognise the repetition.
//! * `max_running` is the number of connections: the client opens as many as there are requests at once.

use std::time::Duration;

use futures_util::stream;
use inflight::prelude::*;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};

use self::server::Server;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) customer: u32,
    pub(crate) number: u32,
}

/// The function of a stage: `with_attempt(move |order, attempt| place(client.clone(), url.clone(), *order, attempt))`.
pub(crate) async fn place(
    client: Client,
    url: String,
    order: Order,
    attempt: AttemptInfo,
) -> Result<String, HttpError> {
    let request = client
        .post(format!("{url}/customers/{}/orders/{}", order.customer, order.number))
        .header("Idempotency-Key", attempt.request_id);
    let response = request.send().await.map_err(HttpError::Connection)?;
    match response.status() {
        status if status.is_success() => response.text().await.map_err(HttpError::Connection),
        status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Err(HttpError::Busy { retry_after: retry_after(&response) })
        }
        status => Err(HttpError::Refused(status)),
    }
}

/// The header's seconds. (It may also have a date: the crate `httpdate` reads that.)
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[derive(Debug)]
pub(crate) enum HttpError {
    Busy { retry_after: Option<Duration> },
    Refused(StatusCode),
    Connection(reqwest::Error),
}

pub(crate) fn retries() -> impl RetryStrategy<Order, String, HttpError> + Send + 'static {
    ExponentialBackoff::new(Duration::from_secs(1))
        .max_retries(4)
        .jitter(0.5, 42)
        .when_error(|error: &HttpError| match error {
            HttpError::Busy { .. } => true,
            HttpError::Refused(_) => false,
            HttpError::Connection(error) => !error.is_builder(), // such as a URL that is none
        })
        .retry_after(|error: &HttpError| match error {
            HttpError::Busy { retry_after } => *retry_after,
            _ => None,
        })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::new(1, None);
    let (url, client) = (server.start().await?, Client::builder().no_proxy().build()?);

    let orders = (0..5).flat_map(|number| (0..4).map(move |customer| Order { customer, number }));
    let policy = AsyncWait::ordered_by_key(100, |order: &Order| order.customer)
        .max_running(20)
        .timeout(Duration::from_secs(60))
        .attempt_timeout(Duration::from_secs(10))
        .retry(retries());
    let function = with_attempt(move |order: &Order, attempt| {
        place(client.clone(), url.clone(), *order, attempt)
    });
    let mut outcomes = stream::iter(orders).async_wait_with(policy, function).spawn(Tokio)?;

    let mut order = Vec::new();
    while let Some(done) = outcomes.next().await {
        match &done.result {
            Ok(answer) => println!("{answer}"),
            Err(failure) => println!("{:?}: {failure:?}", done.input),
        }
        let is_refused =
            matches!(done.result, Err(Failure::Error(HttpError::Refused(StatusCode::NOT_FOUND))));
        assert_eq!(is_refused, done.input == server::UNKNOWN);
        assert!(is_refused || done.result.is_ok());
        assert_eq!(done.attempts, if done.input == server::BUSY { 2 } else { 1 });
        order.push(done.input);
    }
    for customer in 0..4 {
        let numbers = order.iter().filter(|order| order.customer == customer);
        assert!(numbers.map(|order| order.number).eq(0..5), "each customer's orders in order");
    }
    assert!(
        order[15..].iter().all(|order| order.customer == server::BUSY.customer),
        "no other customer waits"
    );
    let [first, second] = &server.requests(server::BUSY)[..] else {
        return Err("the busy server gets two requests".into());
    };
    assert_eq!(first.0, second.0, "the idempotency key is the same");
    println!("http: PASS, 20 orders of 4 customers; one was told to come again after a second");
    Ok(())
}

/// The service, for the program to check itself with.
pub(crate) mod server {
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::Order;

    /// The server is busy when it is first asked for this order, and does not know the other one.
    pub(crate) const BUSY: Order = Order { customer: 1, number: 0 };
    pub(crate) const UNKNOWN: Order = Order { customer: 3, number: 4 };

    #[derive(Clone)]
    pub(crate) struct Server {
        retry_after: u32,
        silent: Option<Order>,
        requests: Arc<Mutex<HashMap<String, Vec<(String, Instant)>>>>,
    }

    impl Server {
        /// A busy server says when to come again, in seconds. The first request for the order `silent` is never answered.
        pub(crate) fn new(retry_after: u32, silent: Option<Order>) -> Self {
            Self { retry_after, silent, requests: Arc::default() }
        }

        /// Listens on a port of its own, and returns its URL.
        pub(crate) async fn start(&self) -> std::io::Result<String> {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let url = format!("http://{}", listener.local_addr()?);
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let server = server.clone();
                    let answer = service_fn(move |request| server.clone().answer(request));
                    let connection = TokioIo::new(connection);
                    tokio::spawn(http1::Builder::new().serve_connection(connection, answer));
                }
            });
            Ok(url)
        }

        async fn answer(self, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
            let path = request.uri().path().to_owned();
            let key = request.headers()["Idempotency-Key"].to_str().expect("a key").to_owned();
            let is_first = {
                let mut requests = self.requests.lock().expect("no panic");
                let requests = requests.entry(path.clone()).or_default();
                requests.push((key, Instant::now()));
                requests.len() == 1
            };
            let response = Response::builder();
            let response = match () {
                () if path == path_of(UNKNOWN) => response.status(404).body(String::new()),
                () if is_first && path == path_of(BUSY) => {
                    response.status(503).header("Retry-After", self.retry_after).body(String::new())
                }
                () if is_first && self.silent.map(path_of).as_ref() == Some(&path) => {
                    pending().await
                }
                () => response.body(format!("{path} is placed")),
            };
            Ok(response.expect("a response"))
        }

        /// The requests for an order: their idempotency keys and times.
        pub(crate) fn requests(&self, order: Order) -> Vec<(String, Instant)> {
            self.requests
                .lock()
                .expect("no panic")
                .get(&path_of(order))
                .cloned()
                .unwrap_or_default()
        }
    }

    pub(crate) fn path_of(order: Order) -> String {
        format!("/customers/{}/orders/{}", order.customer, order.number)
    }
}
