//! A service of the test's own, for `--service`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use crate::harness::wait_until;

/// A service that answers until the test ends.
pub struct Service {
    address: SocketAddr,
    /// Connections that were accepted and not yet hung up.
    open: Arc<AtomicU64>,
}

impl Service {
    /// For a code `answer` has a status and a body, or nothing: then there is never an answer.
    pub fn start(
        answer: impl Fn(&str) -> Option<(&'static str, String)> + Send + Sync + 'static,
    ) -> Self {
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

    /// Waits until it has seen all that a killed process asked. On a busy machine some of that
    /// comes after the death of who asked.
    pub fn wait_until_nobody_asks(&self) {
        // Connections are accepted one after the other, so this one is the last.
        let mut last = TcpStream::connect(self.address).unwrap();
        last.shutdown(Shutdown::Write).unwrap();
        last.read_to_end(&mut Vec::new()).unwrap();
        wait_until(|| self.open.load(SeqCst) == 0);
    }
}

/// An airport as the example understands it, with a field that it does not know.
pub fn airport(code: &str) -> String {
    format!(
        r#"{{"name":"The {code}","city":"","state":"","latitude":1,"longitude":2,"more":null}}"#
    )
}

/// Answers one request and hangs up.
fn serve(mut connection: TcpStream, answer: &dyn Fn(&str) -> Option<(&'static str, String)>) {
    let mut head = BufReader::new(&connection).lines().map_while(Result::ok);
    let request = head.next().unwrap_or_default();
    head.find(|line| line.is_empty());
    let code = request.split(['=', ' ']).nth(2).unwrap_or_default();
    let Some((status, body)) = answer(code) else {
        // Until the client hangs up.
        let _ = head.next();
        return;
    };
    let length = body.len();
    let _ = write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
}
