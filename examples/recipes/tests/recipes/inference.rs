//! A model's inference service (LLM, embeddings; batching, tokens a minute, 429, `Retry-After`): batches, rates and a pause.
//!
//! Take it for a service that answers 32 prompts in little more than the time of one (a model reads its weights once for all of
//! them), and that counts: so many requests and so many tokens a minute. With one prompt a request the requests run out
//! first, and most of the paid tokens stay unused.
//!
//! * A batch is bounded by prompts and by tokens, as the service bounds a request. `within` lets prompts that come one by one share
//!   a request, and is short beside the service's own time.
//! * The rates are the account's: `rate` counts requests, `rate_by` tokens. A prompt that waits for them waits in the
//!   stage, where no timeout runs.
//! * Somebody else may use the same account. Then the service says 429, and its `Retry-After` holds back all requests
//!   (`pause_on`), in place of one refusal for each that is in flight.
//! * A prompt that fails inside an answered batch is asked for again in a later batch, and its neighbours are not asked, and paid,
//!   twice. A refused batch is another attempt of each of its prompts.

use std::time::Duration;

use futures_util::Stream;
use hyper::StatusCode;
use hyper::header::RETRY_AFTER;
use inflight::WeighBy;
use inflight::prelude::*;

use crate::model_service::Connection;

/// The rules of the service.
pub const REQUESTS_A_MINUTE: u64 = 300;
pub const TOKENS_A_MINUTE: u64 = 100_000;
pub const PROMPTS_A_REQUEST: usize = 32;
pub const TOKENS_A_REQUEST: u64 = 2_000;
const REQUESTS_AT_ONCE: usize = 4;

const MINUTE: Duration = Duration::from_secs(60);
/// A tenth of a minute's requests and tokens may come at once.
const REQUESTS: Rate = Rate::per(MINUTE, REQUESTS_A_MINUTE).burst(REQUESTS_A_MINUTE / 10);
const TOKENS: Rate = Rate::per(MINUTE, TOKENS_A_MINUTE).burst(TOKENS_A_MINUTE / 10);

/// The answers to all prompts, in their order.
fn answered(
    prompts: impl Stream<Item = String> + Send + Unpin + 'static,
    connection: Connection,
) -> Result<impl Stream<Item = Outcome<String, String, InferenceError>>, StartError> {
    let policy = policy()
        .rate(REQUESTS)
        .rate_by(TOKENS, |prompt: &String| tokens(prompt))
        .pause_on(refusal)
        .batch(size());
    let stage = prompts.async_wait_batch(policy, move |batch: Batch<'_, String>| {
        answers(connection.clone(), batch.inputs().cloned().collect())
    });
    stage.spawn(Tokio)
}

/// One request.
async fn answers(
    connection: Connection,
    prompts: Vec<String>,
) -> Result<Vec<Result<String, InferenceError>>, InferenceError> {
    // Lines here; JSON with most services. The client of a program is that of `http.rs`.
    let response = connection.post(prompts.join("\n")).await.ok_or(InferenceError::Unavailable)?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body().lines().map(answer).collect()),
        StatusCode::TOO_MANY_REQUESTS => {
            let seconds =
                response.headers().get(RETRY_AFTER).and_then(|it| it.to_str().ok()?.parse().ok());
            Err(InferenceError::TooMany { retry_after: seconds.map(Duration::from_secs) })
        }
        _ => Err(InferenceError::Unavailable),
    }
}

fn answer(line: &str) -> Result<String, InferenceError> {
    match line.split_once(": ") {
        Some(("answer", text)) => Ok(text.to_owned()),
        Some(("overloaded", _)) => Err(InferenceError::Unavailable),
        _ => Err(InferenceError::Refused),
    }
}

/// An error of one prompt, or of a whole request.
#[derive(Clone, Debug, PartialEq)]
enum InferenceError {
    TooMany {
        retry_after: Option<Duration>,
    },
    /// It may be there at the next attempt.
    Unavailable,
    /// The model does not answer such a prompt.
    Refused,
}

/// An estimate; the service of the tests counts like this.
pub fn tokens(prompt: &str) -> u64 {
    prompt.len().div_ceil(4) as u64
}

/// The capacity is far more than the prompts that run: in order, it is what may wait behind one that is tried again.
fn policy() -> AsyncWait<impl RetryStrategy<String, String, InferenceError> + Send + 'static> {
    AsyncWait::ordered(1_000)
        .max_running(REQUESTS_AT_ONCE)
        .attempt_timeout(Duration::from_secs(30))
        .retry(
            ExponentialBackoff::new(Duration::from_millis(500))
                .max_retries(10)
                .when_error(|error: &InferenceError| *error != InferenceError::Refused)
                .retry_after(InferenceError::retry_after),
        )
}

fn size() -> BatchSize<WeighBy<impl Fn(&String) -> u64 + Send + 'static>> {
    BatchSize::records(PROMPTS_A_REQUEST)
        .weight(TOKENS_A_REQUEST, |prompt: &String| tokens(prompt))
        .within(Duration::from_millis(5))
}

/// For how long a failure holds back all requests.
fn refusal(failure: &Failure<InferenceError>) -> Option<Duration> {
    failure.error()?.retry_after()
}

impl InferenceError {
    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooMany { retry_after } => *retry_after,
            _ => None,
        }
    }
}

mod tests {
    use std::fmt;
    use std::pin::pin;

