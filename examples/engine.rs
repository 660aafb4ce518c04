//! An engine of your own: an event loop without any async runtime drives the operator itself.
//!
//! ```text
//! cargo run --example engine
//! ```
//!
//! Readings, watermarks and barriers come from one thread, as from a network; a pool of threads asks for each
//! reading's calibration; and one loop in the middle owns the operator, which has no clock, no threads and no
//! futures of its own. Half-way the loop "crashes". A second loop is restored from the last checkpoint, and
//! the output of both lives together has every reading once. The program checks that itself.

use std::error::Error;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant as SystemTime};

use inflight::{
    AsyncWait, AttemptId, Barrier, Checkpoint, CheckpointId, Expired, Failure, FixedDelay, Heap,
    Instant, Operator, Outcome, RetryStrategy, StreamElement, Timestamp, Unkeyed,
};

/// Readings in the input.
const READINGS: u64 = 400;
/// The numbers of readings between two watermarks, and between two barriers.
const WATERMARK_EVERY: u64 = 10;
const BARRIER_EVERY: u64 = 50;
/// The first life ends after this many outcomes.
const CRASH_AFTER: usize = 170;
/// Threads in the pool.
const POOL: usize = 8;

/// The reason why a calibration failed.
#[derive(Debug, PartialEq)]
struct Busy;

type Out = StreamElement<Outcome<u64, u64, Busy>>;

/// All events of the engine, in one queue.
enum Event {
    Input(StreamElement<u64>),
    /// The input has ended.
    InputEnded,
    Answered(AttemptId, Result<u64, Failure<Busy>>),
}

