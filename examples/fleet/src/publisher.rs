//! Publishes the orders at a steady rate, whatever happens to the servers.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::log::Log;
use crate::order::Order;

const BETWEEN: Duration = Duration::from_millis(20);

/// Publishes `rate` orders a second, or as fast as it goes; after an outage faster, until it has caught up. Returns when all are in the log.
pub async fn publish(log: &Log, orders: &[Order], rate: Option<u64>) {
    let (began, mut there) = (Instant::now(), 0);
    while there < orders.len() as u64 {
        let due =
            rate.map_or(u64::MAX, |rate| (began.elapsed().as_secs_f64() * rate as f64) as u64);
        let due = due.min(orders.len() as u64);
        if there >= due {
            sleep(BETWEEN).await;
            continue;
        }
        match log.publish(&orders[..due as usize], there).await {
            Ok(now) => there = now,
            Err(_) => there = position(log).await,
        }
    }
}

/// The number of orders that are in the log, after a failure.
async fn position(log: &Log) -> u64 {
    loop {
        sleep(BETWEEN * 5).await;
        if let Ok(orders) = log.orders().await {
            return orders;
        }
    }
}
