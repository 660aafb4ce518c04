//! An HTTP service in the test, for `--service`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use serde_json::{Map, Value};

use crate::harness::{Job, flights, wait_until};

/// A request, as the service sees it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Asked {
    pub code: String,
    /// The same in both requests for a flight, in all attempts and in all lives.
    pub request_id: u64,
    /// From 1.
    pub attempt: u32,
}

impl Asked {
    /// The number of the flight, from 0: the job has one stage, and no flight was asked for in another mode.
    pub fn number(&self) -> u64 {
        self.request_id & ((1 << 46) - 1)
    }
}

/// A status and a body, or `None`: then the request is never answered.
pub type Answer = Option<(&'static str, String)>;

/// A service that answers until the test ends.
pub struct Service {
    address: SocketAddr,
    /// Connections that were accepted and not yet closed.
    open: Arc<AtomicU64>,
}

impl Service {
    /// `answer` returns the answer for a code.
    pub fn start(answer: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(move |asked| answer(&asked.code))
    }

    /// `answer` returns the answer to a request.
    pub fn start_with(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, open) = (Arc::new(answer), Arc::new(AtomicU64::new(0)));
        thread::spawn({
            let open = open.clone();
            move || {
                for connection in listener.incoming() {
                    let (answer, open) = (answer.clone(), open.clone());
                    open.fetch_add(1, SeqCst);
                    thread::spawn(move || {
                        serve(connection.unwrap(), &*answer);
                        open.fetch_sub(1, SeqCst);
                    });
                }
            }
        });
        Self { address, open }
    }

    pub fn url(&self) -> String {
        format!("http://{}/lookup?airport={{code}}", self.address)
    }

    /// Waits until the service has seen all requests of a killed process. On a busy machine some arrive after the
    /// process has died.
    pub fn wait_until_idle(&self) {
        // Connections are accepted in order, so this one is the last.
        let mut last = TcpStream::connect(self.address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        last.read_to_end(&mut Vec::new()).unwrap();
        wait_until(|| self.open.load(SeqCst) == 0);
    }
}

/// An airport as the example expects it, with a field that the example does not know.
pub fn airport(code: &str) -> String {
    format!(
        r#"{{"name":"The {code}","city":"","state":"","latitude":1,"longitude":2,"more":null}}"#
    )
}

impl Job {
    /// Asserts that the output has each of the first `number` flights once, with the service's data on its airports, and nothing
    /// else.
    #[track_caller]
    pub fn assert_all_enriched(&self, number: usize, is_ordered: bool) {
        assert!(self.rejected().is_empty());
        self.assert_enriched_or_rejected(number, is_ordered);
    }

    /// The same for the flights that were not rejected.
    #[track_caller]
    pub fn assert_enriched_or_rejected(&self, number: usize, is_ordered: bool) {
        let rejected: Vec<_> =
            self.rejected().iter().map(|line| line["number"].as_u64().unwrap()).collect();
        let mut found = self.flights();
        for flight in &mut found {
            for end in ["origin", "destination"] {
                let airport = flight.remove(&format!("{end}_airport")).unwrap();
                assert_eq!(airport["name"], format!("The {}", flight[end].as_str().unwrap()));
            }
        }
        let input = flights(number);
        let rest = input.lines().zip(1..).filter(|(_, number)| !rejected.contains(number));
        let mut expected: Vec<Map<String, Value>> =
            rest.map(|(line, _)| serde_json::from_str(line).unwrap()).collect();
        if !is_ordered {
            let text = |flight: &Map<String, Value>| Value::from(flight.clone()).to_string();
            found.sort_by_key(text);
            expected.sort_by_key(text);
        }
        assert_eq!(found, expected);
    }
}

/// Answers one request and closes the connection.
fn serve(mut connection: TcpStream, answer: &dyn Fn(&Asked) -> Answer) {
    let mut head = BufReader::new(&connection).lines().map_while(Result::ok);
    // A connection may close without a request.
    let Some(request) = head.next() else { return };
    let headers: Vec<_> = head.by_ref().take_while(|line| !line.is_empty()).collect();
    let header = |name| {
        let mut fields = headers.iter().filter_map(|line| line.split_once(": "));
        fields.find_map(|(field, value)| value.parse().ok().filter(|_| field == name))
    };
    let asked = Asked {
        code: request.split(['=', ' ']).nth(2).unwrap_or_default().into(),
        request_id: header("x-request-id").unwrap_or_default(),
        attempt: header("x-attempt").and_then(|number| number.try_into().ok()).unwrap_or_default(),
    };
    let Some((status, body)) = answer(&asked) else {
        // Wait until the client closes the connection.
        let _ = head.next();
        return;
    };
    let length = body.len();
    let _ = write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}
