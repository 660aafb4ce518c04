//! Inputs that are not finished yet, that grow, and that are moved away or cut while they are read.

use std::convert::Infallible;
use std::fs::{self, File};
use std::future::poll_fn;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_executor::LocalExecutor;
use futures_lite::future::block_on;
use inflight_core::pipeline::{Ended, Pipeline, PipelineError, ReplayableSource, StopHandle};
use inflight_core::{
    AsyncWait, AsyncWaitExt, Instant, MemoryStore, NoRuntime, Outcome, Runtime, StreamElement,
    Timer,
};
use inflight_lines::{Line, LineError, LineSink, LineSource, LinesError, Position};
use inflight_smol::SmolLocal;
use tempfile::TempDir;

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn append(path: &Path, content: &str) {
    File::options().append(true).open(path).unwrap().write_all(content.as_bytes()).unwrap();
}

fn cut(path: &Path, length: u64) {
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

/// A clock that the test advances.
#[derive(Clone, Debug, Default)]
struct Clock(Arc<Time>);

#[derive(Debug, Default)]
struct Time {
    seconds: AtomicU64,
    /// A timer waits for a later time.
    is_awaited: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct Alarm(Clock, Option<Instant>);

const SECOND: Duration = Duration::from_secs(1);

impl Clock {
    fn is_awaited(&self) -> bool {
        self.0.is_awaited.load(Ordering::SeqCst)
    }

    fn tick(&self) {
        self.0.seconds.fetch_add(1, Ordering::SeqCst);
        if let Some(waker) = self.0.waker.lock().unwrap().take() {
            waker.wake();
        }
    }
}

impl Runtime for Clock {
    type Timer = Alarm;

    fn timer(&self) -> Result<Alarm, NoRuntime> {
        Ok(Alarm(self.clone(), None))
    }
}

impl Timer for Alarm {
    fn now(&self) -> Instant {
        Instant::ZERO + Duration::from_secs(self.0.0.seconds.load(Ordering::SeqCst))
    }

    fn arm(mut self: Pin<&mut Self>, at: Option<Instant>) {
        self.1 = at;
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let is_due = self.1.is_some_and(|at| at <= self.now());
        self.0.0.is_awaited.store(!is_due, Ordering::SeqCst);
        if is_due {
            self.1 = None;
            return Poll::Ready(());
        }
        *self.0.0.waker.lock().unwrap() = Some(cx.waker().clone());
        Poll::Pending
    }
}

type Next = Option<Result<String, LinesError>>;

fn text(line: StreamElement<Line>) -> String {
    match line {
        StreamElement::Record { value, .. } => value.text().unwrap().into(),
        other => panic!("{other:?}"),
    }
}

/// The next line; `Err` when the source waits for the clock.
fn next_of(source: &mut LineSource, clock: &Clock) -> Result<Next, ()> {
    block_on(poll_fn(|cx| match source.poll_next(cx) {
        Poll::Ready(line) => Poll::Ready(Ok(line.map(|line| line.map(text)))),
        Poll::Pending if clock.is_awaited() => Poll::Ready(Err(())),
        Poll::Pending => Poll::Pending,
    }))
}

/// The lines up to the end, or up to where the source waits.
fn rest(source: &mut LineSource, clock: &Clock) -> Vec<String> {
    std::iter::from_fn(|| next_of(source, clock).ok().flatten().map(Result::unwrap)).collect()
}

/// The lines from a position to the end.
fn from(mut source: LineSource, position: Position) -> (Vec<String>, Position) {
    block_on(source.open(Some(position))).unwrap();
    (rest(&mut source, &Clock::default()), source.position())
}

// K10: a line that is being written is not a record yet.
#[test]
fn an_unfinished_last_line_is_held_back() {
    let (_folder, path) = file("one\ntw");
    let (lines, position) = from(LineSource::open(&path).unwrap(), Position::default());
    assert_eq!((lines, position.offset, position.lines), (vec!["one".to_owned()], 4, 1));

    append(&path, "o\nthr");
    let (lines, position) = from(LineSource::open(&path).unwrap(), position);
    assert_eq!((lines, position.offset), (vec!["two".to_owned()], 8));

    append(&path, "ee\n");
    let (lines, position) = from(LineSource::open(&path).unwrap(), position);
    assert_eq!((lines, position.offset), (vec!["three".to_owned()], 14));
}

// K10: the same at the end of an input that arrives in chunks.
#[test]
fn a_long_unfinished_line_is_held_back() {
    let (_folder, path) = file("one\n".to_owned() + &"x".repeat(1 << 20));
    let (lines, position) = from(LineSource::open(&path).unwrap(), Position::default());
    assert_eq!((lines.len(), position.offset), (1, 4));
}

// K10: a line that was handed out without its line feed is not continued in its middle.
#[test]
fn a_complete_file_that_grows_after_all_gives_no_torn_line() {
    let (_folder, path) = file("one\ntw");
    let (lines, position) = from(LineSource::open_complete(&path).unwrap(), Position::default());
    assert_eq!((lines.len(), position.offset), (2, 6));
    // Nothing is appended, or only the line feed.
    assert_eq!(from(LineSource::open_complete(&path).unwrap(), position), (vec![], position));
    append(&path, "\nthree\n");
    let whole = from(LineSource::open(&path).unwrap(), Position::default()).1;
    assert_eq!(from(LineSource::open(&path).unwrap(), position), (vec!["three".into()], whole));

    for complete in [false, true] {
        let (_folder, path) = file("one\ntwo\nthree\n");
        let open = if complete { LineSource::open_complete } else { LineSource::open };
        let mut source = open(&path).unwrap();
        block_on(source.open(Some(position))).unwrap();
        let refused = next_of(&mut source, &Clock::default()).unwrap().unwrap().unwrap_err();
        assert!(matches!(refused, LinesError::LineGrown { offset: 6, .. }), "{refused:?}");
        assert_eq!(source.position(), position);
    }
}

// K10: the same within one life.
#[test]
fn a_complete_file_that_grows_while_it_is_read_ends_with_its_last_line() {
    let (_folder, path) = file("one\ntw");
    let mut source = LineSource::open_complete(&path).unwrap();
    let clock = Clock::default();
    let mut lines = Vec::new();
    while let Some(line) = next_of(&mut source, &clock).unwrap() {
        lines.push(line.unwrap());
        if lines.len() == 2 {
            append(&path, "o\nthree\n");
        }
    }
    assert_eq!(lines, ["one", "tw"]);
}

#[test]
fn what_is_read_once_may_lack_its_last_feed() {
    let lines = rest(&mut LineSource::once(&b"one\ntwo"[..]), &Clock::default());
    assert_eq!(lines, ["one", "two"]);
}

fn follow(path: &Path) -> (LineSource, Clock) {
    let clock = Clock::default();
    (LineSource::follow(path, clock.clone(), SECOND).unwrap(), clock)
}

// L6: it sleeps at the end, and checks again after the interval.
#[test]
fn a_file_that_grows_is_followed() {
    let (_folder, path) = file("one\ntw");
    let (mut source, clock) = follow(&path);
    assert_eq!(rest(&mut source, &clock), ["one"]);
    append(&path, "o\nthree\nfo");
    assert_eq!(rest(&mut source, &clock), [""; 0], "it looks once a second");
    clock.tick();
    assert_eq!(rest(&mut source, &clock), ["two", "three"]);
    for _ in 0..3 {
        clock.tick();
        assert_eq!(rest(&mut source, &clock), [""; 0]);
    }
    append(&path, "ur\n");
    clock.tick();
    assert_eq!(rest(&mut source, &clock), ["four"]);
    assert_eq!(source.position(), from(LineSource::open(&path).unwrap(), Position::default()).1);
}

// T8: an interval of zero would be a loop that never sleeps.
#[test]
fn a_follower_needs_a_runtime_and_sleeps_at_least_a_millisecond() {
    let (_folder, path) = file("one\n");
    let clock = Clock::default();
    let mut source = LineSource::follow(&path, clock.clone(), Duration::ZERO).unwrap();
    assert_eq!(rest(&mut source, &clock), ["one"]);

    struct Nowhere;
    impl Runtime for Nowhere {
        type Timer = Alarm;
        fn timer(&self) -> Result<Alarm, NoRuntime> {
            Err(NoRuntime)
        }
    }
    let refused = LineSource::follow(&path, Nowhere, SECOND).unwrap_err();
    assert!(matches!(refused, LinesError::NoRuntime(NoRuntime)), "{refused:?}");
}

/// The result of a follower after a second, and the lines before that.
fn end_of(source: &mut LineSource, clock: &Clock) -> (Vec<String>, LinesError) {
    clock.tick();
    let mut lines = Vec::new();
    loop {
        match next_of(source, clock).expect("it goes on waiting").expect("it ends") {
            Ok(line) => lines.push(line),
            Err(error) => return (lines, error),
        }
    }
}

#[test]
fn a_followed_file_that_is_moved_away_is_read_to_its_end_first() {
    for is_replaced in [true, false] {
        let (folder, path) = file("one\n");
        let moved = folder.path().join("moved");
        let (mut source, clock) = follow(&path);
        assert_eq!(rest(&mut source, &clock), ["one"]);
        append(&path, "two\nthr");
        fs::rename(&path, &moved).unwrap();
        if is_replaced {
            fs::write(&path, "of another file, which is longer than the one before\n").unwrap();
        }
        let (lines, error) = end_of(&mut source, &clock);
        assert_eq!(lines, ["two"]);
        assert!(matches!(error, LinesError::InputMoved { .. }), "{error:?}");

        // The remedy: a job with the new path continues.
        append(&moved, "ee\n");
        let (lines, _) = from(LineSource::open(&moved).unwrap(), source.position());
        assert_eq!(lines, ["three"]);
    }
}

#[test]
fn a_followed_file_that_is_cut_is_told_from_one_that_was_moved() {
    for (length, then) in [(0, ""), (0, "four\n"), (4, ""), (12, "")] {
        let (_folder, path) = file("one\ntwo\nthree\n");
        let (mut source, clock) = follow(&path);
        assert_eq!(rest(&mut source, &clock).len(), 3);
        cut(&path, length);
        append(&path, then);
        let (lines, error) = end_of(&mut source, &clock);
        assert_eq!(lines, [""; 0]);
        let LinesError::InputShrunk { length: found, expected: 14, .. } = error else {
            panic!("{error:?}")
        };
        assert_eq!(found, length + then.len() as u64);
    }
}

// L6: a pipeline sleeps at the end of a file, is woken by appended lines, and can be stopped.
#[test]
fn a_pipeline_follows_until_it_is_stopped() {
    let (folder, path) = file("one\n");
    let output = folder.path().join("output");
    let (source, clock) = follow(&path);
    let mut sleeps = 0;
    let ended = run(
        source,
        &output,
        clock,
        |_| (),
        |stop| {
            sleeps += 1;
            match sleeps {
                1 | 2 => append(&path, "more\n"),
                _ => stop.drain(),
            }
        },
    );
    assert_eq!(ended.unwrap(), Ended::Stopped);
    assert_eq!(fs::read_to_string(&output).unwrap(), "one\nmore\nmore\n");
}

type Failed = PipelineError<LinesError, LinesError, Infallible>;

/// Copies lines, calls `seen` with each, and `asleep` when it waits for the clock, which then advances.
fn run(
    source: LineSource,
    output: &Path,
    clock: Clock,
    seen: impl Fn(&Line),
    mut asleep: impl FnMut(&StopHandle),
) -> Result<Ended, Failed> {
    let executor = LocalExecutor::new();
    let runtime = SmolLocal(&executor);
    let sink = LineSink::open(output, |done: Outcome<Line, String, LineError>| {
        done.result.map_err(|failure| failure.to_string())
    });
    let pipeline = Pipeline::new(source, sink.unwrap(), MemoryStore::new()).every_records(5_000);
    let stop = pipeline.stop_handle();
    let run = pipeline.run(runtime, |lines, checkpoint| {
        lines
            .async_wait(AsyncWait::ordered(1), move |line: &Line| {
                seen(line);
                let text = line.text().map(str::to_owned);
                async move { text }
            })
            .checkpointed("copy", 1)
            .restore(checkpoint)
            .in_place(runtime)
    });
    let mut run = std::pin::pin!(run);
    block_on(executor.run(poll_fn(|cx| {
        let polled = run.as_mut().poll(cx);
        if polled.is_pending() && clock.is_awaited() {
            asleep(&stop);
            clock.tick();
        }
        polled
    })))
}

// K10: an input that is cut while the job runs is not a silent end. The lines before that are committed.
#[test]
fn an_input_that_is_cut_while_it_is_read_is_an_error() {
    const LINES: u64 = 50_000;
    let whole: String = (0..LINES).map(|n| format!("{n:07}\n")).collect();
    // Shorter and longer than the part read by then: if longer, the end is after that part.
    for length in [80, LINES * 8 - 80, LINES * 8 - 84] {
        let (folder, path) = file(&whole);
        let output = folder.path().join("output");
        let source = LineSource::open(&path).unwrap();
        let cut_early = |line: &Line| {
            if line.number == 100 {
                cut(&path, length);
            }
        };
        let ended = run(source, &output, Clock::default(), cut_early, |_| ());
        let Err(PipelineError::Source(LinesError::InputShrunk { length: found, expected, .. })) =
            ended
        else {
            panic!("{ended:?}")
        };
        assert_eq!((found, expected), (length, LINES * 8));
        let written = fs::read_to_string(&output).unwrap();
        assert!(whole.starts_with(&written) && written.ends_with('\n'));
        assert!(written.len() < whole.len() && written.len() as u64 >= length / 8 * 8);
    }
}
