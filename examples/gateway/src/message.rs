//! The input: a device's reading, or an unreadable message.

use inflight::hash_key;
use serde::{Deserialize, Serialize};

/// A message, as the stage takes it in and a checkpoint keeps it in flight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Message {
    /// A reading.
    Reading(Reading),
    /// An unreadable message, with the reason. It goes to the dead letters, like a reading that cannot be
    /// enriched.
    Unreadable { topic: String, payload: Vec<u8>, reason: String },
}

/// A device's measurement. A device never uses a number twice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub device: String,
    pub sequence: u64,
    pub value: f64,
}

impl Message {
    pub fn parse(topic: &[u8], payload: &[u8]) -> Self {
        let reason = match serde_json::from_slice::<Reading>(payload) {
            Ok(reading) if is_name(&reading.device) => return Self::Reading(reading),
            Ok(_) => "a device's name has 1 to 64 letters, digits, - and _".to_owned(),
            Err(error) => error.to_string(),
        };
        let topic = String::from_utf8_lossy(topic).into_owned();
        Self::Unreadable { topic, payload: payload.into(), reason }
    }

    /// Its id in the stream. An unreadable message has no number; its id is a hash of its content.
    pub fn id(&self) -> String {
        match self {
            Self::Reading(reading) => format!("{}/{}", reading.device, reading.sequence),
            Self::Unreadable { .. } => format!("unreadable/{:016x}", self.fingerprint()),
        }
    }

    /// The key: the messages of one device are ordered.
    pub fn device(&self) -> &str {
        match self {
            Self::Reading(reading) => &reading.device,
            Self::Unreadable { .. } => "",
        }
    }

    /// A 64-bit hash of the content of an unreadable message.
    pub fn fingerprint(&self) -> u64 {
        match self {
            Self::Reading(reading) => hash_key(&(&reading.device, reading.sequence)),
            Self::Unreadable { topic, payload, .. } => hash_key(&(topic, payload)),
        }
    }
}

/// True if this can be a part of a topic and of a subject.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_is_read_and_anything_else_says_why_not() {
        let parse = |payload: &str| Message::parse(b"gateway/readings/pump", payload.as_bytes());
        let reading = Reading { device: "pump".into(), sequence: 3, value: 21.5 };
        let message = parse(r#"{"device":"pump","sequence":3,"value":21.5}"#);
        assert_eq!(message, Message::Reading(reading));
        assert_eq!(message.id(), "pump/3");
        for poison in [
            "",
            r#"{"device":"pump","sequence":3,"val"#,
            r#"{"device":"pump","sequence":-3,"value":21.5}"#,
            r#"{"device":"pump.>","sequence":3,"value":21.5}"#,
            r#"{"device":"","sequence":3,"value":21.5}"#,
            r#"{"device":"pump","sequence":3,"value":1e999}"#,
        ] {
            let Message::Unreadable { payload, reason, .. } = parse(poison) else {
                panic!("{poison} was read");
            };
            assert_eq!(payload, poison.as_bytes());
            assert!(!reason.is_empty());
        }
        assert_ne!(parse("a").id(), parse("b").id());
    }
}
