//! The airport service: real HTTP on 127.0.0.1, slow, sometimes refusing, sometimes silent.
//!
//! It runs on a thread and a runtime of its own, like another process, so that it does not block the stage's
//! runtime.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, LogNormal};

use crate::airport;
use crate::options::Options;
use crate::problem::Problem;

/// The spread of the latency: with 0.5, one answer in a hundred takes more than 3.2 times the median.
const SIGMA: f64 = 0.5;

/// Starts the service and returns its URL, with `{code}` in the airport's place.
pub fn start(options: &Options) -> Result<String, Problem> {
    let problem = |error| {
        Problem::new(
            format!("cannot start the airport service on 127.0.0.1: {error}"),
            "Give the URL of a service of your own with --service.",
        )
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(problem)?;
    listener.set_nonblocking(true).map_err(problem)?;
    let address = listener.local_addr().map_err(problem)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, service) = (runtime.map_err(problem)?, Arc::new(Service::new(options)?));
    let run = move || runtime.block_on(serve(listener, service));
    thread::Builder::new().name("airport-service".into()).spawn(run).map_err(problem)?;
    Ok(format!("http://{address}/airports/{{code}}"))
}

async fn serve(listener: TcpListener, service: Arc<Service>) {
    // Without the listener every request fails, and the stage reports that.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let _ = connection.set_nodelay(true);
        let service = service.clone();
        let answer = service_fn(move |request| {
            let service = service.clone();
            async move { Ok::<_, Infallible>(service.answer(request).await) }
        });
        let connection = TokioIo::new(connection);
        tokio::spawn(async move {
            // It ends when the client disconnects, which is not an error.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(connection, answer)
                .await;
        });
    }
}

struct Service {
    /// The answers, as JSON, by path.
    answers: HashMap<String, Bytes>,
    dice: Mutex<Dice>,
}

impl Service {
    fn new(options: &Options) -> Result<Self, Problem> {
        let answers = airport::table()?.into_iter().map(|(code, airport)| {
            let body = serde_json::to_vec(&airport).unwrap_or_default();
            (format!("/airports/{code}"), body.into())
        });
        Ok(Self { answers: answers.collect(), dice: Mutex::new(Dice::new(options)) })
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if request.method() != Method::GET {
            return response(StatusCode::METHOD_NOT_ALLOWED, Bytes::new());
        }
        let (fate, latency) = self.dice.lock().unwrap_or_else(PoisonError::into_inner).throw();
        tokio::time::sleep(latency).await;
        match (fate, self.answers.get(request.uri().path())) {
            (Fate::Silence, _) => future::pending().await,
            (Fate::Unavailable, _) => response(StatusCode::SERVICE_UNAVAILABLE, Bytes::new()),
            (Fate::Answer, Some(airport)) => response(StatusCode::OK, airport.clone()),
            (Fate::Answer, None) => response(StatusCode::NOT_FOUND, Bytes::new()),
        }
    }
}

fn response(status: StatusCode, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
}

enum Fate {
    Answer,
    Unavailable,
    Silence,
}

/// Decides from a seed how the next request ends.
struct Dice {
    random: StdRng,
    /// In seconds; `None` for no latency at all.
    latency: Option<LogNormal<f64>>,
    error_rate: f64,
    hang_rate: f64,
}

impl Dice {
    fn new(options: &Options) -> Self {
        let median = options.latency.as_secs_f64();
        Self {
            random: StdRng::seed_from_u64(options.seed),
            latency: LogNormal::new(median.ln(), SIGMA).ok().filter(|_| median > 0.0),
            error_rate: options.error_rate,
            hang_rate: options.hang_rate,
        }
    }

    fn throw(&mut self) -> (Fate, Duration) {
        let chance: f64 = self.random.random();
        let fate = match chance {
            chance if chance < self.hang_rate => Fate::Silence,
            chance if chance < self.hang_rate + self.error_rate => Fate::Unavailable,
            _ => Fate::Answer,
        };
        let seconds = self.latency.map_or(0.0, |latency| latency.sample(&mut self.random));
        (fate, Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }
}
