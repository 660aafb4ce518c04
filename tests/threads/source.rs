//! The elements of a stream, and their sources.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use inflight::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::elsewhere;
use super::plan::{Ask, KEYS, Plan, Supply, pick_ask};
use super::tally::{Alive, Tally};

/// A record. It cannot be cloned, so a record that comes out is one that went in.
#[derive(Debug)]
pub struct Record {
    pub number: u32,
    pub key: u8,
    pub ask: Ask,
    /// The number of attempts that the service refuses.
    pub fails: u32,
    pub timestamp: Option<Timestamp>,
    _alive: Alive,
}

impl Record {
    pub fn key(&self) -> u8 {
        self.key
    }
}

/// A watermark or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    Watermark(Timestamp),
    Status(Status),
}

impl Control {
    fn element<T>(self) -> StreamElement<T> {
        match self {
            Self::Watermark(at) => StreamElement::Watermark(at),
            Self::Status(status) => StreamElement::Status(status),
        }
    }
}

type Element = StreamElement<Record>;

/// Returns the elements of a stream, and its control elements, each with the number of records before it.
pub fn elements(tally: &Arc<Tally>) -> (VecDeque<Element>, Vec<(u32, Control)>) {
    let plan = &tally.plan;
    let mut random = StdRng::seed_from_u64(!plan.seed);
    let (mut elements, mut controls) = (VecDeque::new(), Vec::new());
    let mut watermark = 0;
    for number in 0..plan.records {
        while random.random_bool(plan.controls) {
            let control = pick_control(&mut random, &mut watermark);
            controls.push((number, control));
            elements.push_back(control.element());
        }
        let has_time = plan.has_elements() && random.random_bool(0.9);
        let at = Timestamp::from_millis(watermark + random.random_range(1..=9));
        let timestamp = has_time.then_some(at);
        let value = record(&mut random, plan, number, timestamp, Alive::new(tally));
        elements.push_back(StreamElement::Record { value, timestamp });
    }
    if plan.has_elements() {
        controls.push((plan.records, Control::Watermark(Timestamp::MAX)));
        elements.push_back(StreamElement::Watermark(Timestamp::MAX));
    }
    (elements, controls)
}

fn pick_control(random: &mut StdRng, watermark: &mut i64) -> Control {
    match random.random_range(0..10) {
        0 => Control::Status(Status::Idle),
        1 => Control::Status(Status::Active),
        _ => {
            *watermark += random.random_range(1..=9);
            Control::Watermark(Timestamp::from_millis(*watermark))
        }
    }
}

fn record(
    random: &mut StdRng,
    plan: &Plan,
    number: u32,
    timestamp: Option<Timestamp>,
    alive: Alive,
) -> Record {
    let key = random.random_range(0..KEYS) as u8;
    let fails = match plan.fails {
        Some(one_in) if random.random_ratio(1, one_in) => random.random_range(1..=3),
        _ => 0,
    };
    let may_never_end = plan.never_from.is_some_and(|from| number >= from);
    let ask = match plan.panics {
        Some(panics) if panics == number => Ask::Panic,
        _ if may_never_end && random.random_bool(0.3) => Ask::Never,
        _ => pick_ask(random, plan.asks),
    };
    Record { number, key, ask, fails, timestamp, _alive: alive }
}

/// The source of a stage.
pub struct Source {
    elements: Elements,
    tally: Arc<Tally>,
    _alive: Alive,
}

enum Elements {
    Here { elements: VecDeque<Element>, pause_after: u32, before_pause: u32 },
    Sent { from: mpsc::UnboundedReceiver<Element>, _open: Option<mpsc::UnboundedSender<Element>> },
}

impl Source {
    pub fn new(tally: &Arc<Tally>, elements: VecDeque<Element>) -> Self {
        let here =
            |elements, pause| Elements::Here { elements, pause_after: pause, before_pause: pause };
        let elements = match tally.plan.supply {
            Supply::Here => here(elements, u32::MAX),
            Supply::Pausing(after) => here(elements, after),
            Supply::Sent(at_a_time) | Supply::Open(at_a_time) => {
                let (to, from) = mpsc::unbounded();
                let stays_open = matches!(tally.plan.supply, Supply::Open(_));
                let open = stays_open.then(|| to.clone());
                elsewhere::send(elements, at_a_time as usize, to);
                Elements::Sent { from, _open: open }
            }
        };
        Self { elements, tally: Arc::clone(tally), _alive: Alive::new(tally) }
    }

    /// The records alone.
    pub fn plain(self) -> impl Stream<Item = Record> + Send {
        self.map(|element| match element {
            StreamElement::Record { value, .. } => value,
            other => unreachable!("among plain records: {other:?}"),
        })
    }
}

impl Stream for Source {
    type Item = Element;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Element>> {
        let element = match &mut self.elements {
            Elements::Here { pause_after, before_pause: left @ 0, .. } => {
                *left = *pause_after;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Elements::Here { elements, before_pause, .. } => {
                *before_pause -= 1;
                elements.pop_front()
            }
            Elements::Sent { from, .. } => std::task::ready!(from.poll_next_unpin(cx)),
        };
        if element.as_ref().is_some_and(StreamElement::is_record) {
            self.tally.pull();
        }
        Poll::Ready(element)
    }
}
