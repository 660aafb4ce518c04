//! Lines in and out of real files.

use std::fs;
use std::future::poll_fn;
use std::path::{Path, PathBuf};

use async_executor::LocalExecutor;
use futures_lite::future::block_on;
use inflight_core::pipeline::{
    Ended, Pipeline, PipelineError, ReplayableSource, TransactionalSink,
};
use inflight_core::{
    AsyncWait, AsyncWaitExt, CheckpointId, MemoryStore, NullStore, Outcome, StreamElement,
};
use inflight_lines::{
    Lengths, Line, LineError, LineFile, LineSink, LineSource, LinesError, Position, Unreadable,
};
use inflight_smol::SmolLocal;
use tempfile::TempDir;

fn file(content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("lines");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn next(source: &mut LineSource) -> Option<Line> {
    match block_on(poll_fn(|cx| source.poll_next(cx)))?.unwrap() {
        StreamElement::Record { value, .. } => Some(value),
        other => panic!("{other:?}"),
    }
}

fn rest(source: &mut LineSource) -> Vec<Line> {
    std::iter::from_fn(|| next(source)).collect()
}

#[test]
fn a_line_ends_with_a_feed_a_return_and_a_feed_or_the_file() {
    for (content, expected) in [
        ("", &[][..]),
        ("\n", &[""][..]),
        ("a\nb\n", &["a", "b"]),
        ("a\nb", &["a", "b"]),
        ("a\r\n\r\nb\r", &["a", "", "b"]),
        ("\n\na", &["", "", "a"]),
    ] {
        let (_folder, path) = file(content);
        let lines = rest(&mut LineSource::open_complete(&path).unwrap());
        let texts: Vec<_> = lines.iter().map(|line| line.text().unwrap()).collect();
        assert_eq!(texts, expected, "{content:?}");
        for (line, number) in lines.iter().zip(1..) {
            assert_eq!(line.number, number);
            let from = &content.as_bytes()[line.offset as usize..];
            assert!(from.starts_with(&line.bytes), "{line:?} of {content:?}");
        }
    }
}

// K4: at every line, also in the middle of a chunk and over its end.
#[test]
fn every_position_leads_back_to_its_line() {
    let lines: Vec<_> = (0..3000).map(|n| "x".repeat(n % 91) + &n.to_string()).collect();
    for end in ["\n", "\r\n"] {
        let (_folder, path) = file(lines.join(end));
        let mut whole = LineSource::open_complete(&path).unwrap();
        let mut positions = vec![whole.position()];
        while next(&mut whole).is_some() {
            positions.push(whole.position());
        }
        assert_eq!(positions.len(), lines.len() + 1);
        for (read, position) in positions.iter().enumerate().step_by(37) {
            assert_eq!(position.lines, read as u64);
            let mut source = LineSource::open_complete(&path).unwrap();
            block_on(source.open(Some(*position))).unwrap();
            let again = rest(&mut source);
            assert_eq!(again.len(), lines.len() - read);
            assert!(again.iter().zip(&lines[read..]).all(|(a, b)| a.text() == Ok(b.as_str())));
            assert_eq!(source.position(), *positions.last().unwrap());
        }
    }
}

#[test]
fn a_broken_line_is_handed_out_and_says_where_it_is() {
    let long = "l".repeat(100);
    let (_folder, path) = file([b"good\n\xff\n", long.as_bytes(), b"\ngood\n"].concat());
    let lines = rest(&mut LineSource::open(&path).unwrap().keep(50, 5));
    let texts: Vec<_> = lines.iter().map(Line::text).collect();
    let utf8 = LineError { number: 2, offset: 5, reason: Unreadable::NotUtf8 { at: 0 } };
    let too_long = LineError { number: 3, offset: 7, reason: Unreadable::TooLong { length: 100 } };
    assert_eq!(texts, [Ok("good"), Err(utf8), Err(too_long), Ok("good")]);
    assert_eq!((&*lines[1].bytes, &*lines[2].bytes), (&b"\xff"[..], &b"lllll"[..]));
}

#[test]
fn an_input_that_has_changed_is_refused() {
    let (_folder, path) = file("one\ntwo\nthree\n");
    let mut source = LineSource::open(&path).unwrap();
    let _ = (next(&mut source), next(&mut source));
    let position = source.position();

    for content in ["one\nTWO\nthree\n", "one\n", ""] {
        fs::write(&path, content).unwrap();
        let refused = block_on(LineSource::open(&path).unwrap().open(Some(position))).unwrap_err();
        assert!(matches!(refused, LinesError::InputChanged { offset: 8, .. }), "{refused:?}");
    }
    // The rest of the file may have grown.
    fs::write(&path, "one\ntwo\nthree\nfour\n").unwrap();
    let mut source = LineSource::open(&path).unwrap();
    block_on(source.open(Some(position))).unwrap();
    assert_eq!(rest(&mut source).len(), 2);
}

#[test]
fn what_is_no_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(LineSource::open(folder.path()), Err(LinesError::NoFile { .. })));
    assert!(matches!(LineFile::open(folder.path()), Err(LinesError::NoFile { .. })));
    let missing = LineSource::open(folder.path().join("missing")).unwrap_err();
    assert!(missing.to_string().contains("missing"), "{missing}");
    let mut once = LineSource::once(&b"one\ntwo"[..]);
    assert_eq!(next(&mut once).unwrap().text(), Ok("one"));
    let refused = block_on(once.open(Some(Position::default())));
    assert!(matches!(refused, Err(LinesError::NotReplayable)));
}

