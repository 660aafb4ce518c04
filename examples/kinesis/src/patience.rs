//! Calls of Kinesis that are made again when it is busy or cannot be reached.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use aws_sdk_kinesis::config::http::HttpResponse;
use aws_sdk_kinesis::error::{ProvideErrorMetadata, SdkError};

use crate::causes::with_causes;

/// The errors in a row after which a call has failed: with the delays, half a minute.
const TRIES: u32 = 12;
const LONGEST_DELAY: Duration = Duration::from_secs(5);

/// Makes a call until it succeeds, fails with an error that does not pass, or has failed too often.
pub async fn call<T, E, F>(mut request: impl FnMut() -> F) -> Result<T, SdkError<E, HttpResponse>>
where
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    E: ProvideErrorMetadata,
{
    let mut failures = 0;
    loop {
        match request().await {
            Err(error) if passes(&error) && failures + 1 < TRIES => {
                failures += 1;
                tokio::time::sleep(delay(failures)).await;
            }
            done => return done,
        }
    }
}

/// The time to wait after so many failures in a row.
pub fn delay(failures: u32) -> Duration {
    let delay = Duration::from_millis(25).saturating_mul(1 << failures.min(16));
    delay.min(LONGEST_DELAY)
}

/// Whether an error code says that the same call can succeed later.
pub fn code_passes(code: Option<&str>) -> bool {
    matches!(
        code,
        Some(
            "ProvisionedThroughputExceededException"
                | "LimitExceededException"
                | "ThrottlingException"
                | "KMSThrottlingException"
                | "InternalFailure"
        )
    )
}

fn passes<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    match error {
        SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_) => {
            true
        }
        SdkError::ServiceError(refused) => {
            refused.raw().status().is_server_error() || code_passes(refused.err().code())
        }
        _ => false,
    }
}

/// A call of Kinesis that has failed.
#[derive(Debug)]
pub struct CallError {
    call: &'static str,
    passes: bool,
    error: Box<dyn Error + Send + Sync>,
}

impl CallError {
    pub fn new<E>(call: &'static str, error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        Self { call, passes: passes(&error), error: error.into() }
    }

    /// Whether the same call can succeed later.
    pub fn passes(&self) -> bool {
        self.passes
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, with_causes(&*self.error))
    }
}

// `Display` shows the whole chain.
impl Error for CallError {}
