//! What the program `http` promises of a server that does not answer, and of one that is busy for long.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream;
use inflight::prelude::*;
use reqwest::{Client, StatusCode};

use self::program::server::{BUSY, Server, UNKNOWN, path_of};
use self::program::{HttpError, Order, place, retries};
use crate::clock::by_hand;

#[path = "../../examples/http.rs"]
#[allow(dead_code, reason = "it is a program")]
mod program;

const SILENT: Order = Order { customer: 2, number: 0 };

#[test]
fn a_customer_waits_for_its_own_orders_only() {
    by_hand(async |clock| {
        let server = Server::new(20, Some(SILENT));
        let (url, client) = (
            server.start().await.expect("a port"),
            Client::builder().no_proxy().build().expect("a client"),
        );
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
                result => {
                    assert_eq!(result.expect("an answer"), format!("{} is placed", path_of(order)))
                }
            }
            assert_eq!(done.attempts, if [BUSY, SILENT].contains(&order) { 2 } else { 1 });
            order.customer
        };
        for _ in 0..10 {
            let customer = check(outcomes.next().await.expect("an outcome"));
            assert!([0, 3].contains(&customer), "customer {customer} waits for its first order");
        }

        let handle = outcomes.handle();
        clock
            .until("the server has the silent request", || server.requests(SILENT).len() == 1)
            .await;
        clock.until("the server was busy", || handle.metrics().in_backoff == 1).await;
        clock.advance(Duration::from_secs(10)).await; // the attempt's timeout
        clock.until("the silent attempt has timed out", || handle.metrics().in_backoff == 2).await;
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
