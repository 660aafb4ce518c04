//! The service that both jobs ask: HTTP/1.1 with keep-alive, an answer after 20 ms, as cheap as it can be on one core.
//!
//! `GET /17` is answered with `0000000000000017`. It prints its port, and the time of its first connection in microseconds
//! of Unix time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;

const DELAY: Duration = Duration::from_millis(20);

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve())
}

async fn serve() -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(16_384)?;
    println!("{}", listener.local_addr()?.port());
    let mut is_first = true;
    loop {
        let (connection, _) = listener.accept().await?;
        connection.set_nodelay(true)?;
        if is_first {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            println!("{}", now.as_micros());
            is_first = false;
        }
        tokio::spawn(async move {
            if let Err(error) = answer(connection).await {
                eprintln!("service: {error:#}");
            }
        });
    }
}

/// Answers the requests of one connection, one after the other.
async fn answer(mut connection: TcpStream) -> Result<()> {
    let mut request = [0; 1024];
    let mut length = 0;
    loop {
        ensure!(length < request.len(), "a request is too long");
        match connection.read(&mut request[length..]).await {
            Ok(0) | Err(_) => return Ok(()), // the job has ended
            Ok(more) => length += more,
        }
        if !request[..length].ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = str::from_utf8(&request[..length])?;
        let number = head.strip_prefix("GET /").and_then(|rest| rest.split(' ').next());
        let number: u64 = number.context("a request is not a GET")?.parse()?;
        length = 0;
        sleep(DELAY).await;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n{number:016}");
        if connection.write_all(answer.as_bytes()).await.is_err() {
            return Ok(());
        }
    }
}
