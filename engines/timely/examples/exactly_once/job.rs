//! The job of a worker: what it goes on from, its dataflow, and its source.

use std::cell::Cell;
use std::error::Error;
use std::rc::Rc;
use std::time::Duration;

use inflight_core::{AsyncWait, AsyncWaitExt, FixedDelay, Outcome, hash_key};
use inflight_timely::{AsyncWaitOperator, Throttle};
use inflight_tokio::Tokio;
use serde::{Deserialize, Serialize};
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::vec::{Broadcast, Input};
use timely::dataflow::operators::{Inspect, Probe};
use timely::worker::Worker;

use crate::journal::Journal;
use crate::options::Options;
use crate::sink::{Positions, journal};

/// Records that a source sends in an epoch.
const EPOCH: u64 = 20;
/// Records that a source has sent and that are not in a journal.
const UNSAVED: usize = 200;
const KEYS: u64 = 40;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) partition: u64,
    pub(crate) number: u64,
    pub(crate) key: u64,
}

pub(crate) type Answered = Outcome<Record, u64, &'static str>;

/// Runs a worker's part, from what its journal has to the end of its partition.
pub(crate) fn run(worker: &mut Worker, options: &Options) -> Result<(), Box<dyn Error>> {
    let partition = worker.index() as u64;
    let mut saved = Journal::open(&options.folder.join(format!("worker-{partition}")))?;
    if !options.is_unaligned {
        let epochs = least(worker, saved.epochs());
        saved.go_back(epochs, !options.is_uncut)?;
    }
    println!("goes on at {}", saved.epochs());
    let (mut epoch, mut position) = (saved.epochs(), saved.position());

    let positions = Positions::default();
    let for_sink = Rc::clone(&positions);
    let (mut input, probe) = worker.dataflow(|scope| {
        let (input, records) = scope.new_input();
        let to_owner = Exchange::new(|record: &Record| record.key);
        let answers = records.async_stages(to_owner, "ask", |records| {
            let policy = AsyncWait::ordered_by_key(64, |record: &Record| record.key)
                .retry(FixedDelay::new(Duration::from_millis(1)).max_retries(10));
            records.async_wait(policy, ask).in_place(Tokio)
        })?;
        let (probe, _) = journal(answers, saved, for_sink, options.save_takes).probe();
        Ok::<_, Box<dyn Error>>((input, probe))
    })?;

    input.advance_to(epoch);
    let mut throttle = Throttle::new(&probe, UNSAVED);
    while position < options.records {
        throttle.wait(worker);
        let end = options.records.min(position + EPOCH);
        for number in position..end {
            let key = hash_key(&(partition, number)) % KEYS;
            input.send(Record { partition, number, key });
        }
        throttle.fed(&epoch, (end - position) as usize);
        position = end;
        positions.borrow_mut().insert(epoch, position);
        epoch += 1;
        input.advance_to(epoch);
    }
    input.close();
    while worker.step_or_park(None) {}
    Ok(())
}

/// The smallest number of epochs that a worker has.
fn least(worker: &mut Worker, epochs: u64) -> u64 {
    let least = Rc::new(Cell::new(epochs));
    let heard = Rc::clone(&least);
    let (mut input, probe) = worker.dataflow::<u64, _, _>(|scope| {
        let (input, numbers) = scope.new_input::<u64>();
        let (probe, _) =
            numbers.broadcast().inspect(move |epochs| heard.set(heard.get().min(*epochs))).probe();
        (input, probe)
    });
    input.send(epochs);
    input.close();
    worker.step_or_park_while(None, || !probe.done());
    least.get()
}

/// A service that takes 1 to 15 ms, and refuses some records now and then.
fn ask(record: &Record) -> impl Future<Output = Result<u64, &'static str>> + use<> {
    let number = record.number;
    let dice = rand::random::<u64>();
    async move {
        tokio::time::sleep(Duration::from_millis(1 + dice % 15)).await;
        if dice % 50 == 7 { Err("busy") } else { Ok(number * number) }
    }
}
