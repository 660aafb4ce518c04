//! `?` on the errors of a stage, with common error types.

use std::error::Error;
use std::fmt;

use futures_util::stream;
use inflight::prelude::*;

type Boxed = Box<dyn Error + Send + Sync>;

/// A user's own error type.
#[derive(Debug)]
struct Odd;

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an odd number")
    }
}

impl Error for Odd {}

fn halve(n: u32) -> Result<u32, Odd> {
    if n.is_multiple_of(2) { Ok(n / 2) } else { Err(Odd) }
}

/// Runs a stage that halves numbers. The errors of the start and of a request go through `?`.
macro_rules! halves {
    ($numbers:expr, $error:ty) => {
        async {
            let mut stage = stream::iter($numbers)
                .async_wait(AsyncWait::ordered(4), |n: &u32| {
                    let half = halve(*n).map_err(<$error>::from);
                    async move { half }
                })
                .spawn(Tokio)?;
            let mut sum = 0;
            while let Some(done) = stage.next().await {
                sum += done.result?;
            }
            assert!(matches!(stage.end(), Some(Ok(()))));
            Ok::<u32, $error>(sum)
        }
    };
}

#[tokio::test] // F2
async fn a_boxed_error_goes_through_the_question_mark() {
    assert_eq!(halves!([2, 4], Boxed).await.expect("all are even"), 3);
    let error = halves!([2, 3], Boxed).await.expect_err("one is odd");
    assert_eq!(error.to_string(), "an odd number");
    let failure = error.downcast_ref::<Failure<Boxed>>().expect("a failure");
    assert!(failure.error().is_some_and(|error| error.is::<Odd>()));
}

#[tokio::test] // F2
async fn an_anyhow_error_goes_through_the_question_mark() {
    assert_eq!(halves!([2, 4], anyhow::Error).await.expect("all are even"), 3);
    let error = halves!([2, 3], anyhow::Error).await.expect_err("one is odd");
    assert_eq!(error.to_string(), "an odd number");
}

#[test] // F2: a failure prints the error in the same format
fn the_chain_of_an_anyhow_error_is_printed() {
    let error = anyhow::Error::new(Odd).context("halving 3");
    let failure: Failure<anyhow::Error> = Failure::Error(error);
    assert_eq!(
        (format!("{failure}"), format!("{failure:#}")),
        ("halving 3".into(), "halving 3: an odd number".to_string())
    );
}

#[test] // F2
fn all_types_with_a_users_error_implement_error() {
    fn is_error<E: Error>() {}
    is_error::<Failure<Boxed>>();
    is_error::<StageError<Boxed>>();
    is_error::<inflight::StageError<anyhow::Error>>();
    is_error::<Failure<Odd>>();
}
