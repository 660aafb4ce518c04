//! The service that is asked for each record: a number in a line is answered with a number in a line, after a while.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::order::answer;

/// A running service.
#[derive(Debug)]
pub struct Service {
    pub address: SocketAddr,
    calls: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Service {
    /// Starts it on a port of loopback.
    pub async fn start(latency: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("the service")?;
        let (address, calls) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counter = Arc::clone(&calls);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                // A connection ends when its worker does.
                tokio::spawn(async move { _ = serve(stream, latency, &counter).await });
            }
        });
        Ok(Self { address, calls, task })
    }

    /// The number of calls so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, latency: Duration, calls: &AtomicU64) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let (mut stream, mut line) = (BufReader::new(stream), String::new());
    while stream.read_line(&mut line).await? > 0 {
        calls.fetch_add(1, Ordering::Relaxed);
        let id = line.trim_end().parse()?;
        tokio::time::sleep(latency).await;
        stream.write_all(format!("{}\n", answer(id)).as_bytes()).await?;
        line.clear();
    }
    Ok(())
}

/// The service as a worker asks it: a connection for each request that runs, used again when the request has ended.
#[derive(Clone, Debug)]
pub struct Client(Arc<Connections>);

#[derive(Debug)]
struct Connections {
    service: SocketAddr,
    free: Mutex<Vec<BufReader<TcpStream>>>,
}

impl Client {
    pub fn new(service: SocketAddr) -> Self {
        Self(Arc::new(Connections { service, free: Mutex::default() }))
    }

    /// Asks for an answer. A request that is dropped closes its connection, so its late answer is not taken for another one's.
    pub async fn ask(&self, id: u64) -> anyhow::Result<u64> {
        let free = self.free().pop();
        let mut connection = match free {
            Some(connection) => connection,
            None => {
                let stream = TcpStream::connect(self.0.service).await?;
                stream.set_nodelay(true)?;
                BufReader::new(stream)
            }
        };
        connection.write_all(format!("{id}\n").as_bytes()).await?;
        let mut line = String::new();
        connection.read_line(&mut line).await?;
        let answer = line.trim_end().parse().context("the service's answer")?;
        self.free().push(connection);
        Ok(answer)
    }

    fn free(&self) -> std::sync::MutexGuard<'_, Vec<BufReader<TcpStream>>> {
        self.0.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
