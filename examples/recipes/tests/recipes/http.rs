//! A REST client with retries (HTTP, connection pool, `Retry-After`, idempotency keys): `reqwest`.
//!
//! Take it for any service that speaks HTTP. The client keeps the connections; the stage keeps the order for each customer,
//! the timeouts and the retries, so leave those of the client alone: dropping a request's future closes its connection.
//!
//! * The error says what may be retried, and `Retry-After` says when. A refusal (404, 422) is an outcome, not a reason to ask again.
//! * A request that times out may have had its effect. The `Idempotency-Key` is the same in all attempts of a record,
//!   so that the service can recognise the repetition.
//! * `max_running` is the number of connections: the client opens as many as there are requests at once.

use std::time::Duration;

use inflight::prelude::*;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};

#[derive(Clone, Copy, Debug, PartialEq)]
struct Order {
    customer: u32,
    number: u32,
}

/// The function of a stage: `with_attempt(move |order, attempt| place(client.clone(), url.clone(), *order, attempt))`.
async fn place(
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
        StatusCode::TOO_MANY_REQUESTS => {
            Err(HttpError::Busy { retry_after: retry_after(&response) })
        }
        status if status.is_server_error() => {
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
enum HttpError {
    Busy { retry_after: Option<Duration> },
    Refused(StatusCode),
    Connection(reqwest::Error),
}

fn retries() -> impl RetryStrategy<Order, String, HttpError> + Send + 'static {
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

mod tests {
    use std::collections::HashMap;
    use std::convert::Infallible;
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    use futures_util::stream;
    use hyper::body::Incoming;
    use hyper::server::conn::http1;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use hyper_util::rt::TokioIo;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;
    use crate::clock::by_hand;

    /// What a server does with the first request for an order.
    const BUSY: Order = Order { customer: 1, number: 0 };
    const SILENT: Order = Order { customer: 2, number: 0 };
    const UNKNOWN: Order = Order { customer: 3, number: 4 };

    /// The requests for each path, with their idempotency keys and times.
    #[derive(Clone, Default)]
    struct Server(Arc<Mutex<HashMap<String, Vec<(String, Instant)>>>>);

    impl Server {
        /// Listens on a port of its own, and returns its URL.
        async fn start(&self) -> String {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let url = format!("http://{}", listener.local_addr().expect("an address"));
            let server = self.clone();
            tokio::spawn(async move {
                while let Ok((connection, _)) = listener.accept().await {
                    let server = server.clone();
                    let answer = service_fn(move |request| server.clone().answer(request));
                    let connection = TokioIo::new(connection);
                    tokio::spawn(http1::Builder::new().serve_connection(connection, answer));
                }
            });
            url
        }

        async fn answer(self, request: Request<Incoming>) -> Result<Response<String>, Infallible> {
            let path = request.uri().path().to_owned();
            let key = request.headers()["Idempotency-Key"].to_str().expect("a key").to_owned();
            let is_first = {
                let mut requests = self.0.lock().unwrap();
                let requests = requests.entry(path.clone()).or_default();
                requests.push((key, Instant::now()));
                requests.len() == 1
            };
            let response = Response::builder();
            let response = match () {
                () if path == path_of(UNKNOWN) => response.status(404).body(String::new()),
                () if is_first && path == path_of(BUSY) => {
                    response.status(503).header("Retry-After", "20").body(String::new())
                }
                () if is_first && path == path_of(SILENT) => pending().await,
                () => response.body(format!("{path} is placed")),
            };
            Ok(response.expect("a response"))
        }

        fn requests(&self, order: Order) -> Vec<(String, Instant)> {
            self.0.lock().unwrap().get(&path_of(order)).cloned().unwrap_or_default()
        }
    }

    fn path_of(order: Order) -> String {
        format!("/customers/{}/orders/{}", order.customer, order.number)
    }

    #[test]
    fn a_customer_waits_for_its_own_orders_only() {
        by_hand(async |clock| {
            let server = Server::default();
            let (url, client) =
                (server.start().await, Client::builder().no_proxy().build().expect("a client"));
            let orders =
                (0..5).flat_map(|number| (0..4).map(move |customer| Order { customer, number }));
            let policy = AsyncWait::ordered_by_key(100, |order: &Order| order.customer)
                .max_running(20)
                .timeout(Duration::from_secs(60))
                .attempt_timeout(Duration::from_secs(10))
                .retry(retries());
            let mut outcomes = stream::iter(orders)
                .async_wait_with(
                    policy,
                    with_attempt(move |order: &Order, attempt| {
                        place(client.clone(), url.clone(), *order, attempt)
                    }),
                )
                .spawn(Tokio)
                .expect("a stage");

            let mut numbers = HashMap::from([(0, 0..5), (1, 0..5), (2, 0..5), (3, 0..5)]);
            let mut check = |done: Outcome<Order, String, HttpError>| {
                let order = done.input;
                assert_eq!(
                    numbers.get_mut(&order.customer).and_then(Iterator::next),
                    Some(order.number)
                );
                match done.result {
                    Err(Failure::Error(HttpError::Refused(StatusCode::NOT_FOUND)))
                        if order == UNKNOWN => {}
                    result => assert_eq!(
                        result.expect("an answer"),
                        format!("{} is placed", path_of(order))
                    ),
                }
                assert_eq!(done.attempts, if [BUSY, SILENT].contains(&order) { 2 } else { 1 });
                order.customer
            };
            for _ in 0..10 {
                let customer = check(outcomes.next().await.expect("an outcome"));
                assert!(
                    [0, 3].contains(&customer),
                    "customer {customer} waits for its first order"
                );
            }

            let handle = outcomes.handle();
            clock
                .until("the server has the silent request", || server.requests(SILENT).len() == 1)
                .await;
            clock.until("the server was busy", || handle.metrics().in_backoff == 1).await;
            clock.advance(Duration::from_secs(10)).await; // the attempt's timeout
            clock
                .until("the silent attempt has timed out", || handle.metrics().in_backoff == 2)
                .await;
            clock.advance(Duration::from_secs(1)).await; // its backoff
            for _ in 0..5 {
                assert_eq!(check(outcomes.next().await.expect("an outcome")), SILENT.customer);
            }
            clock.advance(Duration::from_secs(9)).await;
            for _ in 0..5 {
                assert_eq!(check(outcomes.next().await.expect("an outcome")), BUSY.customer);
            }
            assert!(outcomes.next().await.is_none());

            for order in [BUSY, SILENT] {
                let [first, second] = server.requests(order).try_into().expect("two requests");
                assert_eq!(first.0, second.0, "the service can recognise the second one");
                let wait = if order == BUSY { 20 } else { 11 };
                assert_eq!((second.1 - first.1).as_secs(), wait, "of {order:?}");
            }
            assert_eq!(server.requests(UNKNOWN).len(), 1);
        });
    }
}
