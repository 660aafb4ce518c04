//! Three servers that keep each message on all of them, and that crash in turn.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use async_nats::jetstream::{Context, context::ContextBuilder, stream};
use async_nats::{ConnectOptions, ServerAddr};
use inflight_core::StreamElement;
use inflight_core::pipeline::ReplayableSource;
use inflight_jetstream::{JetStreamSource, output_stream};

use crate::owners::{all, own, transaction};
use crate::server::{LIMIT, create, free_port, is_required};

struct Cluster {
    folder: tempfile::TempDir,
    ports: [u16; 3],
    routes: [u16; 3],
}

impl Cluster {
    /// `None`, with a message, if the servers cannot be had.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let cluster = Self { folder, ports: free_ports(), routes: free_ports() };
        if cluster.script("up") {
            return Some(cluster);
        }
        assert!(!is_required(), "no NATS servers");
        let _ = writeln!(io::stderr(), "\nSKIPPED: the NATS servers cannot be had\n");
        None
    }

    /// The fleet's scripts. Returns false if the servers cannot be had.
    fn script(&self, name: &str) -> bool {
        let mut command = self.command(name);
        let status = command.arg(self.folder.path()).status().expect("a shell");
        assert!(status.success() || status.code() == Some(77), "{name}: {status}");
        status.success()
    }

    fn command(&self, name: &str) -> Command {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/fleet");
        let mut command = Command::new(path.join(name));
        let words = |ports: &[u16; 3]| ports.map(|port| port.to_string()).join(" ");
        command.env("FLEET_PORTS", words(&self.ports));
        command.env("FLEET_CLUSTER_PORTS", words(&self.routes));
        command
    }

    /// Ends one of them as a crash would, and starts it again.
    fn restart(&self, number: usize) {
        let mut down = self.command("down");
        down.arg(self.folder.path()).arg(format!("nats{number}")).env("FLEET_SIGNAL", "KILL");
        assert!(down.status().expect("a shell").success());
        assert!(self.script("up"));
    }

    async fn context(&self) -> Context {
        let addresses = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let addresses: Result<Vec<ServerAddr>, _> = addresses.iter().map(|it| it.parse()).collect();
        let delay = |_| Duration::from_millis(20);
        let options = ConnectOptions::new().reconnect_delay_callback(delay);
        let client = options.connect(addresses.unwrap()).await.expect("a client");
        ContextBuilder::new().timeout(LIMIT).build(client)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.command("down").arg(self.folder.path()).status();
    }
}

fn free_ports() -> [u16; 3] {
    [free_port(), free_port(), free_port()]
}

// K10: a reader of all outputs, which goes on over the crashes too, meets each once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_crash_have_each_output_once() {
    let Some(cluster) = Cluster::start() else { return };
    let (context, numbers) = (cluster.context().await, 2000);
    let config = output_stream("crashes", ["crashes.>"]);
    create(&context, stream::Config { num_replicas: 3, ..config }).await;
    let reader = tokio::spawn({
        let context = context.clone();
        async move {
            let source = JetStreamSource::new(context, "crashes").filter("crashes.out");
            read(source, numbers, &cluster).await
        }
    });
    while own(numbers, transaction(&context, "crashes")).await.is_err() {
        tokio::task::yield_now().await;
    }
    assert_eq!(reader.await.unwrap(), all(numbers));
}

/// Reads so many numbers, and lets a server crash after each 500.
async fn read(mut source: JetStreamSource, numbers: u64, cluster: &Cluster) -> Vec<u64> {
    while source.open(None).await.is_err() {
        tokio::task::yield_now().await;
    }
    let mut found = Vec::new();
    while (found.len() as u64) < numbers {
        match std::future::poll_fn(|cx| source.poll_next(cx)).await {
            Some(Ok(StreamElement::Record { value, .. })) => {
                let number = String::from_utf8(value.payload).unwrap().parse().unwrap();
                assert_eq!(number, found.len() as u64);
                found.push(number);
            }
            other => panic!("{other:?}"),
        }
        if found.len() % 500 == 0 {
            tokio::task::block_in_place(|| cluster.restart(found.len() / 500 % 3));
        }
    }
    found
}
