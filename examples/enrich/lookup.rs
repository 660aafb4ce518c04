//! The client of the airport service: its requests, and the failures that are worth another attempt.

use std::error::Error;
use std::fmt::{self, Display, Write};
use std::sync::Arc;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::http::uri::InvalidUri;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use inflight::AttemptInfo;

use crate::airport::{Airport, Enrichment};
use crate::counters::Counters;
use crate::line::{BadLine, Flight};
use crate::problem::with_causes;

/// No airport is larger, and a proxy's error page need not be read to its end.
const MAX_ANSWER: usize = 64 * 1024;

/// The client of the airport service. Clones share one pool of connections.
#[derive(Clone)]
pub struct Airports {
    client: Client<HttpConnector, Empty<Bytes>>,
    /// The URL with `{code}` in it.
    service: Arc<str>,
    counters: Arc<Counters>,
}

/// The reason why a line gets no airports.
#[derive(Debug)]
pub enum LookupError {
    /// The line has no flight to look up.
    BadLine(BadLine),
    /// The service knows no such airport.
    NoSuchAirport(String),
    /// Another attempt may succeed.
    Transient(String),
    /// Another attempt will not succeed.
    Permanent(String),
}

impl Airports {
    pub fn new(service: String, counters: Arc<Counters>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Self { client, service: service.into(), counters }
    }

    /// Looks up both airports of a flight at the same time.
    pub async fn of(&self, flight: &Flight, info: AttemptInfo) -> Result<Enrichment, LookupError> {
        let attempt = self.counters.attempt();
        let airports = tokio::try_join!(
            self.airport(&flight.origin, info),
            self.airport(&flight.destination, info)
        );
        attempt.finished();
        let (origin_airport, destination_airport) = airports?;
        Ok(Enrichment { origin_airport, destination_airport })
    }

    async fn airport(&self, code: &str, attempt: AttemptInfo) -> Result<Airport, LookupError> {
        let answer = self.client.request(self.request(code, attempt)?).await.map_err(|error| {
            LookupError::Transient(format!("no answer from the service: {}", with_causes(&error)))
        })?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(LookupError::NoSuchAirport(code.into())),
            status => return Err(LookupError::status(status, code)),
        }
        let body =
            Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(|error| {
                LookupError::Transient(format!("the answer for {code:?} broke off: {error}"))
            })?;
        understand(&body.to_bytes(), code)
    }

    /// The headers let the service tell a repeated request from a new one.
    fn request(
        &self,
        code: &str,
        attempt: AttemptInfo,
    ) -> Result<Request<Empty<Bytes>>, LookupError> {
        let permanent = |error: &dyn Error| {
            LookupError::Permanent(format!("{code:?} does not make a valid URL: {error}"))
        };
        let url = self.service.replace("{code}", &percent_encoded(code));
        let url: Uri = url.parse().map_err(|error: InvalidUri| permanent(&error))?;
        let request = Request::get(url)
            .header("x-request-id", attempt.request_id)
            .header("x-attempt", attempt.number);
        request.body(Empty::new()).map_err(|error| permanent(&error))
    }
}

impl LookupError {
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Transient(_))
    }

    fn status(status: StatusCode, code: &str) -> Self {
        let what = format!("the service answered {status} for {code:?}");
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Self::Transient(what),
            status if status.is_server_error() => Self::Transient(what),
            _ => Self::Permanent(what),
        }
    }
}

/// An answer that is not JSON comes from a proxy, which may be gone the next time. JSON without an airport
/// comes from the service, and is final.
fn understand(body: &[u8], code: &str) -> Result<Airport, LookupError> {
    serde_json::from_slice(body).map_err(|error| {
        let start = String::from_utf8_lossy(&body[..body.len().min(60)]);
        let what =
            format!("the service's answer for {code:?} is not an airport: {error}: {start:?}");
        if error.is_data() { LookupError::Permanent(what) } else { LookupError::Transient(what) }
    })
}

/// A code as one segment of a path, with every special character escaped.
fn percent_encoded(code: &str) -> String {
    code.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                encoded.push(byte.into())
            }
            _ => write!(encoded, "%{byte:02X}").unwrap_or_default(),
        }
        encoded
    })
}

impl From<BadLine> for LookupError {
    fn from(line: BadLine) -> Self {
        Self::BadLine(line)
    }
}

impl Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadLine(line) => line.fmt(f),
            Self::NoSuchAirport(code) => write!(f, "there is no airport {code:?}"),
            Self::Transient(what) | Self::Permanent(what) => f.write_str(what),
        }
    }
}
