//! A service of the test's own, for `--service`.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

/// Starts a service and tells its URL. For a code it is given a status and a body, or nothing: then
/// it never answers.
pub fn service(
    answer: impl Fn(&str) -> Option<(&'static str, String)> + Send + Sync + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for connection in listener.incoming() {
            let answer = answer.clone();
            thread::spawn(move || serve(connection.unwrap(), &*answer));
        }
    });
    format!("http://{address}/lookup?airport={{code}}")
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
