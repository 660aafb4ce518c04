//! Changes of the output by other programs while a job writes it, and line feeds in a format.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use async_executor::LocalExecutor;
use futures_lite::future::block_on;
use inflight_core::pipeline::{
    Ended, MemorySource, Pipeline, PipelineError, Report, TransactionalSink,
};
use inflight_core::{
    AsyncWait, AsyncWaitExt, CheckpointId, CheckpointStore as _, MemoryStore, Outcome,
};
use inflight_lines::{Lengths, LineFile, LineSink, LinesError};
use inflight_smol::SmolLocal;
use tempfile::TempDir;

type Format = fn(Result<String, String>) -> Result<String, String>;
type Sink = LineSink<Format>;

/// A sink that has committed a line in each of its files, and these files.
fn sink() -> (TempDir, Sink, [PathBuf; 2]) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let mut sink = LineSink::open(&output, (|record| record) as Format).unwrap();
    block_on(sink.abort(None)).unwrap();
    write(&mut sink, "committed").unwrap();
    let prepared = block_on(sink.pre_commit(CheckpointId(1))).unwrap();
    block_on(sink.commit(CheckpointId(1), &prepared)).unwrap();
    (folder, sink, [output.clone(), output.with_extension("rejected")])
}

/// Writes a line into both files.
fn write(sink: &mut Sink, line: &str) -> Result<(), LinesError> {
    block_on(sink.write(Ok(line.into()), None))?;
    block_on(sink.write(Err(line.into()), None))
}

fn cut(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(1).unwrap();
}

fn append(path: &Path) {
    File::options().append(true).open(path).unwrap().write_all(b"of somebody else\n").unwrap();
}

fn delete(path: &Path) {
    fs::remove_file(path).unwrap();
}

/// Another file of the same content, and so of the same length.
fn replace(path: &Path) {
    let content = fs::read(path).unwrap();
    fs::remove_file(path).unwrap();
    // The old file is kept, so that the new one has another number.
    let _kept = File::create(path.with_extension("other")).unwrap();
    fs::write(path, content).unwrap();
}

type Tampering = (fn(&Path), fn(&LinesError) -> bool);

const TAMPERING: [Tampering; 4] = [
    (cut, |error| matches!(error, LinesError::Shrunk { .. })),
    (append, |error| matches!(error, LinesError::Grown { .. })),
    (delete, |error| matches!(error, LinesError::OutputMoved { .. })),
    (replace, |error| matches!(error, LinesError::OutputMoved { .. })),
];

/// The error has the right variant, and names the file.
#[track_caller]
fn assert_tells(error: &LinesError, is_right: fn(&LinesError) -> bool, path: &Path) {
    assert!(is_right(error), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

// K10: bytes that are missing are not committed.
#[test]
fn a_file_that_somebody_has_changed_is_found_out_before_the_checkpoint_is_saved() {
    for (tamper, is_right) in TAMPERING {
        for which in [0, 1] {
            for more in ["", &"long enough to be written before".repeat(10_000)] {
                let (_folder, mut sink, paths) = sink();
                tamper(&paths[which]);
                if !more.is_empty() {
                    write(&mut sink, more).unwrap();
                }
                let refused = block_on(sink.pre_commit(CheckpointId(2))).unwrap_err();
                assert_tells(&refused, is_right, &paths[which]);
                let found = fs::read(&paths[which]).unwrap_or_default();
                assert!(!found.contains(&0), "it has a hole");
            }
        }
    }
}

// K10
#[test]
fn a_file_that_somebody_has_changed_is_found_out_when_the_checkpoint_is_saved() {
    for (tamper, is_right) in TAMPERING {
        for which in [0, 1] {
            let (_folder, mut sink, paths) = sink();
            write(&mut sink, "pre-committed").unwrap();
            let prepared = block_on(sink.pre_commit(CheckpointId(2))).unwrap();
            write(&mut sink, "written since").unwrap();
            tamper(&paths[which]);
            let refused = block_on(sink.commit(CheckpointId(2), &prepared)).unwrap_err();
            assert_tells(&refused, is_right, &paths[which]);
        }
    }
}

// K10: a file that was cut back is not replaced by another program's.
#[test]
fn what_is_cut_back_is_the_file_that_was_opened() {
    let (_folder, mut sink, paths) = sink();
    replace(&paths[0]);
    append(&paths[0]);
    let kept = Lengths { output: 10, rejected: 10 };
    let refused = block_on(sink.abort(Some(&kept))).unwrap_err();
    assert!(matches!(refused, LinesError::OutputMoved { .. }), "{refused:?}");
    assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "committed\nof somebody else\n");
}

// K10: two jobs that write to one file would each cut off the other's lines.
#[test]
fn an_output_has_one_owner() {
    let (folder, sink, paths) = sink();
    for path in &paths {
        let refused = LineFile::open(path).unwrap_err();
        assert_tells(&refused, |error| matches!(error, LinesError::Owned { .. }), path);
    }
    let refused = LineSink::open(&paths[0], (|record| record) as Format).unwrap_err();
    assert!(matches!(refused, LinesError::Owned { .. }), "{refused:?}");
    // The same under another name.
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&paths[0], &link).unwrap();
        let refused = LineFile::open(link).unwrap_err();
        assert!(matches!(refused, LinesError::Owned { .. }), "{refused:?}");
    }
    assert_eq!(fs::read_to_string(&paths[0]).unwrap(), "committed\n");
    drop(sink);
    LineFile::open(&paths[0]).unwrap();
    drop(folder);
}

