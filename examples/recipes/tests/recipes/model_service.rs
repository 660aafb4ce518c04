//! A stand-in for a model's inference service: HTTP, a quota of requests and one of tokens, and a batch that costs little more
//! than a prompt.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, sleep};

use crate::inference::{
    PROMPTS_A_REQUEST, REQUESTS_A_MINUTE, TOKENS_A_MINUTE, TOKENS_A_REQUEST, tokens,
};

const MS: Duration = Duration::from_millis(1);

/// A way to the service: HTTP through memory, because a real network does not keep up with simulated time.
#[derive(Clone)]
pub struct Connection(Arc<Mutex<Service>>);

impl Connection {
    pub fn with_limits() -> Self {
        Self::with(REQUESTS_A_MINUTE, TOKENS_A_MINUTE)
    }

    pub fn without_limits() -> Self {
        Self::with(u64::MAX, u64::MAX)
    }

    fn with(requests: u64, tokens: u64) -> Self {
        Self(Arc::new(Mutex::new(Service {
            requests: Quota::a_minute(requests),
            tokens: Quota::a_minute(tokens),
            since: Instant::now(),
            answered: 0,
            refused: 0,
            asked: HashMap::new(),
        })))
    }

    /// The response to the prompts of some lines.
    pub async fn post(&self, body: String) -> Option<Response<String>> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let service = self.clone();
        let answer = service_fn(move |request| service.clone().answer(request));
        tokio::spawn(
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), answer),
        );
        let (mut sender, connection) =
            client::conn::http1::handshake(TokioIo::new(near)).await.ok()?;
        tokio::spawn(connection);
        let request = Request::post("/answers").header("Host", "model").body(body).ok()?;
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?.to_bytes().to_vec();
        Some(Response::from_parts(head, String::from_utf8(body).ok()?))
    }

    /// Takes 40 ms, and a millisecond a prompt; a refusal takes 5 ms.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<String>, hyper::Error> {
        let body = request.into_body().collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&body);
        let prompts: Vec<_> = body.lines().collect();
        let admitted = self.0.lock().unwrap().admit(&prompts);
        let response = match admitted {
            Err(seconds) => {
                sleep(5 * MS).await;
                Response::builder().status(429).header("Retry-After", seconds).body(String::new())
            }
            Ok(()) => {
                sleep(40 * MS + MS * prompts.len() as u32).await;
                let mut service = self.0.lock().unwrap();
                let lines: Vec<_> = prompts.iter().map(|prompt| service.answer(prompt)).collect();
                Response::builder().body(lines.join("\n"))
            }
        };
        Ok(response.expect("a response"))
    }

    /// Another user of the account has used up all tokens, and so many that come later.
    pub fn used_elsewhere(&self, tokens: u64) {
        let mut service = self.0.lock().unwrap();
        service.pass();
        service.tokens.left = -(tokens as f64);
    }

    /// The numbers of requests that were answered, and that were refused.
    pub fn requests(&self) -> (u32, u32) {
        let service = self.0.lock().unwrap();
        (service.answered, service.refused)
    }

    /// How often this prompt was asked, in requests that were answered.
    pub fn asked(&self, number: usize) -> u32 {
        self.0.lock().unwrap().asked.get(&number).copied().unwrap_or(0)
    }
}

struct Service {
    requests: Quota,
    tokens: Quota,
    since: Instant,
    answered: u32,
    refused: u32,
    asked: HashMap<usize, u32>,
}

impl Service {
    /// Takes the prompts of a request from the quotas, or returns after how many seconds to come again.
    fn admit(&mut self, prompts: &[&str]) -> Result<(), u64> {
        let used = prompts.iter().map(|prompt| tokens(prompt)).sum();
        assert!(prompts.len() <= PROMPTS_A_REQUEST && used <= TOKENS_A_REQUEST);
        self.pass();
        let wait = self.requests.wait_for(1).max(self.tokens.wait_for(used));
        if wait > 0.0 {
            self.refused += 1;
            return Err(wait.ceil() as u64);
        }
        self.answered += 1;
        self.requests.left -= 1.0;
        self.tokens.left -= used as f64;
        Ok(())
    }

    fn pass(&mut self) {
        let passed = self.since.elapsed();
        self.since += passed;
        self.requests.pass(passed);
        self.tokens.pass(passed);
    }

    fn answer(&mut self, prompt: &str) -> String {
        let number = number_of(prompt);
        let asked = self.asked.entry(number).or_default();
        *asked += 1;
        match number {
            REFUSED => "refused: such prompts".to_owned(),
            _ if is_overloaded_once(number) && *asked == 1 => {
                "overloaded: at the moment".to_owned()
            }
            _ => format!("answer: three times it is {}", 3 * number),
        }
    }
}

/// An amount that grows all the time up to that of six seconds (a token bucket).
struct Quota {
    left: f64,
    most: f64,
    a_second: f64,
}

impl Quota {
    fn a_minute(amount: u64) -> Self {
        let most = amount as f64 / 10.0;
        Self { left: most, most, a_second: amount as f64 / 60.0 }
    }

    fn pass(&mut self, time: Duration) {
        self.left = self.most.min(self.left + self.a_second * time.as_secs_f64());
    }

    /// In how many seconds there is so much. Rounding errors do not count.
    fn wait_for(&self, amount: u64) -> f64 {
        (amount as f64 - self.left) / self.a_second - 1e-6
    }
}

/// The number of a prompt that the model does not answer.
pub const REFUSED: usize = 13;

/// Whether the model is overloaded when it is asked this for the first time.
pub fn is_overloaded_once(number: usize) -> bool {
    number % 50 == 7
}

/// Prompts of 10 to 100 tokens.
pub fn prompt(number: usize) -> String {
    format!("{number:08} {}", "x".repeat(31 + number * 7_919 % 361))
}

fn number_of(prompt: &str) -> usize {
    prompt[..8].parse().expect("a number")
}
