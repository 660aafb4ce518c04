//! A live page that shows a stage at work (web UI, dashboard in the browser, where does it hang): the records in flight, rates, latencies.
//!
//! ```text
//! cargo run --example live_page            # checks itself and ends
//! cargo run --example live_page -- 9090    # goes on: look at http://127.0.0.1:9090/
//! ```
//!
//! In a program of your own: feature `console` of inflight. The page is served by a thread of its own, on loopback alone.

use std::error::Error;
use std::time::Duration;

use futures::stream;
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use inflight::console::Console;
use inflight::prelude::*;
use tokio::time::{sleep, timeout};

/// Stands for a service. One request in a hundred hangs for two seconds: the page shows which outcomes wait for it.
async fn square(n: u64) -> Result<u64, &'static str> {
    sleep(Duration::from_millis(if n % 100 == 99 { 2_000 } else { 20 + n % 50 })).await;
    if n.is_multiple_of(7) { Err("busy") } else { Ok(n * n) }
}

/// What the page shows, as JSON.
async fn state(url: &str) -> Result<serde_json::Value, Box<dyn Error>> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(format!("{url}state.json").parse()?).await?;
    Ok(serde_json::from_slice(&answer.into_body().collect().await?.to_bytes())?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1);
    let address = format!("127.0.0.1:{}", port.as_deref().unwrap_or("0")); // 0: any port that is free
    let console = Console::new("live_page").serve(&*address)?;
    println!("look at {}", console.url());

    let retry = FixedDelay::new(Duration::from_millis(100)).max_retries(1);
    let policy = AsyncWait::ordered(64).timeout(Duration::from_secs(5)).retry(retry);
    let mut squares = stream::iter(0..).async_wait_owned(policy, square).spawn(Tokio)?;
    console.stage("squares", squares.handle());

    let take = async { while squares.next().await.is_some() {} };
    let look = async {
        loop {
            let state = state(&console.url()).await?;
            let now = &state["stages"][0]["numbers"];
            if port.is_none() && now["in_flight"] == 64 && now["retried"].as_u64() > Some(0) {
                assert_eq!(state["stages"][0]["name"], "squares");
                return Ok::<_, Box<dyn Error>>(());
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = take => unreachable!("the numbers have no end"),
        _ = tokio::signal::ctrl_c(), if port.is_some() => return Ok(()),
        seen = timeout(Duration::from_secs(20), look), if port.is_none() => seen??,
    }
    println!("live_page: PASS, the page shows a full window and its retries");
    Ok(())
}
