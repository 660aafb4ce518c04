//! What makes the requests.

use std::cell::RefCell;
use std::net::SocketAddr;

use anyhow::{Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HOST;
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Asks the service about a number.
pub(crate) trait Client: 'static {
    async fn ask(&self, number: u64) -> Result<u64>;
}

/// Answers by itself, at once.
pub(crate) struct None;

impl Client for None {
    async fn ask(&self, number: u64) -> Result<u64> {
        Ok(number)
    }
}

/// hyper, with the connections that are idle.
pub(crate) struct Http {
    service: SocketAddr,
    idle: RefCell<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Http {
    pub(crate) fn new(service: SocketAddr) -> Self {
        Self { service, idle: RefCell::default() }
    }

    async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let stream = TokioIo::new(connect(self.service).await?);
        // Answers are short. The default is 8 KiB a connection.
        let (requests, connection) =
            http1::Builder::new().read_buf_exact_size(Some(256)).handshake(stream).await?;
        tokio::spawn(connection); // an error of it is the request's error too
        Ok(requests)
    }
}

impl Client for Http {
    async fn ask(&self, number: u64) -> Result<u64> {
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            Option::None => self.connect().await?,
        };
        let path: Uri = format!("/{number}").parse()?;
        let request = Request::get(path).header(HOST, "127.0.0.1").body(Empty::new())?;
        connection.ready().await?;
        let answer = connection.send_request(request).await?;
        ensure!(answer.status().is_success(), "status {}", answer.status());
        let body = answer.into_body().collect().await?.to_bytes();
        self.idle.borrow_mut().push(connection);
        Ok(str::from_utf8(&body)?.parse()?)
    }
}

/// The least that a client can do: it writes the bytes of a request, and reads an answer whose length it knows.
pub(crate) struct Raw {
    service: SocketAddr,
    idle: RefCell<Vec<TcpStream>>,
}

const ANSWER_BYTES: usize = b"HTTP/1.1 200 OK\r\ncontent-length: 16\r\n\r\n0123456789abcdef".len();

impl Raw {
    pub(crate) fn new(service: SocketAddr) -> Self {
        Self { service, idle: RefCell::default() }
    }
}

impl Client for Raw {
    async fn ask(&self, number: u64) -> Result<u64> {
        let idle = self.idle.borrow_mut().pop();
        let mut connection = match idle {
            Some(connection) => connection,
            Option::None => connect(self.service).await?,
        };
        let request = format!("GET /{number:016} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n");
        connection.write_all(request.as_bytes()).await?;
        let (mut answer, mut length) = ([0; ANSWER_BYTES + 1], 0);
        while length < ANSWER_BYTES {
            let more = connection.read(&mut answer[length..]).await?;
            ensure!(more > 0, "the service has closed the connection");
            length += more;
        }
        self.idle.borrow_mut().push(connection);
        Ok(str::from_utf8(&answer[ANSWER_BYTES - 16..ANSWER_BYTES])?.parse()?)
    }
}

async fn connect(service: SocketAddr) -> Result<TcpStream> {
    let connection = TcpStream::connect(service).await?;
    connection.set_nodelay(true)?;
    Ok(connection)
}
