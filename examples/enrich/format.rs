//! The formats of the two output files.

use std::fmt::Write;

use inflight::prelude::*;
use serde::Serialize;

use crate::airport::Enrichment;
use crate::line::Line;
use crate::lookup::LookupError;

/// The flight with its airports. Its own fields stay byte for byte.
pub fn enriched(line: &Line, airports: &Enrichment) -> Vec<u8> {
    let raw = &line.at.bytes;
    // A flight is an object with fields, so its line ends in a brace and a comma may follow.
    let mut text = raw.trim_ascii_end().strip_suffix(b"}").unwrap_or(raw).to_vec();
    text.push(b',');
    text.extend_from_slice(&json(airports)[1..]);
    text
}

/// A line of the rejected file.
pub fn rejected(line: &Line, reason: &str) -> Vec<u8> {
    #[derive(Default, Serialize)]
    struct Rejected<'a> {
        number: u64,
        offset: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        line: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line_hex: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line_start: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        line_length: Option<u64>,
        reason: &'a str,
    }
    let line = &line.at;
    let mut rejected =
        Rejected { number: line.number, offset: line.offset, reason, ..Rejected::default() };
    match str::from_utf8(&line.bytes) {
        _ if !line.is_whole() => {
            rejected.line_start = Some(String::from_utf8_lossy(&line.bytes).into_owned());
            rejected.line_length = Some(line.length);
        }
        Ok(text) => rejected.line = Some(text),
        Err(_) => rejected.line_hex = Some(hex(&line.bytes)),
    }
    json(&rejected)
}

/// The reason why a line was rejected.
pub fn reason(failure: &Failure<LookupError>, attempts: u32) -> String {
    match failure {
        Failure::Error(error) if error.is_transient() => {
            format!("{error}; given up after {attempts} attempts")
        }
        Failure::Error(error) => error.to_string(),
        other => format!("{other}; given up after {attempts} attempts"),
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Serialisation fails only for maps whose keys are not strings, and there are none here.
    serde_json::to_vec(value).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap_or_default();
        text
    })
}
