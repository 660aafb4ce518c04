//! The tables: the cost of checkpoints, beside the plainest code that does the same, in one run.

use std::convert::Infallible;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as Moment};

use anyhow::{Result, ensure};
use futures_lite::future::block_on;
use inflight::pipeline::{Ended, Pipeline, ReplayableSource, Report, TransactionalSink};
use inflight::prelude::*;
use inflight::{
    FileStore, Heap, Instant, NullStore, ObjectCheckpointStore, Operator, RedbFile, Unkeyed,
};
use object_store::local::LocalFileSystem;
use serde::{Deserialize, Serialize};

use super::Options;
use crate::machine;
use crate::meter::Clock;

/// The size of a checkpoint on the medium.
const CHECKPOINT: usize = 64 * 1024;
const INTERVAL: Duration = Duration::from_millis(100);
const WINDOW: usize = 10_000;
const SERVICE: Duration = Duration::from_millis(10);

/// About the size of a sensor's reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    time: u64,
    value: f64,
}

impl Reading {
    fn number(number: usize) -> Self {
        Self { sensor: format!("sensor-{}", number % 1000), time: number as u64, value: 21.5 }
    }
}

/// Runs all three and prints their tables.
pub(super) fn print(options: &Options) -> Result<()> {
    println!("{}\n", machine::describe());
    println!(
        "snapshot and restore of the records in flight; beside a list of the same records in postcard"
    );
    println!(
        "{:>9} {:>14} {:>8} {:>14} {:>8} {:>9}",
        "in flight", "snapshot ns", "ratio", "restore ns", "ratio", "bytes"
    );
    for &in_flight in &options.in_flight {
        snapshots(in_flight, options.samples)?;
    }
    durable(options.samples * 10)?;
    throughput(options)
}

type Stage = Operator<(Reading, u64, Infallible, NoRetry, Unkeyed, ()), Heap>;

fn stage(capacity: usize) -> Result<Stage> {
    Ok(AsyncWait::ordered(capacity).build_core()?.checkpointed("stage", 1))
}

/// Nanoseconds and bytes per record.
fn snapshots(in_flight: usize, samples: usize) -> Result<()> {
    let readings: Vec<_> = (0..in_flight).map(Reading::number).collect();
    let mut full = stage(in_flight)?;
    for reading in &readings {
        let pushed = full.push(Instant::ZERO, StreamElement::value(reading.clone()));
        ensure!(pushed.is_ok(), "there is room");
        full.poll_attempt(Instant::ZERO);
    }
    let mut took: [Vec<f64>; 4] = Default::default();
    let (mut bytes, per) = (0, in_flight as f64);
    for _ in 0..samples {
        let mut checkpoint = Checkpoint::new(CheckpointId(1));
        took[0].push(time(Clock::Thread, || full.snapshot(Instant::ZERO, &mut checkpoint))?);
        bytes = checkpoint.bytes()?.len();
        let (mut empty, mut list) = (stage(in_flight)?, Vec::new());
        took[1].push(time(Clock::Thread, || empty.restore(Instant::ZERO, &checkpoint))?);
        ensure!(empty.in_flight() == in_flight, "all are back");
        took[2].push(time(Clock::Thread, || {
            postcard::to_allocvec(&readings).map(|bytes| list = bytes)
        })?);
        took[3].push(time(Clock::Thread, || {
            postcard::from_bytes::<Vec<Reading>>(&list).map(|list| _ = black_box(list))
        })?);
    }
    let [snapshot, restore, write, read] = took.map(|took| median(took) * 1e9 / per);
    let (bytes, writing, reading) = (bytes as f64 / per, snapshot / write, restore / read);
    println!(
        "{in_flight:>9} {snapshot:>14.1} {writing:>8.2} {restore:>14.1} {reading:>8.2} {bytes:>9.1}"
    );
    Ok(())
}

/// A durable checkpoint of 64 KiB: each store beside the plainest code that is equally safe.
fn durable(samples: usize) -> Result<()> {
    println!(
        "\na durable checkpoint of 64 KiB, in microseconds; beside write, sync, rename, sync the folder"
    );
    println!("{:>14} {:>8} {:>8} {:>8}", "", "store", "plain", "ratio");
    let folder = tempfile::tempdir()?;
    beside_plain("file", samples, &mut FileStore::open(folder.path().join("store"))?)?;
    let file = RedbFile::open(folder.path().join("redb"))?;
    beside_plain("redb", samples, &mut file.job("job", 2)?)?;
    let files = LocalFileSystem::new_with_prefix(folder.path())?.with_fsync(true);
    let store = block_on(ObjectCheckpointStore::open(files, "job".into(), 2));
    beside_plain("object, local", samples, &mut store?)
}

