//! A stage as a part of a struct (actor, service object, client with a bounded queue): what its type is called.
//!
//! ```text
//! cargo run --example stage_in_struct
//! ```
//!
//! `Enricher` takes orders from anywhere in the program and hands them out again with the customer's name, in the same order.
//! It owns the sending end of a channel, which is the stage's source, and the stage itself.

use std::time::Duration;

use inflight::prelude::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

#[derive(Debug)]
struct Order {
    customer: u32,
}

#[derive(Debug)]
struct Unknown;

type Named = Outcome<Order, String, Unknown>;

struct Enricher {
    orders: mpsc::Sender<Order>,
    names: TokioStage<Order, String, Unknown>,
}

impl Enricher {
    /// Must be called inside of tokio.
    fn new() -> Result<Self, StartError> {
        let (orders, receiver) = mpsc::channel(16);
        let policy = AsyncWait::ordered(64).timeout(Duration::from_secs(2));
        let names = ReceiverStream::new(receiver)
            .async_wait(policy, |order: &Order| name_of(order.customer))
            .spawn(Tokio)?;
        Ok(Self { orders, names })
    }

    /// Another way in, for another task. The enricher ends when all of them are dropped.
    fn orders(&self) -> mpsc::Sender<Order> {
        self.orders.clone()
    }

    /// The next order with its name.
    async fn next(&mut self) -> Option<Named> {
        self.names.next().await
    }

    /// Takes no more orders, and returns the outcomes of those that it has.
    async fn finish(self) -> Vec<Named> {
        let Self { orders, mut names } = self;
        drop(orders);
        let mut rest = Vec::new();
        while let Some(done) = names.next().await {
            rest.push(done);
        }
        rest
    }
}

async fn name_of(customer: u32) -> Result<String, Unknown> {
    tokio::time::sleep(Duration::from_millis(10)).await; // a real program asks a service here
    if customer == 13 { Err(Unknown) } else { Ok(format!("customer {customer}")) }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut enricher = Enricher::new()?;
    let orders = enricher.orders();
    let shop = tokio::spawn(async move {
        for customer in 0..40 {
            orders.send(Order { customer }).await.expect("the enricher takes them");
        }
    });

    let first = enricher.next().await.ok_or("an order")?;
    assert_eq!((first.input.customer, first.ok().as_deref()), (0, Some("customer 0")));
    shop.await?;
    let rest = enricher.finish().await;
    assert!(rest.iter().map(|done| done.input.customer).eq(1..40));
    let failed = rest.iter().filter(|done| done.result.is_err()).count();
    assert_eq!(failed, 1);
    println!("stage_in_struct: PASS, 40 orders, {failed} without a name");
    Ok(())
}
