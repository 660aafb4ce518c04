//! What goes in and what comes out.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use inflight::{Outcome, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ask::AskError;

/// A record of the input stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The shard that has it.
    pub shard: Arc<str>,
    /// Its number in the shard: decimal digits, larger for each next record, with gaps.
    pub sequence: String,
    /// Its partition key. Records of one key are in the order in which they were put.
    pub key: String,
    pub data: Vec<u8>,
    /// When Kinesis took it.
    pub arrived: Option<Timestamp>,
}

/// A record of the output stream, as JSON. It says of which input it is, so that a reader recognises one that comes again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    pub shard: String,
    pub sequence: String,
    /// The service's answer, or the reason why there is none.
    pub answer: Result<String, String>,
}

impl Answer {
    pub fn new(outcome: &Outcome<Record, String, AskError>) -> Self {
        let Record { shard, sequence, .. } = &outcome.input;
        let answer = outcome.result.clone().map_err(|failure| failure.to_string());
        Self { shard: shard.to_string(), sequence: sequence.clone(), answer }
    }
}

/// Recognises the answers that a reader of the output stream has had before.
///
/// One number for each key and shard is enough. The job puts the answers of a key in the order of their inputs, and goes back only by
/// starting over from a checkpoint. So an answer that is not beyond all earlier ones of its key and shard was there before.
#[derive(Debug, Default)]
pub struct Seen(BTreeMap<(String, String), String>);

impl Seen {
    /// Whether this is the first time that the answer comes.
    pub fn is_new(&mut self, key: &str, answer: &Answer) -> bool {
        let latest = self.0.entry((key.to_owned(), answer.shard.clone())).or_default();
        let is_new = compare(&answer.sequence, latest) == Ordering::Greater;
        if is_new {
            latest.clone_from(&answer.sequence);
        }
        is_new
    }
}

/// Compares two sequence numbers of one shard. They have too many digits for an integer.
fn compare(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(shard: &str, sequence: &str) -> Answer {
        Answer { shard: shard.into(), sequence: sequence.into(), answer: Ok(String::new()) }
    }

    // K10
    #[test]
    fn an_answer_that_comes_again_is_recognised() {
        let mut seen = Seen::default();
        let mut is_new = |key, shard, sequence| seen.is_new(key, &answer(shard, sequence));
        assert!(is_new("a", "shard-1", "9"));
        assert!(is_new("a", "shard-1", "10"));
        assert!(!is_new("a", "shard-1", "9"), "a crash has led back");
        assert!(!is_new("a", "shard-1", "10"));
        assert!(is_new("b", "shard-1", "8"), "keys go on independently");
        assert!(is_new("a", "shard-2", "3"), "numbers of another shard cannot be compared");
        assert!(!is_new("a", "shard-1", "10"), "a late repetition from the parent");
        assert!(is_new("a", "shard-2", "4"));
    }
}
