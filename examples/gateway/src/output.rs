//! The output: an enriched reading, or a dead letter with the reason.

use inflight::Outcome;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::devices::{Device, EnrichError};
use crate::message::{Message, Reading};

/// A message for the stream, as a checkpoint keeps it until it is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    pub id: String,
    pub subject: String,
    pub payload: Vec<u8>,
}

/// A reading with the data of its device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Enriched {
    pub device: String,
    pub sequence: u64,
    pub site: String,
    /// The device's own value, calibrated.
    pub value: f64,
}

impl Enriched {
    pub fn new(reading: Reading, device: Device) -> Self {
        let value = reading.value * device.gain + device.bias;
        Self { device: reading.device, sequence: reading.sequence, site: device.site, value }
    }
}

/// The output for a message, on the subjects under `name`.
pub fn render(name: &str, done: Outcome<Message, Device, EnrichError>) -> Output {
    let id = done.input.id();
    let (subject, payload) = match (done.result, done.input) {
        (Ok(device), Message::Reading(reading)) => {
            let subject = enriched(name, &reading.device);
            (subject, json!(Enriched::new(reading, device)))
        }
        (result, input) => {
            let reason = result.err().map_or_else(String::new, |failure| failure.to_string());
            (dead_letters(name), dead_letter(&input, &reason))
        }
    };
    Output { id, subject, payload: payload.to_string().into_bytes() }
}

pub fn enriched(name: &str, device: &str) -> String {
    format!("{name}.enriched.{device}")
}

pub fn dead_letters(name: &str) -> String {
    format!("{name}.dead")
}

/// The subject on which each owner of the stream claims it.
pub fn claims(name: &str) -> String {
    format!("{name}.owner")
}

/// The original message, and the reason. Content that is not UTF-8 is written in hexadecimal digits.
fn dead_letter(message: &Message, reason: &str) -> serde_json::Value {
    match message {
        Message::Reading(reading) => json!({ "reason": reason, "reading": reading }),
        Message::Unreadable { topic, payload, .. } => match str::from_utf8(payload) {
            Ok(text) => json!({ "reason": reason, "topic": topic, "message": text }),
            Err(_) => {
                let hex: String = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                json!({ "reason": reason, "topic": topic, "message_hex": hex })
            }
        },
    }
}