// One outcome, one line.
#[test]
fn a_line_with_a_line_feed_in_it_is_refused_and_nothing_of_it_is_written() {
    let (_folder, mut sink, paths) = sink();
    for record in [Ok("two\nlines"), Err("two\nlines"), Ok("two\r\nlines")] {
        let record: Result<String, String> = record.map(Into::into).map_err(Into::into);
        let (which, is_crlf) = (usize::from(record.is_err()), record == Ok("two\r\nlines".into()));
        let refused = block_on(sink.write(record, None)).unwrap_err();
        assert_tells(&refused, |error| matches!(error, LinesError::LineFeed { .. }), &paths[which]);
        let LinesError::LineFeed { offset, start, .. } = refused else { unreachable!() };
        assert_eq!((offset, &*start), (10, if is_crlf { "two\r" } else { "two" }));
    }
    for at in [0, LinesError::EXCERPT, 1 << 20] {
        let line = "x".repeat(at) + "\n";
        let refused = block_on(sink.write(Ok(line), None)).unwrap_err();
        let LinesError::LineFeed { start, .. } = refused else { panic!("{refused:?}") };
        assert_eq!(start.len(), at.min(LinesError::EXCERPT));
    }
    // The file is usable as before, and a carriage return does not end a line.
    write(&mut sink, "one\rline").unwrap();
    block_on(sink.pre_commit(CheckpointId(2))).unwrap();
    for path in &paths {
        assert_eq!(fs::read_to_string(path).unwrap(), "committed\none\rline\n");
    }
}

/// Writes ten numbers with a `format`; something happens to the output at the seventh.
fn run(
    output: &Path,
    store: &mut MemoryStore,
    format: fn(u64) -> String,
    at_seven: fn(&Path),
) -> Result<Ended, LinesError> {
    let executor = LocalExecutor::new();
    let runtime = SmolLocal(&executor);
    let place = output.to_path_buf();
    let sink = LineSink::open(output, move |done: Outcome<u64, (), String>| {
        if done.input == 7 {
            at_seven(&place);
        }
        Ok(format(done.input))
    })?;
    // A new job waits at the seventh until the outcomes of some records before it are committed.
    let is_new = block_on(store.load_latest()).unwrap().is_none();
    let saved = Rc::new(Cell::new(0));
    let count = Rc::clone(&saved);
    let pipeline = Pipeline::new(MemorySource::new(1..=10_u64), sink, store)
        .every_records(2)
        .on_report(move |report| {
            if matches!(report, Report::Saved { .. }) {
                count.set(count.get() + 1);
            }
        });
    let ended = block_on(executor.run(pipeline.run(runtime, |numbers, recovery| {
        numbers
            .async_wait(AsyncWait::ordered(1), move |n: &u64| {
                let (saved, n) = (Rc::clone(&saved), *n);
                async move {
                    while is_new && n == 7 && saved.get() < 2 {
                        futures_lite::future::yield_now().await;
                    }
                    Ok(())
                }
            })
            .checkpointed("numbers", 1)
            .restore(recovery)
            .in_place(runtime)
    })));
    ended.map_err(|error| match error {
        PipelineError::Sink(error) => error,
        error => panic!("{error:?}"),
    })
}

// K10: a job whose output was changed ends with an error at its next checkpoint.
#[test]
fn a_job_whose_output_is_changed_does_not_say_that_all_is_well() {
    for (tamper, is_right) in TAMPERING {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("output");
        let mut store = MemoryStore::new();
        let refused = run(&output, &mut store, |n| n.to_string(), tamper).unwrap_err();
        assert_tells(&refused, is_right, &output);
        // The file differs from the one that it has left.
        let next = run(&output, &mut store, |n| n.to_string(), |_| ());
        match refused {
            LinesError::Shrunk { .. } => assert!(matches!(next, Err(LinesError::Shrunk { .. }))),
            // After a cut to the committed length it continues.
            LinesError::Grown { .. } => {
                next.unwrap();
                let expected: String = (1..=10).map(|n| format!("{n}\n")).collect();
                assert_eq!(fs::read_to_string(&output).unwrap(), expected);
            }
            _ => {}
        }
    }
}

// K10: a refused record is not lost; with a format that escapes it the job continues.
#[test]
fn a_job_goes_on_behind_a_line_that_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let mut store = MemoryStore::new();
    for _ in 0..2 {
        let torn = |n: u64| if n == 5 { "5a\n5b".to_owned() } else { n.to_string() };
        let refused = run(&output, &mut store, torn, |_| ()).unwrap_err();
        assert!(matches!(refused, LinesError::LineFeed { .. }), "{refused:?}");
    }
    assert_eq!(run(&output, &mut store, |n| n.to_string(), |_| ()).unwrap(), Ended::Finished);
    assert_eq!(fs::read_to_string(&output).unwrap(), "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
}
