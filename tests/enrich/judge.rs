//! Checks the output of a finished job: each line of both of its files.

use std::collections::HashMap;
use std::fmt;

use serde_json::{Map, Value};

use crate::harness::{Job, enriched};

/// The faults in the two files of a job; all numbers are zero if there are none.
#[derive(Default, PartialEq)]
pub struct Verdict {
    /// Lines that are not a JSON object, and a last line without a line feed.
    pub torn: usize,
    pub lost: usize,
    pub duplicated: usize,
    /// Whole lines that do not belong there.
    pub foreign: usize,
    /// Files whose lines are not in the order of the input, although they should be.
    pub out_of_order: usize,
    /// The first fault of each kind.
    examples: Vec<String>,
}

impl Verdict {
    pub fn is_good(&self) -> bool {
        self == &Self::default()
    }

    /// Adds up the verdicts on several jobs.
    pub fn add(&mut self, other: Self) {
        let Self { torn, lost, duplicated, foreign, out_of_order, examples } = other;
        self.torn += torn;
        self.lost += lost;
        self.duplicated += duplicated;
        self.foreign += foreign;
        self.out_of_order += out_of_order;
        self.examples.extend(examples);
    }

    fn note(&mut self, file: &str, kind: &str, line: impl fmt::Display) {
        let start = format!("{file}: {kind}: ");
        if !self.examples.iter().any(|example| example.starts_with(&start)) {
            self.examples.push(format!("{start}{line}"));
        }
    }

    /// Compares the lines of one file with the expected ones.
    fn file(&mut self, file: &str, bytes: &[u8], expected: &[String], say: Say, is_ordered: bool) {
        let mut found = Vec::new();
        let mut lines = bytes.split(|byte| *byte == b'\n');
        // The text after the last line feed must be empty.
        let rest = lines.next_back().filter(|rest| !rest.is_empty());
        for (line, is_whole) in lines.map(|line| (line, true)).chain(rest.map(|rest| (rest, false)))
        {
            match serde_json::from_slice(line).ok().filter(|_| is_whole) {
                Some(object) => found.push(say(object)),
                None => {
                    self.torn += 1;
                    self.note(file, "torn", String::from_utf8_lossy(line));
                }
            }
        }
        let mut left: HashMap<&str, (i64, bool)> = HashMap::new();
        expected.iter().for_each(|line| *left.entry(line).or_default() = (1, true));
        found.iter().for_each(|line| left.entry(line).or_default().0 -= 1);
        for (line, (left, is_expected)) in left {
            let (kind, count) = match (left, is_expected) {
                (0, _) => continue,
                (1, _) => ("lost", &mut self.lost),
                (_, true) => ("duplicated", &mut self.duplicated),
                (_, false) => ("foreign", &mut self.foreign),
            };
            *count += left.unsigned_abs() as usize;
            self.note(file, kind, line);
        }
        if is_ordered && found != expected {
            self.out_of_order += 1;
            let place = found.iter().zip(expected).take_while(|(found, line)| found == line);
            self.note(file, "out of order", format_args!("line {}", place.count() + 1));
        }
    }
}

/// The part of a line that is compared.
type Say = fn(Map<String, Value>) -> String;

/// Judges the output and the file of rejected lines of a job over `input`, in which each line is a flight between
/// known airports, or broken. No two lines are equal.
pub fn judge(input: &str, is_ordered: bool, output: &[u8], rejected: &[u8]) -> Verdict {
    let is_flight = |line: &&str| line.starts_with('{') && line.ends_with('}');
    let flights: String = input.lines().filter(is_flight).flat_map(|line| [line, "\n"]).collect();
    let flights: Vec<_> = enriched(&flights).into_iter().map(flight).collect();
    let broken = input.lines().zip(1..).filter(|(line, _)| !is_flight(line));
    let broken: Vec<_> = broken.map(|(line, number)| format!("{number}: {line:?}")).collect();

    let mut verdict = Verdict::default();
    verdict.file("output", output, &flights, flight, is_ordered);
    verdict.file("rejected", rejected, &broken, rejection, is_ordered);
    verdict
}

fn flight(flight: Map<String, Value>) -> String {
    Value::from(flight).to_string()
}

/// Returns the line's number and the line, if the rejection has a reason.
fn rejection(line: Map<String, Value>) -> String {
    let text = |name| line.get(name).and_then(Value::as_str);
    match (line.get("number").and_then(Value::as_u64), text("line"), text("reason")) {
        (Some(number), Some(line), Some(reason)) if !reason.is_empty() => {
            format!("{number}: {line:?}")
        }
        _ => Value::from(line).to_string(),
    }
}

