//! The function of a stage: the request for each record, and its answer.

use std::future::{Future, pending};
use std::panic::panic_any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, ready};
use std::thread;

use futures::channel::oneshot;
use inflight::prelude::*;

use super::elsewhere;
use super::plan::{Ask, Late};
use super::runtimes;
use super::source::Record;
use super::tally::{Alive, Running, Tally};

/// The payload of a planned panic.
pub struct Planned;

/// The answer for one record.
#[derive(Debug)]
pub struct Answer {
    pub number: u32,
    /// True if `on_timeout` has given it.
    pub is_late: bool,
    _alive: Alive,
}

impl Answer {
    pub fn new(tally: &Arc<Tally>, number: u32) -> Self {
        Self { number, is_late: false, _alive: Alive::new(tally) }
    }
}

/// The service refuses this record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused(pub u32);

pub type Asked = Pin<Box<dyn Future<Output = Result<Answer, Refused>> + Send>>;

/// The function of a stage.
#[derive(Debug)]
pub struct Service {
    tally: Arc<Tally>,
    /// The answer that its opening or closing waits for.
    waits: Option<oneshot::Receiver<()>>,
    _alive: Alive,
}

impl Service {
    pub fn new(tally: &Arc<Tally>) -> Self {
        Self { tally: Arc::clone(tally), waits: None, _alive: Alive::new(tally) }
    }

    pub fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.tally.plan.opens_slowly {
            let waits = self.waits.get_or_insert_with(elsewhere::answer);
            _ = ready!(Pin::new(waits).poll(cx));
            self.waits = None;
        }
        Poll::Ready(())
    }
}

impl AsyncFunction<Record> for Service {
    type Output = Answer;
    type Error = Refused;
    type Future = Asked;

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        ready!(self.poll_slowly(cx));
        self.tally.opened.fetch_add(1, SeqCst);
        Poll::Ready(Ok(()))
    }

    fn invoke(&mut self, record: &Record, attempt: AttemptInfo) -> Asked {
        let running = self.tally.invoke(record.number, record.key, attempt);
        let (number, ask) = (record.number, record.ask);
        let is_refused = attempt.number <= record.fails;
        if ask == Ask::Panic && number.is_multiple_of(2) {
            panic_any(Planned); // before there is a future; the other planned panics are in the future
        }
        Box::pin(async move {
            come_to_an_end(ask, &running).await;
            let tally = Arc::clone(running.tally());
            drop(running);
            tally.answered.fetch_add(1, SeqCst);
            if is_refused {
                return Err(Refused(number));
            }
            Ok(Answer::new(&tally, number))
        })
    }

    fn on_timeout(
        &mut self,
        call: TimedOutCall<'_, Record, Answer, Refused>,
    ) -> TimeoutAction<Answer, Refused> {
        let number = call.input.number;
        match self.tally.plan.late {
            Late::Fails => TimeoutAction::Fail,
            Late::IsDropped => TimeoutAction::Drop,
            Late::HasAnother => {
                let alive = Alive::new(&self.tally);
                TimeoutAction::Output(Answer { number, is_late: true, _alive: alive })
            }
        }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_slowly(cx));
        self.tally.closed.fetch_add(1, SeqCst);
        Poll::Ready(())
    }
}

pub async fn come_to_an_end(ask: Ask, running: &Running) {
    let on = running.tally().plan.on;
    match ask {
        Ask::Ready => {}
        Ask::Yield { times, at_once } => {
            for _ in 0..times {
                if at_once {
                    futures_lite::future::yield_now().await;
                } else {
                    runtimes::yield_now(on).await;
                }
            }
        }
        Ask::Block(time) => thread::sleep(time),
        Ask::Sleep(time) => runtimes::sleep(on, time).await,
        Ask::Elsewhere => elsewhere::answer().await.expect("every request is answered"),
        Ask::Never => pending().await,
        Ask::Panic => panic_any(Planned),
    }
}
