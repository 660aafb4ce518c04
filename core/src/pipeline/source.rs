//! The interface of a pipeline's source.

use core::convert::Infallible;
use core::error::Error;
use core::future::Future;
use core::task::{Context, Poll};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::element::StreamElement;

/// A source that can be read again from the position in a checkpoint.
///
/// An implementation MUST
///
/// 1. return from [`position`](Self::position) the point after everything that
///    [`poll_next`](Self::poll_next) has handed out, however far it has read ahead;
/// 2. hand out the same records in the same order again after it was [opened](Self::open) at a position, in
///    another process as well; and refuse to open if it cannot;
/// 3. keep everything after the last acknowledged position: a crash may lead back to it;
/// 4. hand out no [`Barrier`](StreamElement::Barrier): the pipeline makes them;
/// 5. when it is `Pending`, wake the task of the latest poll once there is more;
/// 6. make the same watermarks again after a position; the position may have to hold what that takes.
///
/// A queue that cannot seek, but delivers unacknowledged messages again (MQTT, AMQP), is such a source too: its
/// position holds the ids of the records that were handed out, and it skips those that are delivered again. With such a
/// source only the newest checkpoint is fully valid, because the messages that it covers were acknowledged.
///
/// A source that fails has ended: the pipeline finishes the records in flight, takes a last checkpoint, and
/// returns the error. Invalid records (a line that cannot be parsed) are not failures of the source: let them
/// flow as records and fail in the function, so that they come out with their reason.
///
/// ```
/// use std::convert::Infallible;
/// use std::task::{Context, Poll};
/// # use std::future::Future;
/// use inflight_core::StreamElement;
/// use inflight_core::pipeline::ReplayableSource;
///
/// /// The numbers below a thousand.
/// struct Numbers(u64);
///
/// impl ReplayableSource for Numbers {
///     type Record = u64;
///     type Position = u64;
///     type Error = Infallible;
///     type Acknowledger = (); // no queue that could delete records
///
///     async fn open(&mut self, position: Option<u64>) -> Result<(), Infallible> {
///         self.0 = position.unwrap_or(0); // a new job begins where the log begins
///         Ok(())
///     }
///
///     fn poll_next(
///         &mut self,
///         _: &mut Context<'_>,
///     ) -> Poll<Option<Result<StreamElement<u64>, Infallible>>> {
///         let number = Some(self.0).filter(|number| *number < 1_000);
///         self.0 += u64::from(number.is_some());
///         Poll::Ready(number.map(|number| Ok(StreamElement::value(number))))
///     }
///
///     fn position(&self) -> u64 {
///         self.0 // after everything that was handed out: rule 1
///     }
///
///     fn acknowledger(&mut self) {}
/// }
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match std::pin::pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop())) {
/// #         Poll::Ready(done) => done,
/// #         Poll::Pending => panic!("nothing here waits"),
/// #     }
/// # }
/// # let (mut numbers, mut cx) = (Numbers(0), Context::from_waker(std::task::Waker::noop()));
/// # block_on(numbers.open(Some(999))).unwrap();
/// # assert_eq!(numbers.poll_next(&mut cx), Poll::Ready(Some(Ok(StreamElement::value(999)))));
/// # assert_eq!((numbers.position(), numbers.poll_next(&mut cx)), (1_000, Poll::Ready(None)));
/// ```
pub trait ReplayableSource {
    /// The type of its records.
    type Record;
    /// A point in the source, as a checkpoint keeps it.
    type Position: Serialize + DeserializeOwned;
    /// The error after which the source cannot go on.
    type Error: Error + 'static;
    /// Receives the positions up to which records need not be kept; `()` if the source keeps none.
    type Acknowledger: Acknowledge<Self::Position>;

    /// Opens the source: at a position of an earlier life, or (`None`) for a new job, where the log really begins: a queue or a
    /// log whose front was deleted asks its server. Called once, before every other method.
    ///
    /// # Errors
    ///
    /// The source cannot be reached, or cannot go to that position. Nothing has been changed then, neither in the output nor in
    /// the store's checkpoints.
    fn open(
        &mut self,
        position: Option<Self::Position>,
    ) -> impl Future<Output = Result<(), Self::Error>>;

    /// The next element; `None` at the end. It is not polled again after that, nor after an error.
    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Self::Record>, Self::Error>>>;

    /// The point after everything that was handed out.
    fn position(&self) -> Self::Position;

    /// The number of records that the source knows to lie behind its position, for people who watch a job; `None` if it does not
    /// know. It need not be exact, and must be cheap.
    fn lag(&self) -> Option<u64> {
        None
    }

    /// Makes the receiver of acknowledgements. Called once, after [`open`](Self::open) and before the first
    /// [`poll_next`](Self::poll_next), because the source itself moves into the first stage.
    fn acknowledger(&mut self) -> Self::Acknowledger;
}

/// Receives acknowledgements: everything before a position is committed, and covered by a durable checkpoint.
/// A source that is a queue deletes those records now.
///
/// An implementation MUST expect that an acknowledgement is missing (the next one covers it) and that the
/// same one comes twice (after a crash).
///
/// ```
/// use std::cell::RefCell;
/// use std::collections::VecDeque;
/// use std::convert::Infallible;
/// use std::rc::Rc;
/// # use std::{future::Future, task::{Context, Poll}};
/// use inflight_core::pipeline::Acknowledge;
///
/// /// Messages with their numbers, shared with the source.
/// struct Queue(Rc<RefCell<VecDeque<(u64, String)>>>);
///
/// impl Acknowledge<u64> for Queue {
///     type Error = Infallible;
///
///     async fn acknowledge(&mut self, position: u64) -> Result<(), Infallible> {
///         self.0.borrow_mut().retain(|(number, _)| *number >= position); // twice does no harm
///         Ok(())
///     }
/// }
/// # fn block_on<T>(future: impl Future<Output = T>) -> T {
/// #     match std::pin::pin!(future).poll(&mut Context::from_waker(std::task::Waker::noop())) {
/// #         Poll::Ready(done) => done,
/// #         Poll::Pending => panic!("nothing here waits"),
/// #     }
/// # }
/// # let shared = Rc::new(RefCell::new((0..3).map(|n| (n, n.to_string())).collect::<VecDeque<_>>()));
/// # for _ in 0..2 { block_on(Queue(Rc::clone(&shared)).acknowledge(2)).unwrap(); }
/// # assert_eq!(*shared.borrow(), [(2, "2".to_owned())]);
/// ```
pub trait Acknowledge<P> {
    /// The error of a failed acknowledgement. The pipeline reports it and goes on.
    type Error: Error + 'static;

    /// Acknowledges everything before `position`.
    fn acknowledge(&mut self, position: P) -> impl Future<Output = Result<(), Self::Error>>;
}

impl<P> Acknowledge<P> for () {
    type Error = Infallible;

    async fn acknowledge(&mut self, _position: P) -> Result<(), Infallible> {
        Ok(())
    }
}
