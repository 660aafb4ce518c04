//! What went in against what is in the stream.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use crate::demo::{Demo, Fate};
use crate::ledger::Ledger;
use crate::message::Reading;
use crate::options::Options;
use crate::output::{Enriched, dead_letters};
use crate::status::Status;
use crate::stream::{Outlet, Stored};
use anyhow::Context;
use serde::Deserialize;

/// Prints the comparison. Status 0 when nothing is missing, doubled, wrong or out of order.
pub async fn check(options: &Options) -> anyhow::Result<ExitCode> {
    let ledger = Ledger::open(&options.ledger(), options.seed)?;
    let outlet = Outlet::open(options, Arc::new(Status::new())).await?;
    let mut tally = Tally::new(options, &ledger);
    let mut messages = 0;
    let count = |stored| {
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

/// What is in the stream, by the number of the reading it is of.
#[derive(Debug)]
struct Tally {
    /// What each reading has to come out as, and how often it did.
    expected: HashMap<String, (u64, Fate)>,
    counts: Vec<u32>,
    dead_letters: String,
    enriched: u64,
    dead: u64,
    /// Not what it has to be, or not of the demo.
    wrong: u64,
    /// The latest number of each device, and how many readings came behind one with a higher number.
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
            dead_letters: dead_letters(&options.name),
            enriched: 0,
            dead: 0,
            wrong: 0,
            latest: HashMap::new(),
            disordered: 0,
        }
    }

    fn count(&mut self, stored: &Stored) {
        let found = if stored.subject == self.dead_letters {
            self.dead += 1;
            dead_letter(&stored.payload)
        } else {
            self.enriched += 1;
            serde_json::from_slice(&stored.payload).ok().map(Fate::Enriched)
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

    /// The number of the reading, if this is what had to become of it.
    fn number(&self, found: &Fate) -> Option<usize> {
        let (number, expected) = self.expected.get(&key(found))?;
        usize::try_from(*number).ok().filter(|_| found == expected)
    }

    /// A reading that was offered and not confirmed may be there or not.
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
