//! The live page of `--serve`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Job, flights};

/// The state behind the page at an address.
fn state(address: &str) -> Value {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    let request = "GET /state.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it is there");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    serde_json::from_str(body).expect("JSON")
}

#[test] // M2
fn a_run_shows_its_window_and_its_checkpoints() {
    for mode in ["positions", "snapshot"] {
        let job = Job::new(flights(100)).with(&["--latency", "60s", "--attempt-timeout", "300s"]);
        let job = job.with(&["--capacity", "7", "--checkpoint", mode]);
        let mut running = job.start(&["--serve", "127.0.0.1:0"]);
        let line = running.wait_for("look at http://");
        let (_, address) = line.trim_end().split_once("http://").expect("an address");
        let address = address.trim_end_matches('/');
        let shows_all = || {
            let state = state(address);
            let has_checkpoint = state["pipelines"][0]["checkpoints"].as_u64() > Some(0);
            state["stages"][0]["window"]["cells"] == "rrrrrrr" && has_checkpoint
        };
        assert!(running.wait_until(shows_all));
        assert_eq!(state(address)["stages"][0]["name"], "enrich");
        running.kill();
    }
}

#[test]
fn other_machines_cannot_look() {
    let job = Job::new(flights(1));
    job.refuses(
        &["--serve", "0.0.0.0:0"],
        &["cannot serve a page", "other machines could reach it"],
    );
}
