//! Owners to the end: through kills and freezes, with the broker whose transactions are right.

use std::time::Duration;

use crate::broker::Broker;
use crate::owner::Owner;
use crate::topic::{append, committed, create};

const RECORDS: u64 = 1000;

/// A job with its records.
async fn job(broker: &Broker, job: &str) {
    let config = broker.config();
    create(&config, job, 1).await;
    create(&config, &format!("{job}-out"), 1).await;
    append(&config, job, 0, 0..RECORDS);
}

fn output(broker: &Broker, job: &str) -> Vec<u64> {
    committed(&broker.config(), &format!("{job}-out"), 0)
}

fn expect_all(broker: &Broker, job: &str) {
    let output = output(broker, job);
    assert!(output.iter().copied().eq(0..RECORDS), "{} of {RECORDS}: {output:?}", output.len());
}

async fn wait_for_some(broker: &Broker, job: &str, outputs: usize) {
    while output(broker, job).len() < outputs {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

// K10
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_are_killed_write_each_output_once() {
    let Some(broker) = Broker::transactions() else { return };
    job(broker, "killed").await;
    let mut kills = 0;
    loop {
        let owner = Owner::start(broker.port(), "killed", RECORDS);
        // From before its first commit on, and longer and longer, so that one comes to the end on a slow machine too.
        tokio::time::sleep(Duration::from_millis(kills * 67 % 400 + kills * 30)).await;
        if owner.kill() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 5, "{kills} kills");
    expect_all(broker, "killed");
    println!("{kills} kills");
}

/// Freezes an owner after some outputs, lets another one work to the end, and wakes it up. Returns whether it was not fenced.
async fn freeze(broker: &Broker, name: &str, outputs: usize, fenced: bool) -> bool {
    job(broker, name).await;
    let first = Owner::start_with(broker.port(), name, RECORDS, fenced);
    wait_for_some(broker, name, outputs).await;
    first.signal("-STOP");
    let second = Owner::start_with(broker.port(), name, RECORDS, fenced);
    assert!(second.wait(), "the second one is fenced");
    first.signal("-CONT");
    first.wait()
}

// K15
#[tokio::test(flavor = "multi_thread")]
async fn owners_that_were_frozen_change_nothing() {
    let Some(broker) = Broker::transactions() else { return };
    for (round, outputs) in [10, 70, 150, 400].into_iter().enumerate() {
        let job = format!("frozen{round}");
        assert!(!freeze(broker, &job, outputs, true).await, "not fenced");
        expect_all(broker, &job);
    }
}

// K15: a negative control.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_fence_a_frozen_owner_does_damage() {
    let Some(broker) = Broker::transactions() else { return };
    assert!(freeze(broker, "unfenced", 100, false).await);
    let doubled = output(broker, "unfenced").len() as u64;
    assert!(doubled > RECORDS, "no damage");
}
