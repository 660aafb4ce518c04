//! The rules of a pipeline's checkpoints, one by one, on tokio's paused clock. The crashes at every step are in
//! `core/tests/pipeline_simulation`.

mod bounds;
mod ends;
mod misuse;
mod positions;
mod store;
mod waits;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use inflight::prelude::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Answers of a service: a number of milliseconds after which it answers; `None` if it never does.
fn answer(n: u32, after: Option<u32>) -> LocalBoxFuture<'static, Result<u32, &'static str>> {
    Box::pin(async move {
        match after {
            Some(millis) => tokio::time::sleep(millis * MS).await,
            None => std::future::pending().await,
        }
        Ok(10 * n)
    })
}

type Sink = inflight::pipeline::MemorySink<Outcome<u32, u32, &'static str>>;

fn committed(sink: &Sink) -> Vec<u32> {
    sink.committed().iter().map(|outcome| outcome.input).collect()
}

/// A list that several closures write to.
#[derive(Clone)]
struct Notes<T>(Rc<RefCell<Vec<T>>>);

impl<T: Clone> Notes<T> {
    fn new() -> Self {
        Self(Rc::default())
    }

    fn add(&self, note: T) {
        self.0.borrow_mut().push(note);
    }

    fn all(&self) -> Vec<T> {
        self.0.borrow().clone()
    }
}

/// Runs the test. On the paused clock a test that waits for ever fails at once.
fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    let test = async { tokio::time::timeout(3_600 * SECOND, test).await };
    tokio::task::LocalSet::new().block_on(&runtime, test).expect("it does not hang")
}