impl Job {
    /// Judges the files of the job over `input`.
    pub fn verdict(&self, input: &str, is_ordered: bool) -> Verdict {
        judge(input, is_ordered, &self.output(), &self.rejected_bytes())
    }

    /// Asserts that both files have every line, whole, once and in the order of `input`.
    #[track_caller]
    pub fn assert_complete(&self, input: &str) {
        let verdict = self.verdict(input, true);
        assert!(verdict.is_good(), "{verdict:#?}");
    }
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { torn, lost, duplicated, foreign, out_of_order, examples } = self;
        write!(f, "torn: {torn}, lost: {lost}, duplicated: {duplicated}, foreign: {foreign}, ")?;
        write!(f, "out of order: {out_of_order}")?;
        examples.iter().try_for_each(|example| write!(f, "\n  {example}"))
    }
}

mod tests {
    use super::*;
    use crate::harness::flights_and_broken_lines;

    const NUMBER: usize = 30;

    /// The two expected files.
    fn files(input: &str) -> [Vec<u8>; 2] {
        let good: String = input
            .lines()
            .filter(|line| line.starts_with('{'))
            .fold(String::new(), |text, line| text + line + "\n");
        let output = enriched(&good).into_iter().map(|line| Value::from(line).to_string() + "\n");
        let broken = input.lines().zip(1..).filter(|(line, _)| !line.starts_with('{'));
        let rejected = broken.map(|(line, number)| {
            let line = serde_json::json!({"number": number, "line": line, "reason": "no JSON"});
            format!("{line}\n")
        });
        [output.collect::<String>().into(), rejected.collect::<String>().into()]
    }

    /// The verdict on one of the two files after `spoil` has changed its lines.
    fn spoilt(which: usize, spoil: impl Fn(&mut Vec<Vec<u8>>)) -> [usize; 5] {
        let input = flights_and_broken_lines(NUMBER);
        let mut files = files(&input);
        let mut lines =
            files[which].split_inclusive(|byte| *byte == b'\n').map(Vec::from).collect();
        spoil(&mut lines);
        files[which] = lines.concat();
        let verdict = judge(&input, true, &files[0], &files[1]);
        let [torn, lost, duplicated] = [verdict.torn, verdict.lost, verdict.duplicated];
        assert_eq!(verdict.is_good(), verdict == Verdict::default());
        [torn, lost, duplicated, verdict.foreign, verdict.out_of_order]
    }

    /// The control: the judge must find each kind of fault, in either file.
    #[test]
    fn every_kind_of_fault_in_either_file_is_found() {
        for which in 0..2 {
            let spoilt = |spoil: &dyn Fn(&mut Vec<Vec<u8>>)| spoilt(which, spoil);
            assert_eq!(spoilt(&|_| ()), [0, 0, 0, 0, 0]);
            // torn, lost, duplicated, foreign, out of order
            assert_eq!(spoilt(&|lines| lines[1].truncate(20)), [1, 2, 0, 0, 1], "half a line");
            let half = |lines: &mut Vec<Vec<u8>>| lines.insert(1, b"{\"time\":\"20\n".to_vec());
            assert_eq!(spoilt(&half), [1, 0, 0, 0, 0], "half a line too many");
            assert_eq!(spoilt(&|lines| lines.insert(1, b"\n".to_vec())), [1, 0, 0, 0, 0]);
            assert_eq!(spoilt(&|lines| lines.push(b"{}".to_vec())), [1, 0, 0, 0, 0], "no end");
            assert_eq!(spoilt(&|lines| lines.push(vec![0; 40])), [1, 0, 0, 0, 0], "a hole");
            assert_eq!(spoilt(&|lines| lines[1].fill(b'\xff')), [1, 2, 0, 0, 1], "no text");
            assert_eq!(spoilt(&|lines| lines.push(b"{}\n".to_vec())), [0, 0, 0, 1, 1], "foreign");
            assert_eq!(spoilt(&|lines| lines.push(lines[0].clone())), [0, 0, 1, 0, 1], "twice");
            assert_eq!(spoilt(&|lines| drop(lines.remove(1))), [0, 1, 0, 0, 1], "not there");
            assert_eq!(spoilt(&|lines| lines.swap(0, 1)), [0, 0, 0, 0, 1], "out of order");
        }
        let no_reason = |lines: &mut Vec<Vec<u8>>| {
            let line = String::from_utf8(lines[0].clone()).unwrap();
            lines[0] = line.replace("no JSON", "").into();
        };
        assert_eq!(spoilt(1, no_reason), [0, 1, 0, 1, 1], "rejected without a reason");
    }
}