type Answer = Outcome<Line, String, LineError>;

fn format(done: Answer) -> Result<String, String> {
    done.result.map_err(|failure| failure.to_string())
}

fn write(sink: &mut LineSink<fn(Answer) -> Result<String, String>>, result: Result<&str, &str>) {
    let line = LineSource::once(&b"x\n"[..]);
    let input = next(&mut { line }).unwrap();
    let failure = |_| LineError { number: 1, offset: 0, reason: Unreadable::NotUtf8 { at: 0 } };
    let result = result.map(String::from).map_err(failure).map_err(inflight_core::Failure::Error);
    let outcome = Outcome { input, result, attempts: 1, elapsed: Default::default() };
    block_on(TransactionalSink::write(sink, outcome, None)).unwrap();
}

fn open(path: &Path) -> LineSink<fn(Answer) -> Result<String, String>> {
    LineSink::open(path, format as fn(Answer) -> _).unwrap()
}

// K10
#[test]
fn the_output_is_cut_back_to_what_was_committed() {
    let (folder, path) = file("");
    let mut sink = open(&path);
    block_on(sink.abort(None)).unwrap();
    write(&mut sink, Ok("one"));
    write(&mut sink, Err("two"));
    let kept = block_on(sink.pre_commit(CheckpointId(1))).unwrap();
    assert_eq!(kept.output, 4);
    block_on(sink.commit(CheckpointId(1), &kept)).unwrap();
    write(&mut sink, Ok("three"));
    block_on(sink.pre_commit(CheckpointId(2))).unwrap();
    write(&mut sink, Ok("only in memory"));
    drop(sink);
    assert_eq!(fs::read_to_string(&path).unwrap(), "one\nthree\n");

    for _ in 0..2 {
        let mut sink = open(&path);
        block_on(sink.commit(CheckpointId(1), &kept)).unwrap();
        block_on(sink.abort(Some(&kept))).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\n");
    }
    let rejected = fs::read_to_string(folder.path().join("lines.rejected")).unwrap();
    assert_eq!(rejected, "line 1, at byte 0, is not UTF-8 after its first 0 bytes\n");

    // A file of another program, for a job without a checkpoint.
    let refused = block_on(open(&path).abort(None)).unwrap_err();
    assert!(matches!(refused, LinesError::NotEmpty { length: 4, .. }), "{refused}");
    fs::write(&path, "on").unwrap();
    let refused = block_on(open(&path).abort(Some(&kept))).unwrap_err();
    assert!(matches!(refused, LinesError::Shrunk { length: 2, expected: 4, .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "on");
    let _: Lengths = kept;
}

#[test]
fn what_is_larger_than_the_buffer_comes_whole() {
    let (_folder, path) = file("");
    let mut file = LineFile::open(&path).unwrap();
    let lines: Vec<_> = (0..100_000).map(|n| n.to_string()).collect();
    lines.iter().for_each(|line| file.write(line.as_bytes()).unwrap());
    assert_eq!(block_on(file.sync()).unwrap(), fs::metadata(&path).unwrap().len());
    assert!(fs::read_to_string(&path).unwrap().lines().eq(&lines));
}

#[cfg(target_os = "linux")]
#[test]
fn a_device_is_refused() {
    assert!(matches!(LineFile::open("/dev/null"), Err(LinesError::NoFile { .. })));
}

// K10: the whole way, in two runs.
#[test]
fn a_pipeline_goes_on_where_it_was_stopped() {
    let lines: String = (0..500).map(|n| format!("{n}\n")).collect();
    let (folder, path) = file(lines);
    let output = folder.path().join("output");
    let executor = LocalExecutor::new();
    let runtime = SmolLocal(&executor);
    let mut store = MemoryStore::new();
    for life in 0.. {
        let sink = LineSink::open(&output, format).unwrap();
        let source = LineSource::open(&path).unwrap();
        let pipeline = Pipeline::new(source, sink, &mut store).every_records(7);
        let stop = pipeline.stop_handle();
        let ended = block_on(executor.run(pipeline.run(runtime, move |lines, checkpoint| {
            lines
                .async_wait(AsyncWait::ordered(10), move |line: &Line| {
                    if line.number > 200 * (life + 1) {
                        stop.drain();
                    }
                    let text = line.text().map(str::to_owned);
                    async move { text }
                })
                .checkpointed("stage", 1)
                .restore(checkpoint)
                .spawn(runtime)
        })));
        if ended.unwrap() == Ended::Finished {
            assert!(life > 1);
            break;
        }
    }
    assert_eq!(fs::read(&output).unwrap(), fs::read(&path).unwrap());

    // A job without that checkpoint does not touch its output.
    let (source, sink) =
        (LineSource::open(&path).unwrap(), LineSink::open(&output, format).unwrap());
    let refused = block_on(Pipeline::new(source, sink, NullStore).run(runtime, |lines, _| {
        lines
            .async_wait(AsyncWait::ordered(1), |_: &Line| async { Ok(String::new()) })
            .in_place(runtime)
    }));
    assert!(matches!(refused, Err(PipelineError::Sink(LinesError::NotEmpty { .. }))));
}
