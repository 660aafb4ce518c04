//! The source of the stages inside of an operator: what has come in through timely's channel.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::vec;

use futures_core::Stream;
use inflight_core::{StreamElement, Timestamp};

/// The records that come in through an operator's channel, and the frontier as watermarks: the source of the stages in
/// [`async_stages`](crate::AsyncWaitOperator::async_stages).
///
/// After the end of the input comes [`Timestamp::MAX`] as the last watermark, and then the end. The worker's thread has it alone, so it
/// is not `Send`: the first stage in a chain runs [in place](inflight_core::StageBuilder::in_place).
pub struct Records<V>(Rc<RefCell<Queue<V>>>);

struct Queue<V> {
    parts: VecDeque<Part<V>>,
    has_ended: bool,
    stage: Option<Waker>,
}

/// Records of one time, or the frontier.
enum Part<V> {
    Records { timestamp: Option<Timestamp>, values: vec::IntoIter<V> },
    Watermark(Timestamp),
}

/// The operator's end of a queue of records.
pub(crate) struct Feed<V>(Rc<RefCell<Queue<V>>>);

/// Makes a queue that is empty.
pub(crate) fn records<V>() -> (Feed<V>, Records<V>) {
    let queue = Queue { parts: VecDeque::new(), has_ended: false, stage: None };
    let queue = Rc::new(RefCell::new(queue));
    (Feed(Rc::clone(&queue)), Records(queue))
}

impl<V> Feed<V> {
    /// Appends records. Those without a timestamp came with no time.
    pub(crate) fn records(&self, timestamp: Option<Timestamp>, values: Vec<V>) {
        self.push(Part::Records { timestamp, values: values.into_iter() });
    }

    pub(crate) fn watermark(&self, watermark: Timestamp) {
        self.push(Part::Watermark(watermark));
    }

    /// There is no more input.
    pub(crate) fn end(&self) {
        if !self.0.borrow().has_ended {
            self.push(Part::Watermark(Timestamp::MAX));
            self.0.borrow_mut().has_ended = true;
        }
    }

    fn push(&self, part: Part<V>) {
        let mut queue = self.0.borrow_mut();
        queue.parts.push_back(part);
        let stage = queue.stage.take();
        drop(queue);
        stage.into_iter().for_each(Waker::wake);
    }
}

impl<V> Stream for Records<V> {
    type Item = StreamElement<V>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<StreamElement<V>>> {
        let mut queue = self.0.borrow_mut();
        while let Some(part) = queue.parts.front_mut() {
            match part {
                Part::Records { timestamp, values } => {
                    if let Some(value) = values.next() {
                        let timestamp = *timestamp;
                        return Poll::Ready(Some(StreamElement::Record { value, timestamp }));
                    }
                    queue.parts.pop_front();
                }
                Part::Watermark(watermark) => {
                    let watermark = *watermark;
                    queue.parts.pop_front();
                    return Poll::Ready(Some(StreamElement::Watermark(watermark)));
                }
            }
        }
        if queue.has_ended {
            return Poll::Ready(None);
        }
        queue.stage = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<V> fmt::Debug for Records<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records")
            .field("has_ended", &self.0.borrow().has_ended)
            .finish_non_exhaustive()
    }
}
