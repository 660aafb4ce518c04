//! A tokio channel as the source, and a graceful end (graceful shutdown, drain on Ctrl-C): every record that was sent comes out.
//!
//! ```text
//! cargo run --example channel
//! ```
//!
//! The end begins at the producers: they stop, and the last one drops its sender. The channel then ends behind its last
//! record, so the stage takes in the records that are left, finishes them and ends. If the *stage* were told to stop, the records
//! in the channel would be dropped with it, unless the program lends the receiver to the stage and takes it back (`lend`).

use std::time::Duration;

use inflight::prelude::*;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_stream::wrappers::ReceiverStream;

#[derive(Debug)]
struct Busy;

async fn square(n: u64) -> Result<u64, Busy> {
    sleep(Duration::from_millis(20 + n % 7)).await; // a real program asks a service here
    Ok(n * n)
}

/// Sends numbers until it is told to stop. Returns how many it has sent.
async fn produce(sender: mpsc::Sender<u64>, mut stop: watch::Receiver<bool>) -> u64 {
    let mut sent = 0;
    loop {
        let room = tokio::select! {
            room = sender.reserve() => room,
            _ = stop.wait_for(|stop| *stop) => return sent,
        };
        let Ok(room) = room else { return sent }; // the stage is gone
        room.send(sent);
        sent += 1;
    }
}

/// Ends when a person presses Ctrl-C; in this example also after half a second.
async fn shutdown() {
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = sleep(Duration::from_millis(500)) => {}
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (sender, receiver) = mpsc::channel(32); // a full channel makes its producers wait
    let (stop, stopped) = watch::channel(false);
    let producer = tokio::spawn(produce(sender, stopped));
    tokio::spawn(async move {
        shutdown().await;
        stop.send_replace(true);
    });

    // The timeout also bounds the end: no record in flight takes longer.
    let policy = AsyncWait::ordered(16).timeout(Duration::from_secs(10));
    let mut answers =
        ReceiverStream::new(receiver).async_wait_owned(policy, square).spawn(Tokio)?;

    let mut received = 0;
    while let Some(done) = answers.next().await {
        assert_eq!((done.input, done.result.ok()), (received, Some(received * received)));
        received += 1;
    }
    assert!(matches!(answers.end(), Some(Ok(()))), "the stage did not end early");
    let sent = producer.await?;
    assert_eq!(received, sent, "every record that was sent came out");
    println!("channel: PASS, {sent} records sent, {received} received");
    Ok(())
}
