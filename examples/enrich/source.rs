//! The source: lines become records, and the days between them watermarks.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use inflight::lines::{self, LineSource, LinesError};
use inflight::pipeline::ReplayableSource;
use inflight::prelude::*;
use serde::{Deserialize, Serialize};

use crate::counters::Counters;
use crate::line::Line;

/// A watermark is due when a new day begins. Results do not overtake a watermark, so one for each flight
/// would make `--order unordered` useless.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// The position in the input: the source's part of a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub lines: lines::Position,
    /// The last watermark, in milliseconds since the epoch.
    watermark: Option<i64>,
}

pub struct Source {
    lines: LineSource,
    counters: Arc<Counters>,
    position: Position,
    /// A line that was read, and that waits until its watermark has been sent.
    held: Option<Line>,
}

impl Source {
    pub fn new(lines: LineSource, counters: Arc<Counters>) -> Self {
        Self { lines, counters, position: Position::default(), held: None }
    }

    fn hand_out(&mut self, line: Line) -> StreamElement<Line> {
        let before = self.position.lines.offset;
        self.position.lines = self.lines.position();
        self.counters.lines.add(1);
        self.counters.bytes.add(self.position.lines.offset - before);
        StreamElement::Record { timestamp: line.timestamp(), value: line }
    }

    /// The watermark before a line: all days before the line's day are complete. The input is sorted by time;
    /// an unsorted line is late, and is processed nevertheless.
    fn new_watermark(&mut self, line: &Line) -> Option<Timestamp> {
        let time = line.timestamp()?.as_millis();
        let watermark = time - time.rem_euclid(DAY) - 1;
        let due = self.position.watermark.is_none_or(|last| watermark > last);
        due.then(|| {
            self.position.watermark = Some(watermark);
            Timestamp::from_millis(watermark)
        })
    }
}

impl ReplayableSource for Source {
    type Record = Line;
    type Position = Position;
    type Error = LinesError;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<Position>) -> Result<(), LinesError> {
        self.position = position.unwrap_or(self.position);
        self.lines.open(position.map(|position| position.lines)).await
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Line>, LinesError>>> {
        if let Some(line) = self.held.take() {
            return Poll::Ready(Some(Ok(self.hand_out(line))));
        }
        let line = match ready!(self.lines.poll_next(cx)).transpose() {
            Ok(Some(StreamElement::Record { value, .. })) => Line::new(value),
            Ok(_) => return Poll::Ready(None),
            Err(error) => return Poll::Ready(Some(Err(error))),
        };
        Poll::Ready(Some(Ok(match self.new_watermark(&line) {
            Some(watermark) => {
                self.held = Some(line);
                StreamElement::Watermark(watermark)
            }
            None => self.hand_out(line),
        })))
    }

    fn position(&self) -> Position {
        self.position
    }

    fn acknowledger(&mut self) {}
}