fn main() -> ExitCode {
    match run() {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(problem) => {
            eprintln!("engine: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Runs two lives, and checks the output after them.
fn run() -> Result<String, Box<dyn Error>> {
    let mut sink = Sink::default();
    let first = life(None, &mut sink, Some(CRASH_AFTER))?;
    let saved = sink.checkpoint.take().ok_or("no checkpoint has reached the sink")?;
    // The sink goes back to its position in the checkpoint, because the output is transactional.
    let written = sink.rows.len();
    sink.rows.truncate(saved.rows);
    sink.watermark = saved.watermark;
    let second = life(Some(&saved.checkpoint), &mut sink, None)?;

    for (at, (reading, value)) in sink.rows.iter().enumerate() {
        if *reading != at as u64 || *value != expected(*reading) {
            return Err(format!("row {at} is {reading}: {value:?}").into());
        }
    }
    if sink.rows.len() as u64 != READINGS {
        return Err(format!("{} rows for {READINGS} readings", sink.rows.len()).into());
    }
    let failed = sink.rows.iter().filter(|(_, value)| value.is_none()).count();
    Ok(format!(
        "engine: PASS rows={READINGS} failed={failed} before the crash={written} \
         kept={} in flight then={} attempts={}",
        saved.rows,
        saved.in_flight,
        first + second
    ))
}

/// One life of the engine: the event loop. Returns the number of attempts.
fn life(
    from: Option<&Checkpoint>,
    sink: &mut Sink,
    crash_after: Option<usize>,
) -> Result<u64, Box<dyn Error>> {
    let policy = AsyncWait::ordered(32)
        .timeout(Duration::from_millis(500))
        .retry(FixedDelay::new(Duration::from_millis(2)).max_retries(2));
    let operator = policy.build_core::<u64, u64, Busy>();
    let mut operator = operator?.checkpointed("calibrate", 1);
    let start = SystemTime::now();
    let clock = || Instant::ZERO + start.elapsed();
    let mut position = 0;
    if let Some(checkpoint) = from {
        operator.restore(clock(), checkpoint)?;
        let bytes = checkpoint.section("source").ok_or("the source's position is missing")?;
        position = u64::from_le_bytes(bytes.try_into()?);
    }

    let ((events, queue), (demand, demanded)) = (channel(), channel());
    let pool = Pool::start(&events);
    let input = thread::spawn(move || feed(position, &events, &demanded));
    let mut engine = Engine { operator, pool, demand, waiting: None, ended: false };
    engine.ask_for_more();
    loop {
        let now = clock();
        engine.drive(now, sink)?;
        let crashes = crash_after.is_some_and(|rows| sink.rows.len() >= rows);
        if crashes || engine.is_through() {
            break;
        }
        engine.wait(now, &queue);
        while let Some(expired) = engine.operator.handle_deadline(clock()) {
            // The pool's threads cannot be interrupted, so their later answers are ignored. Requests that can
            // be cancelled are cancelled here.
            let (Expired::Attempt(_) | Expired::Call(_)) = expired;
        }
    }
    let attempts = engine.operator.metrics(clock()).attempts;
    drop((engine, queue)); // threads that are still working cannot send any more
    input.join().map_err(|_| "the input's thread has panicked")?;
    Ok(attempts)
}

struct Engine<R: RetryStrategy<u64, u64, Busy>> {
    operator: Operator<(u64, u64, Busy, R, Unkeyed, ()), Heap>,
    pool: Pool,
    /// Asks for one more element: at most one is on its way. That is the backpressure.
    demand: Sender<()>,
    /// The element that the operator had no room for.
    waiting: Option<StreamElement<u64>>,
    ended: bool,
}

impl<R: RetryStrategy<u64, u64, Busy>> Engine<R> {
    /// Drains the operator after an event: starts attempts, and hands elements on.
    fn drive(&mut self, now: Instant, sink: &mut Sink) -> Result<(), Box<dyn Error>> {
        loop {
            while let Some(call) = self.operator.poll_attempt(now) {
                self.pool.ask(call.id, *call.input, call.info.number);
            }
            let Some(element) = self.operator.poll_output() else { return Ok(()) };
            sink.take(element, self.operator.in_flight())?;
            self.push_waiting(now);
        }
    }

    fn push_waiting(&mut self, now: Instant) {
        let Some(element) = self.waiting.take() else { return };
        match self.operator.push(now, element) {
            Ok(()) => self.ask_for_more(),
            Err(full) => self.waiting = Some(full.into_inner()), // until an element has left
        }
    }

    fn ask_for_more(&self) {
        let _ = self.demand.send(()); // the input may have ended
    }

    /// Waits for an event, or for the operator's next deadline.
    fn wait(&mut self, now: Instant, queue: &Receiver<Event>) {
        let event = match self.operator.poll_deadline() {
            Some(deadline) => queue.recv_timeout(deadline - now),
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match event {
            Ok(Event::Answered(id, result)) => {
                // A completion that comes too late has no effect, and the answer says so.
                let _ = self.operator.handle_completion(now, id, result);
            }
            Ok(Event::Input(element)) => {
                self.waiting = Some(element);
                self.push_waiting(now);
            }
            Ok(Event::InputEnded) => {
                self.ended = true;
                self.operator.finish(now);
            }
            Err(_) => {}
        }
    }

    fn is_through(&self) -> bool {
        self.ended && self.operator.is_empty()
    }
}

/// Starts threads that take requests, one after the other.
struct Pool(Sender<(AttemptId, u64, u32)>);

impl Pool {
    fn start(events: &Sender<Event>) -> Self {
        let (asked, questions) = channel();
        let questions = Arc::new(Mutex::new(questions));
        for _ in 0..POOL {
            let (questions, events) = (Arc::clone(&questions), events.clone());
            thread::spawn(move || {
                let next = || questions.lock().unwrap_or_else(PoisonError::into_inner).recv();
                while let Ok((id, reading, attempt)) = next() {
                    if let Some(result) = calibrate(reading, attempt)
                        && events.send(Event::Answered(id, result)).is_err()
                    {
                        return;
                    }
                }
            });
        }
        Self(asked)
    }

    fn ask(&self, id: AttemptId, reading: u64, attempt: u32) {
        // The threads live as long as this sender does.
        let _ = self.0.send((id, reading, attempt));
    }
}

/// A slow bus: it refuses some readings at first, and never answers a few.
fn calibrate(reading: u64, attempt: u32) -> Option<Result<u64, Failure<Busy>>> {
    thread::sleep(Duration::from_micros(300));
    match reading {
        never if never % 200 == 99 => None,
        refused if refused % 10 == 7 && attempt == 1 => Some(Err(Failure::Error(Busy))),
        reading => Some(Ok(3 * reading)),
    }
}

/// The expected output for a reading.
fn expected(reading: u64) -> Option<u64> {
    (reading % 200 != 99).then_some(3 * reading)
}

/// The input: readings from `position` on, with watermarks and barriers. It sends an element on request.
fn feed(position: u64, events: &Sender<Event>, demanded: &Receiver<()>) {
    let offer = |element| demanded.recv().is_ok() && events.send(Event::Input(element)).is_ok();
    for reading in position..READINGS {
        let time = Timestamp::from_millis(reading as i64);
        let mut goes_on = offer(StreamElement::record(reading, time));
        let next = reading + 1;
        if next.is_multiple_of(WATERMARK_EVERY) {
            goes_on &= offer(StreamElement::Watermark(time));
        }
        if next.is_multiple_of(BARRIER_EVERY) {
            let mut checkpoint = Checkpoint::new(CheckpointId(next / BARRIER_EVERY));
            if let Err(error) = checkpoint.put("source", &next.to_le_bytes()) {
                checkpoint.fail(error);
            }
            goes_on &= offer(StreamElement::Barrier(Barrier::snapshot(checkpoint)));
        }
        if !goes_on {
            return; // the engine has ended
        }
    }
    if demanded.recv().is_ok() {
        let _ = events.send(Event::InputEnded);
    }
}

/// The output, with the data of its transaction: its position at the last checkpoint.
#[derive(Default)]
struct Sink {
    rows: Vec<(u64, Option<u64>)>,
    watermark: Option<Timestamp>,
    checkpoint: Option<Saved>,
}

struct Saved {
    checkpoint: Checkpoint,
    rows: usize,
    watermark: Option<Timestamp>,
    in_flight: usize,
}

impl Sink {
    fn take(&mut self, element: Out, in_flight: usize) -> Result<(), Box<dyn Error>> {
        match element {
            StreamElement::Record { value: outcome, timestamp } => {
                if timestamp <= self.watermark {
                    return Err(format!("{} comes behind its watermark", outcome.input).into());
                }
                self.rows.push((outcome.input, outcome.result.ok()));
            }
            StreamElement::Watermark(time) => self.watermark = Some(time),
            StreamElement::Status(_) => {}
            StreamElement::Barrier(mut barrier) => {
                // The checkpoint as bytes, as a store would keep it.
                let checkpoint = Checkpoint::from_bytes(barrier.checkpoint.bytes()?)?;
                let (rows, watermark) = (self.rows.len(), self.watermark);
                self.checkpoint = Some(Saved { checkpoint, rows, watermark, in_flight });
            }
        }
        Ok(())
    }
}
