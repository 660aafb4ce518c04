//! The source and the sink of the example `enrich` run the suites for all sources and sinks. Its modules are compiled into this test,
//! so the tests of these modules run here too: `pace`, `screen`, `progress`, and those of `examples/terminal`.
#![allow(missing_docs, missing_debug_implementations, unreachable_pub, dead_code)]

#[path = "../examples/enrich/airport.rs"]
mod airport;
#[path = "../examples/enrich/counters.rs"]
mod counters;
#[path = "../examples/enrich/format.rs"]
mod format;
#[path = "../examples/enrich/identity.rs"]
mod identity;
#[path = "../examples/enrich/input.rs"]
mod input;
#[path = "../examples/enrich/line.rs"]
mod line;
#[path = "../examples/enrich/lookup.rs"]
mod lookup;
#[path = "../examples/enrich/options.rs"]
mod options;
#[path = "../examples/enrich/pace.rs"]
mod pace;
#[path = "../examples/enrich/problem.rs"]
mod problem;
#[path = "../examples/enrich/progress.rs"]
mod progress;
#[path = "../examples/enrich/rehearsal.rs"]
mod rehearsal;
#[path = "../examples/enrich/screen.rs"]
mod screen;
#[path = "../examples/enrich/sink.rs"]
mod sink;
#[path = "../examples/enrich/source.rs"]
mod source;
#[path = "../examples/terminal/mod.rs"]
mod terminal;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use inflight::lines::{self, LineFile, LinesError};
use inflight::prelude::*;
use inflight_pipeline_conformance as conformance;
use tempfile::TempDir;

use crate::airport::{Airport, Enrichment};
use crate::input::InputFile;
use crate::line::Line;
use crate::lookup::LookupError;

/// A folder in memory where there is one, because a suite syncs thousands of times.
fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    let folder =
        if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
    folder.expect("a folder")
}

fn flight(day: u64) -> String {
    format!(
        r#"{{"time":"2001-01-{:02}T12:00:00Z","origin":"A","destination":"B","delay_minutes":0,"distance_miles":{day}}}"#,
        1 + day / 2
    )
}

/// Flights of several days, two a day, and a line that is none.
struct Flights(TempDir);

impl Flights {
    fn new() -> Self {
        let flights = Self(folder());
        let mut lines: Vec<_> = (0..7).map(flight).collect();
        lines.insert(3, "no flight".into());
        fs::write(flights.path(), lines.join("\n")).expect("a file");
        flights
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("flights")
    }
}

impl conformance::source::Medium for Flights {
    type Source = source::Source;

    fn capabilities(&self) -> conformance::source::Capabilities {
        conformance::source::Capabilities {
            records: 8,
            ends: true,
            loses: true,
            ..Default::default()
        }
    }

    fn source(&mut self) -> source::Source {
        let input = InputFile::open(&self.path()).expect("it is there");
        source::Source::new(input.lines, Arc::default())
    }

    fn lose(&mut self) {
        fs::write(self.path(), flight(30).repeat(20)).expect("a file");
    }
}

// K10
#[test]
fn the_source_of_flights() {
    let report = conformance::source::check(Flights::new).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!((report.passed.len(), report.skipped), (7, vec![]));
}

/// The two output files; every second record is rejected.
struct Files(TempDir);

impl Files {
    fn paths(&self) -> [PathBuf; 2] {
        ["output", "rejected"].map(|name| self.0.path().join(name))
    }
}

impl conformance::sink::Medium for Files {
    type Record = Outcome<Line, Enrichment, LookupError>;
    type Sink = sink::Sink;

    fn capabilities(&self) -> conformance::sink::Capabilities {
        conformance::sink::Capabilities {
            visible: conformance::sink::Visible::UntilAbort,
            owners: conformance::sink::Owners::SecondRefused,
            steps: 4,
            ..Default::default()
        }
    }

    fn open(&mut self) -> Result<sink::Sink, LinesError> {
        let [output, rejected] = self.paths();
        Ok(sink::Sink {
            output: LineFile::open(output)?,
            rejected: LineFile::open(rejected)?,
            identity: identity::Identity::default(),
            counters: Arc::default(),
            crash_after: None,
            rehearsal: rehearsal::Rehearsal::default(),
        })
    }

    fn record(&mut self, number: u64) -> Self::Record {
        let bytes = flight(0).into_bytes();
        let length = bytes.len() as u64;
        let input = Line::new(lines::Line { number, offset: number, length, bytes });
        let name = number.to_string();
        let (city, state) = (String::new(), String::new());
        let airport = Airport { name, city, state, latitude: 0.0, longitude: 0.0 };
        let result = match number % 2 {
            0 => Ok(Enrichment { origin_airport: airport.clone(), destination_airport: airport }),
            _ => Err(Failure::Error(LookupError::NoSuchAirport(number.to_string()))),
        };
        Outcome { input, result, attempts: 1, elapsed: Default::default() }
    }

    fn read(&mut self) -> Vec<u64> {
        let [output, rejected] = self.paths().map(|path| {
            let text = fs::read_to_string(path).expect("a file");
            let line = |line| serde_json::from_str::<serde_json::Value>(line).expect("an object");
            text.lines().map(line).collect::<Vec<_>>()
        });
        let names = output.iter().map(|line| line["origin_airport"]["name"].as_str());
        let names = names.map(|name| name.and_then(|name| name.parse().ok()).expect("a number"));
        let rejected = rejected.iter().map(|line| line["number"].as_u64().expect("a number"));
        names.chain(rejected).collect()
    }
}

// K10
#[test]
fn the_sink_of_enriched_flights() {
    let report = conformance::sink::check(|| Files(folder())).unwrap_or_else(|it| panic!("{it}"));
    assert_eq!(report.skipped, [conformance::sink::Check::Vanished]);
}