fn beside_plain<C>(name: &str, samples: usize, store: &mut C) -> Result<()>
where
    C: CheckpointStore<Error: Send + Sync>,
{
    let folder = tempfile::tempdir()?;
    let bytes = vec![7; CHECKPOINT];
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for id in 0..samples as u64 {
        ours.push(time(Clock::Wall, || block_on(store.save(CheckpointId(id), &bytes)))?);
        plain.push(time(Clock::Wall, || replace(folder.path(), &bytes))?);
    }
    let (ours, plain) = (median(ours) * 1e6, median(plain) * 1e6);
    println!("{name:>14} {ours:>8.0} {plain:>8.0} {:>8.2}", ours / plain);
    Ok(())
}

fn replace(folder: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let new = folder.join("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, folder.join("checkpoint"))?;
    File::open(folder)?.sync_all()
}

/// A checkpoint every 100 ms against none, with 10,000 in flight.
fn throughput(options: &Options) -> Result<()> {
    let (mut without, mut with, mut saved) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.samples.div_ceil(2) {
        without.push(rate(NullStore, None, options.records)?.0);
        let folder = tempfile::tempdir()?;
        let store = FileStore::open(folder.path())?;
        let (rate, checkpoints) = rate(store, Some(INTERVAL), options.records)?;
        with.push(rate);
        saved += checkpoints;
    }
    let lost = 100.0 * (1.0 - median(with.clone()) / median(without.clone()));
    println!(
        "\n10,000 in flight, 10 ms each, on a task of its own: {:.0} records per second without",
        median(without)
    );
    println!(
        "checkpoints, {:.0} with one every 100 ms ({saved} in all): {lost:.1} % lost (Flink loses about 1 %)",
        median(with)
    );
    Ok(())
}

fn rate<C: CheckpointStore>(
    store: C,
    interval: Option<Duration>,
    records: u64,
) -> Result<(f64, u64)>
where
    C::Error: Send + Sync,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (mut count, mut saved) = (Count::default(), 0);
    let start = Moment::now();
    let mut pipeline = Pipeline::new(Numbers { next: 0, end: records }, &mut count, store);
    if let Some(interval) = interval {
        pipeline = pipeline.interval(interval);
    }
    let count_saved =
        |report: Report<'_>| saved += u64::from(matches!(report, Report::Saved { .. }));
    let running = pipeline.on_report(count_saved).run(Tokio, |numbers, checkpoint| {
        numbers
            .async_wait(AsyncWait::ordered(WINDOW), |reading: &Reading| {
                let time = reading.time;
                async move {
                    tokio::time::sleep(SERVICE).await;
                    Ok::<_, Infallible>(time)
                }
            })
            .checkpointed("stage", 1)
            .restore(checkpoint)
            .spawn(Tokio)
    });
    let ended = runtime.block_on(running)?;
    let seconds = start.elapsed().as_secs_f64();
    ensure!(ended == Ended::Finished && count.0 == records, "{} of {records}", count.0);
    Ok((records as f64 / seconds, saved))
}

struct Numbers {
    next: u64,
    end: u64,
}

impl ReplayableSource for Numbers {
    type Record = Reading;
    type Position = u64;
    type Error = Infallible;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), Infallible> {
        self.next = position.unwrap_or(self.next);
        Ok(())
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<Reading>, Infallible>>> {
        if self.next == self.end {
            return Poll::Ready(None);
        }
        self.next += 1;
        Poll::Ready(Some(Ok(StreamElement::value(Reading::number(self.next as usize)))))
    }

    fn position(&self) -> u64 {
        self.next
    }

    fn acknowledger(&mut self) {}
}

/// Counts the items of a stream.
#[derive(Debug, Default)]
struct Count(u64);

impl TransactionalSink<Outcome<Reading, u64, Infallible>> for Count {
    type Prepared = u64;
    type Error = Infallible;

    async fn write(
        &mut self,
        outcome: Outcome<Reading, u64, Infallible>,
        _: Option<Timestamp>,
    ) -> Result<(), Infallible> {
        self.0 += u64::from(outcome.result == Ok(outcome.input.time));
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<u64, Infallible> {
        Ok(self.0)
    }

    async fn commit(&mut self, _: CheckpointId, _: &u64) -> Result<(), Infallible> {
        Ok(())
    }

    async fn abort(&mut self, _: Option<&u64>) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Seconds that `work` took.
pub(super) fn time<E>(clock: Clock, work: impl FnOnce() -> Result<(), E>) -> Result<f64, E> {
    let start = clock.now();
    work().map(|()| clock.now() - start)
}

pub(super) fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}
