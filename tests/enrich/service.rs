//! An HTTP service in the test, for `--service`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;

use crate::harness::wait_until;

/// A service that answers until the test ends.
pub struct Service {
    address: SocketAddr,
    /// Connections that were accepted and not yet closed.
    open: Arc<AtomicU64>,
}

impl Service {
    /// `answer` returns a status and a body for a code, or `None`: then the request is never answered.
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

/// Answers one request and closes the connection.
fn serve(mut connection: TcpStream, answer: &dyn Fn(&str) -> Option<(&'static str, String)>) {
    let mut head = BufReader::new(&connection).lines().map_while(Result::ok);
    let request = head.next().unwrap_or_default();
    head.find(|line| line.is_empty());
    let code = request.split(['=', ' ']).nth(2).unwrap_or_default();
    let Some((status, body)) = answer(code) else {
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
