//! A line of the input on its way through the stage, and its flight.

use std::fmt::{self, Display};

use inflight::lines;
use inflight::prelude::*;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

/// Longer lines are rejected, and only their first [`KEPT`] bytes are kept, because 100 lines in flight must
/// fit into the memory and into a checkpoint.
pub const MAX_LENGTH: usize = 64 * 1024;
pub const KEPT: usize = 256;

/// The records of the stage. A record has all data for either output file, and a checkpoint holds it for each
/// call in flight.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The line and its position; or its beginning, if it is too long.
    pub at: lines::Line,
    /// Its flight. A broken line is a record like any other, so that it keeps its position.
    pub flight: Result<Flight, BadLine>,
}

/// The fields of a flight that the lookup needs; the other fields pass through unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    pub origin: String,
    pub destination: String,
    /// The departure, in milliseconds since the epoch.
    time: i64,
}

/// The reason why a line is not a flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BadLine(String);

impl Line {
    pub fn new(at: lines::Line) -> Self {
        let flight = if at.is_whole() {
            Flight::parse(&at.bytes)
        } else {
            Err(BadLine(format!("the line is longer than {MAX_LENGTH} bytes")))
        };
        Self { at, flight }
    }

    /// The event time, if there is one.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.flight.as_ref().ok().map(|flight| Timestamp::from_millis(flight.time))
    }
}

impl Flight {
    fn parse(raw: &[u8]) -> Result<Self, BadLine> {
        let text = str::from_utf8(raw).map_err(|_| BadLine("the line is not UTF-8".into()))?;
        match text.trim_start().chars().next() {
            None => return Err(BadLine("the line is empty".into())),
            // serde would also accept a list of the right values.
            Some('[') => return Err(BadLine("the line is a list and not a JSON object".into())),
            _ => {}
        }
        let fields: Fields = serde_json::from_str(text).map_err(BadLine::from)?;
        if fields.origin_airport || fields.destination_airport {
            return Err(BadLine("the flight has airports already".into()));
        }
        let time = humantime::parse_rfc3339(&fields.time).map_err(|error| {
            BadLine(format!(
                "`time` is {:?} and not like 2001-01-31T12:00:00Z: {error}",
                fields.time
            ))
        })?;
        let since_epoch = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let time = i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX);
        Ok(Self { origin: fields.origin, destination: fields.destination, time })
    }
}

/// All fields of a flight: each has to exist, with its type.
#[derive(Deserialize)]
#[serde(expecting = "a flight, which is a JSON object")]
struct Fields {
    time: String,
    origin: String,
    destination: String,
    #[serde(rename = "delay_minutes")]
    _delay_minutes: f64,
    #[serde(rename = "distance_miles")]
    _distance_miles: f64,
    #[serde(default, deserialize_with = "there")]
    origin_airport: bool,
    #[serde(default, deserialize_with = "there")]
    destination_airport: bool,
}

/// The field exists, with any value.
fn there<'de, D: Deserializer<'de>>(field: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(field).map(|_| true)
}

impl From<serde_json::Error> for BadLine {
    fn from(error: serde_json::Error) -> Self {
        let what = error.to_string();
        // serde_json adds its own line number, which is always 1 here.
        let what = what.split(" at line ").next().unwrap_or_default();
        Self(match error.classify() {
            serde_json::error::Category::Data => what.to_owned(),
            _ => format!("the line is not JSON: {what} (column {})", error.column()),
        })
    }
}

impl Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
