//! The machine crashes between any two steps of the file system.
#![cfg(target_os = "linux")]

use std::fs;
use std::path::Path;

use futures_lite::future::block_on;
use inflight_core::CheckpointId;
use inflight_core::pipeline::TransactionalSink;
use inflight_crashes::{Crash, Recording, folder, mark};
use inflight_lines::{Lengths, LineSink};

/// The pre-committed content, as a mark: the contents of both files, with slashes for line feeds.
#[derive(Clone, Debug, Default, PartialEq)]
struct Kept([String; 2]);

impl Kept {
    fn last(marks: &[String]) -> Option<Self> {
        let (output, rejected) = marks.last()?.split_once('|').unwrap();
        Some(Self([output, rejected].map(|text| text.replace('/', "\n"))))
    }

    fn mark(&self) {
        mark(self.0.join("|").replace('\n', "/"));
    }

    fn lengths(&self) -> Lengths {
        let [output, rejected] = self.0.each_ref().map(|text| text.len() as u64);
        Lengths { output, rejected }
    }
}

type Sink = LineSink<fn(Result<String, String>) -> Result<String, String>>;

/// The sink of a job at the start of a life.
fn open(folder: &Path, kept: Option<&Kept>) -> Sink {
    let mut sink: Sink =
        LineSink::open(folder.join("output"), (|line| line) as fn(_) -> _).unwrap();
    block_on(sink.abort(kept.map(Kept::lengths).as_ref())).unwrap();
    sink
}

#[test]
#[ignore = "the other side of the tests below"]
fn writes_and_relies_on_what_was_pre_committed() {
    let Some(folder) = folder() else { return };
    let marks = fs::read_to_string(folder.join("marks")).unwrap_or_default();
    let marks: Vec<_> = marks.lines().map(str::to_owned).collect();
    let kept = Kept::last(&marks);
    let mut sink = open(&folder, kept.as_ref());
    let mut kept = kept.unwrap_or_default();
    if marks.is_empty() {
        block_on(TransactionalSink::<Result<_, _>>::pre_commit(&mut sink, CheckpointId(0)))
            .unwrap();
        kept.mark();
    }
    for life in 0..2 {
        for id in 1..=2 {
            let line = format!("{} after {life} and {id}", marks.len());
            for (record, kept) in [Ok(line.clone()), Err(line.clone())].into_iter().zip(&mut kept.0)
            {
                block_on(sink.write(record, None)).unwrap();
                *kept += &(line.clone() + "\n");
            }
            block_on(sink.pre_commit(CheckpointId(id))).unwrap();
            kept.mark();
        }
        // The save fails, and the process starts again.
        block_on(sink.write(Ok("lost".into()), None)).unwrap();
        block_on(sink.pre_commit(CheckpointId(3))).unwrap();
        block_on(sink.abort(Some(&kept.lengths()))).unwrap();
    }
}

const VICTIM: &str = "writes_and_relies_on_what_was_pre_committed";

/// The pre-committed content is there, to the byte.
#[track_caller]
fn check(crash: &Crash) {
    let Some(kept) = Kept::last(&crash.marks) else { return };
    let folder = crash.folder();
    let output = folder.path().join("output");
    let mut sink: Sink = LineSink::open(&output, (|line| line) as fn(_) -> _).unwrap();
    let cut = block_on(sink.abort(Some(&kept.lengths())));
    cut.unwrap_or_else(|error| panic!("{}: {error}", crash.when));
    let found = [output.clone(), output.with_extension("rejected")];
    let found = found.map(|path| fs::read_to_string(path).unwrap());
    assert_eq!(Kept(found), kept, "{}", crash.when);
}

// K10: the bytes that a checkpoint relies on survive a crash of the machine.
#[test]
fn a_crash_between_any_two_steps_loses_nothing_that_was_pre_committed() {
    let recording = Recording::new();
    assert!(recording.run(VICTIM, None));
    assert_eq!(recording.marks().len(), 5);
    recording.each_crash(check);
}

// K10
#[test]
fn a_crash_in_the_life_after_a_killed_one_neither() {
    for steps in 0.. {
        let recording = Recording::new();
        if recording.run(VICTIM, Some(steps)) {
            assert!(steps > 20);
            break;
        }
        assert!(recording.run(VICTIM, None));
        recording.each_crash(check);
    }
}
