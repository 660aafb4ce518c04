//! The client of the HTTP endpoint.

use std::error::Error;
use std::fmt;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::http::uri::InvalidUri;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::causes::with_causes;
use crate::record::Record;

/// The most bytes of an answer.
const LONGEST: usize = 256 << 10;

/// Asks the endpoint. Clones share one pool of connections.
#[derive(Clone, Debug)]
pub struct Endpoint {
    client: Client<HttpConnector, Full<Bytes>>,
    uri: Uri,
}

impl Endpoint {
    pub fn new(url: &str) -> Result<Self, InvalidUri> {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { client, uri: url.parse()? })
    }

    /// Posts the data of a record. By the header the endpoint can recognise a record that it was asked about before.
    pub async fn ask(self, record: Record) -> Result<String, AskError> {
        let key = format!("{}/{}", record.shard, record.sequence);
        let request = Request::post(self.uri).header("idempotency-key", key);
        let request = request.body(Full::new(Bytes::from(record.data)));
        let request = request.map_err(|error| AskError::Transport(error.to_string()))?;
        let answer = self.client.request(request).await;
        let answer = answer.map_err(|error| AskError::Transport(with_causes(&error)))?;
        if answer.status() != StatusCode::OK {
            return Err(AskError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| AskError::Transport(error.to_string()))?;
        Ok(String::from_utf8_lossy(&body.to_bytes()).into_owned())
    }
}

/// There is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    Status(StatusCode),
    Transport(String),
}

impl AskError {
    /// Whether another attempt can succeed.
    pub fn passes(&self) -> bool {
        match self {
            Self::Status(status) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Self::Transport(_) => true,
        }
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the endpoint says {status}"),
            Self::Transport(reason) => write!(f, "no answer from the endpoint: {reason}"),
        }
    }
}

impl Error for AskError {}
