//! The source: lines become records, the days between them watermarks, and every now and then there
//! is a barrier with a checkpoint in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{Stream, stream};
use inflight::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::checkpoints::SOURCE;
use crate::counters::Counters;
use crate::input::{RawLine, Reader, read_line};
use crate::line::Line;
use crate::stop::Stop;

/// A watermark is due when a new day begins. Results do not overtake a watermark, so one for each
/// flight would make `--order unordered` pointless.
const DAY: i64 = 24 * 60 * 60 * 1000;

/// How far the input has been read. What a checkpoint knows of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Position {
    /// In bytes.
    pub offset: u64,
    pub lines: u64,
    /// Of all the bytes up to here, by which a checkpoint knows its input again.
    pub checksum: u32,
    /// The last watermark, in milliseconds since the epoch.
    watermark: Option<i64>,
}

impl Position {
    /// A new checkpoint with this position in it.
    pub fn checkpoint(&self, id: CheckpointId) -> Checkpoint {
        let mut checkpoint = Checkpoint::new(id);
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        if let Err(error) = checkpoint.put(SOURCE, &bytes) {
            checkpoint.fail(error);
        }
        checkpoint
    }
}

/// Why there is no more input.
#[derive(Debug)]
pub enum End {
    Finished,
    Stopped,
    /// Stopped, and what was in flight took too long. Not said by the source.
    GivenUp,
    Failed(std::io::Error),
}

/// Said by the source when it has ended.
#[derive(Debug)]
pub struct LastWord {
    pub end: End,
    pub position: Position,
    /// The number that the next checkpoint would have had.
    pub next: CheckpointId,
}

/// Turns an input into a stream of elements.
pub struct Source {
    pub reader: Reader,
    pub position: Position,
    /// The number of the next checkpoint.
    pub next: CheckpointId,
    /// The time between two checkpoints; `None` for an input that cannot be taken up again.
    pub interval: Option<Duration>,
    pub stop: Stop,
    pub counters: Arc<Counters>,
}

impl Source {
    /// The stream, and what the source says at its end.
    pub fn start(
        self,
    ) -> (impl Stream<Item = StreamElement<Line>> + Send + 'static, oneshot::Receiver<LastWord>)
    {
        let (last_word, heard) = oneshot::channel();
        let lines = self.position.lines;
        let state = Running { source: self, since: Instant::now(), lines, held: None };
        let state = (state, last_word);
        let elements =
            stream::unfold(state, async |(mut running, last_word)| match running.next().await {
                Ok(element) => Some((element, (running, last_word))),
                Err(end) => {
                    let Source { position, next, .. } = running.source;
                    let _ = last_word.send(LastWord { end, position, next });
                    None
                }
            });
        (elements, heard)
    }
}

struct Running {
    source: Source,
    /// When the last checkpoint was.
    since: Instant,
    /// How many lines had been read there.
    lines: u64,
    /// A line that has been read, and waits behind its watermark.
    held: Option<Line>,
}

impl Running {
    async fn next(&mut self) -> Result<StreamElement<Line>, End> {
        if let Some(line) = self.held.take() {
            return Ok(record(line));
        }
        if self.source.stop.is_requested() {
            return Err(End::Stopped);
        }
        if self.is_barrier_due() {
            return Ok(self.barrier());
        }
        let line = self.read().await?;
        match self.new_watermark(&line) {
            Some(watermark) => {
                self.held = Some(line);
                Ok(StreamElement::Watermark(watermark))
            }
            None => Ok(record(line)),
        }
    }

    async fn read(&mut self) -> Result<Line, End> {
        let Source { reader, position, stop, counters, .. } = &mut self.source;
        let line = tokio::select! {
            biased;
            () = stop.requested() => return Err(End::Stopped),
            line = read_line(reader, position.checksum) => line.map_err(End::Failed)?,
        };
        let RawLine { bytes, length, consumed, checksum } = line.ok_or(End::Finished)?;
        let line = Line::new(position.lines + 1, position.offset, bytes, length);
        position.lines += 1;
        position.offset += consumed;
        position.checksum = checksum;
        counters.lines.add(1);
        counters.bytes.add(consumed);
        Ok(line)
    }

    /// The watermark due before a line: all days before its own are complete. The input is sorted by
    /// time; a line that is not is late, and flows all the same.
    fn new_watermark(&mut self, line: &Line) -> Option<Timestamp> {
        let time = line.timestamp()?.as_millis();
        let watermark = time - time.rem_euclid(DAY) - 1;
        let due = self.source.position.watermark.is_none_or(|last| watermark > last);
        due.then(|| {
            self.source.position.watermark = Some(watermark);
            Timestamp::from_millis(watermark)
        })
    }

    /// A line between two barriers at least: with a short interval there would be nothing else.
    fn is_barrier_due(&self) -> bool {
        let has_read = self.source.position.lines > self.lines;
        let is_time = |interval| self.since.elapsed() >= interval;
        has_read && self.source.interval.is_some_and(is_time)
    }

    /// Everything before here has been handed to the stage, so this is the position to go on from.
    fn barrier(&mut self) -> StreamElement<Line> {
        let checkpoint = self.source.position.checkpoint(self.source.next);
        self.source.next = self.source.next.next();
        self.since = Instant::now();
        self.lines = self.source.position.lines;
        StreamElement::Barrier(Barrier::snapshot(checkpoint))
    }
}

fn record(line: Line) -> StreamElement<Line> {
    StreamElement::Record { timestamp: line.timestamp(), value: line }
}
