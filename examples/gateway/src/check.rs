//! Compares the published readings with the content of the stream.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use crate::demo::{Demo, Fate};
use crate::ledger::Ledger;
use crate::message::Reading;
use crate::options::Options;
use crate::output::{self, Enriched, claims, dead_letters};
use crate::status::Status;
use crate::stream::{Outlet, Stored};
use anyhow::Context;
use serde::Deserialize;

/// Prints the comparison. Returns status 0 if no reading is missing, duplicated, wrong or out of order.
pub async fn check(options: &Options) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::open(&options.ledger(), options.seed)?;
    let outlet = Outlet::open(options, Arc::new(Status::new())).await?;
    let mut tally = Tally::new(options, &ledger);
    let mut messages = 0;
    let claims = claims(&options.name);
    let count = |stored: Stored| {
        if stored.subject == claims {
            return;
        }
        messages += 1;
        tally.count(&stored);
    };
    outlet.read(0, false, count).await.context("reading the stream")?;
    let published = ledger.entry.confirmed;
    let (lost, duplicated) = (tally.lost(published), tally.duplicated());
    let Tally { enriched, dead, wrong, disordered, .. } = tally;
    println!(
        "published {published}: enriched {enriched}, dead letters {dead}, lost {lost}, \
         duplicated {duplicated}, wrong {wrong}, out of order {disordered}; \
         messages in the stream {messages}"
    );
    Ok(if lost + duplicated + wrong + disordered == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The content of the stream, by the number of each reading.
#[derive(Debug)]
struct Tally {
    /// The expected output of each reading, and how often it is in the stream.
    expected: HashMap<String, (u64, Fate)>,
    counts: Vec<u32>,
    /// The name of the gateway; its subjects start with it.
    name: String,
    enriched: u64,
    dead: u64,
    /// Messages with a wrong content, or that do not belong to the demo.
    wrong: u64,
    /// The latest number of each device, and the readings that came after one with a higher number.
    latest: HashMap<String, u64>,
    disordered: u64,
}

#[derive(Deserialize)]
struct DeadLetter {
    reason: String,
    reading: Option<Reading>,
    message: Option<String>,
}

impl Tally {
    fn new(options: &Options, ledger: &Ledger) -> Self {
        let demo = Demo { seed: options.seed };
        let numbers = 0..ledger.entry.offered;
        let counts = numbers.clone().map(|_| 0).collect();
        let expected = numbers.map(|number| {
            let fate = demo.fate(number);
            (key(&fate), (number, fate))
        });
        Self {
            expected: expected.collect(),
            counts,
            name: options.name.clone(),
            enriched: 0,
            dead: 0,
            wrong: 0,
            latest: HashMap::new(),
            disordered: 0,
        }
    }

    fn count(&mut self, stored: &Stored) {
        let found = if stored.subject == dead_letters(&self.name) {
            self.dead += 1;
            dead_letter(&stored.payload)
        } else {
            self.enriched += 1;
            let is_there =
                |found: &Enriched| stored.subject == output::enriched(&self.name, &found.device);
            serde_json::from_slice(&stored.payload).ok().filter(is_there).map(Fate::Enriched)
        };
        if let Some(Fate::Enriched(reading)) = &found {
            self.look_at_order(reading);
        }
        match found.and_then(|found| self.number(&found)) {
            Some(number) => self.counts[number] += 1,
            None => {
                eprintln!("wrong: {} {}", stored.subject, String::from_utf8_lossy(&stored.payload));
                self.wrong += 1;
            }
        }
    }

    fn look_at_order(&mut self, reading: &Enriched) {
        let latest = self.latest.entry(reading.device.clone()).or_default();
        self.disordered += u64::from(reading.sequence < *latest);
        *latest = reading.sequence.max(*latest);
    }

    /// The number of the reading, if the message is its expected output.
    fn number(&self, found: &Fate) -> Option<usize> {
        let (number, expected) = self.expected.get(&key(found))?;
        usize::try_from(*number).ok().filter(|_| found == expected)
    }

    /// A reading that was offered and not confirmed may be in the stream or not.
    fn lost(&self, confirmed: u64) -> u64 {
        self.counts.iter().zip(0..confirmed).filter(|(count, _)| **count == 0).count() as u64
    }

    fn duplicated(&self) -> u64 {
        self.counts.iter().map(|count| u64::from(count.saturating_sub(1))).sum()
    }
}

fn key(fate: &Fate) -> String {
    match fate {
        Fate::Enriched(Enriched { device, sequence, .. })
        | Fate::Stranger(Reading { device, sequence, .. }) => format!("{device}/{sequence}"),
        Fate::Garbled(text) => text.clone(),
    }
}

/// A dead letter has a reason.
fn dead_letter(payload: &[u8]) -> Option<Fate> {
    let letter: DeadLetter = serde_json::from_slice(payload).ok()?;
    let fate = letter.reading.map(Fate::Stranger).or(letter.message.map(Fate::Garbled));
    fate.filter(|_| !letter.reason.is_empty())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::ledger::Entry;

    /// Enough readings for all three fates.
    const READINGS: u64 = 2_000;

    /// The expected content of the stream.
    fn stored(seed: u64, number: u64) -> Stored {
        let (subject, payload) = match (Demo { seed }).fate(number) {
            Fate::Enriched(reading) => {
                (output::enriched("gateway", &reading.device), json!(reading))
            }
            Fate::Stranger(reading) => (
                dead_letters("gateway"),
                json!({ "reason": "nobody knows it", "reading": reading }),
            ),
            Fate::Garbled(text) => {
                (dead_letters("gateway"), json!({ "reason": "no JSON", "message": text }))
            }
        };
        Stored {
            sequence: 0,
            id: String::new(),
            subject,
            payload: payload.to_string().into_bytes(),
        }
    }

    /// The verdict after `spoil` has changed the stream: lost, duplicated, wrong, out of order.
    fn spoilt(spoil: impl FnOnce(&mut Vec<Stored>)) -> [u64; 4] {
        let options = Options::parse_from(["inflight-gateway"]);
        let entry = Entry { seed: options.seed, confirmed: READINGS, offered: READINGS };
        let folder = tempfile::tempdir().expect("a folder");
        let mut ledger = Ledger::open(&folder.path().join("ledger"), options.seed).expect("new");
        ledger.entry = entry;
        let mut stream = (0..READINGS).map(|number| stored(options.seed, number)).collect();
        spoil(&mut stream);
        let mut tally = Tally::new(&options, &ledger);
        stream.iter().for_each(|stored| tally.count(stored));
        [tally.lost(READINGS), tally.duplicated(), tally.wrong, tally.disordered]
    }

    /// The first message whose subject starts with a prefix.
    fn first(stream: &[Stored], subject: &str) -> usize {
        stream.iter().position(|stored| stored.subject.starts_with(subject)).expect("there is one")
    }

    /// Controls: the check must notice each kind of fault, also among the dead letters.
    #[test]
    fn whatever_is_wrong_in_the_stream_is_noticed() {
        assert_eq!(spoilt(|_| ()), [0, 0, 0, 0]);
        for subject in ["gateway.enriched.", "gateway.dead"] {
            // lost, duplicated, wrong, out of order
            let torn = |stream: &mut Vec<Stored>| {
                let first = first(stream, subject);
                _ = stream[first].payload.pop();
            };
            assert_eq!(spoilt(torn), [1, 0, 1, 0], "half a message");
            let twice = |stream: &mut Vec<Stored>| {
                let Stored { sequence, id, subject, payload } = &stream[first(stream, subject)];
                let (sequence, id) = (*sequence, id.clone());
                let (subject, payload) = (subject.clone(), payload.clone());
                stream.insert(0, Stored { sequence, id, subject, payload });
            };
            assert_eq!(spoilt(twice), [0, 1, 0, 0], "twice");
            let gone = |stream: &mut Vec<Stored>| _ = stream.remove(first(stream, subject));
            assert_eq!(spoilt(gone), [1, 0, 0, 0], "not there");
            let elsewhere = |stream: &mut Vec<Stored>| {
                let first = first(stream, subject);
                stream[first].subject = "gateway.enriched.nobody".into();
            };
            assert_eq!(spoilt(elsewhere), [1, 0, 1, 0], "under another subject");
        }
        let late = |stream: &mut Vec<Stored>| {
            let first = stream.remove(first(stream, "gateway.enriched."));
            stream.push(first);
        };
        assert_eq!(spoilt(late), [0, 0, 0, 1], "behind a later one of its device");
        let no_reason = |stream: &mut Vec<Stored>| {
            let letter = first(stream, "gateway.dead");
            let text = String::from_utf8_lossy(&stream[letter].payload).into_owned();
            let text = text.replace("nobody knows it", "").replace("no JSON", "");
            stream[letter].payload = text.into();
        };
        assert_eq!(spoilt(no_reason), [1, 0, 1, 0], "a dead letter without a reason");
    }
}