    use futures_util::future::BoxFuture;
    use futures_util::stream::{self, StreamExt};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::clock::simulated;
    use crate::model_service::{REFUSED, is_overloaded_once, prompt};

    /// How a stage has got its answers.
    #[derive(Debug)]
    struct Run {
        time: Duration,
        /// Prompts whose attempts were all refused.
        given_up: usize,
        answered: u32,
        refused: u32,
    }

    impl fmt::Display for Run {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let Self { time, given_up, answered, refused } = self;
            let time = time.as_secs_f64();
            write!(
                f,
                "{time:6.1} s, {answered:4} requests answered, {refused:5} refused (429), {given_up:3} prompts given up"
            )
        }
    }

    fn prompts(count: usize) -> impl Stream<Item = String> + Send + Unpin {
        stream::iter((0..count).map(prompt))
    }

    /// Takes the outcomes of so many prompts, and checks that they are their own and in order.
    async fn run(
        count: usize,
        service: &Connection,
        outcomes: impl Stream<Item = Outcome<String, String, InferenceError>>,
    ) -> Run {
        let (start, mut given_up) = (Instant::now(), 0);
        let mut outcomes = pin!(outcomes);
        for number in 0..count {
            let done = StreamExt::next(&mut outcomes).await.expect("an outcome each");
            assert_eq!(done.input, prompt(number));
            let failure = done.result.as_ref().err().and_then(Failure::error);
            match (number, failure) {
                (REFUSED, failure) => assert_eq!(failure, Some(&InferenceError::Refused)),
                (_, Some(InferenceError::TooMany { .. })) => given_up += 1,
                _ => assert_eq!(done.result, Ok(format!("three times it is {}", 3 * number))),
            }
        }
        assert!(StreamExt::next(&mut outcomes).await.is_none());
        let (answered, refused) = service.requests();
        Run { time: start.elapsed(), given_up, answered, refused }
    }

    /// One request for one prompt.
    fn alone(
        service: &Connection,
    ) -> impl Fn(&String) -> BoxFuture<'static, Result<String, InferenceError>> + Send + 'static
    {
        let service = service.clone();
        move |prompt| {
            let answers = answers(service.clone(), vec![prompt.clone()]);
            Box::pin(
                async move { answers.await?.pop().unwrap_or(Err(InferenceError::Unavailable)) },
            )
        }
    }

    #[test]
    fn a_batch_costs_little_more_than_a_prompt() {
        simulated(async {
            let service = Connection::without_limits();
            let stage = prompts(2_000).async_wait(policy(), alone(&service));
            let single = run(2_000, &service, stage.spawn(Tokio).expect("a stage")).await;

            let service = Connection::without_limits();
            let connection = service.clone();
            let stage = prompts(2_000).async_wait_batch(
                policy().batch(size()),
                move |batch: Batch<'_, String>| {
                    answers(connection.clone(), batch.inputs().cloned().collect())
                },
            );
            let batched = run(2_000, &service, stage.spawn(Tokio).expect("a stage")).await;

            println!("2,000 prompts, a service without limits:");
            println!("one prompt a request  {single}");
            println!("batches               {batched}");
            assert!((63..90).contains(&batched.answered), "most batches are full");
            assert!(single.time >= 10 * batched.time);
        });
    }

    #[test]
    fn limits_delay_prompts_and_lose_none() {
        simulated(async {
            let service = shared_account();
            let stage = prompts(400).async_wait(policy(), alone(&service));
            let as_told = run(400, &service, stage.spawn(Tokio).expect("a stage")).await;

            let service = shared_account();
            let policy = policy()
                .rate(REQUESTS)
                .rate_by(TOKENS, |prompt: &String| tokens(prompt))
                .pause_on(refusal);
            let stage = prompts(400).async_wait(policy, alone(&service));
            let single = run(400, &service, stage.spawn(Tokio).expect("a stage")).await;

            let service = shared_account();
            let stage = answered(prompts(400), service.clone()).expect("a stage");
            let batched = run(400, &service, stage).await;

            println!(
                "400 prompts, {REQUESTS_A_MINUTE} requests and {TOKENS_A_MINUTE} tokens a minute:"
            );
            println!("one prompt a request, each waits as told  {as_told}");
            println!("one prompt a request, rates and pause     {single}");
            println!("batches, rates and pause                  {batched}");
            assert!(as_told.refused > 1_000 && as_told.given_up > 0);
            // One each that is under way. Without the pause there are five a second, for six seconds.
            assert!(single.refused <= 4 && single.given_up == 0);
            assert!(batched.refused < 10 && batched.given_up == 0);
            assert!(single.time >= 5 * batched.time);
        });
    }

    /// A service whose account has another user: at three seconds that one has used up the tokens of the next six.
    fn shared_account() -> Connection {
        let service = Connection::with_limits();
        let account = service.clone();
        tokio::spawn(async move {
            sleep(Duration::from_secs(3)).await;
            account.used_elsewhere(TOKENS_A_MINUTE / 10);
        });
        service
    }

    #[test]
    fn a_prompt_that_fails_is_asked_for_again_without_its_neighbours() {
        simulated(async {
            let service = Connection::with_limits();
            let stage = answered(prompts(300), service.clone()).expect("a stage");
            let run = run(300, &service, stage).await;
            assert_eq!(run.refused, 0, "nobody else uses the account");
            for number in 0..300 {
                let expected = if is_overloaded_once(number) { 2 } else { 1 };
                assert_eq!(service.asked(number), expected, "prompt {number}");
            }
        });
    }
}
