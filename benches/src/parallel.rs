//! A function in one and in two instances, on two threads: requests that keep a core busy, and the cost of a record beside
//! `spawn_requests`, which allocates a task for each request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use futures::StreamExt;
use futures::stream::{Stream, iter};
use inflight::prelude::*;
use inflight::{AsyncWaitExt, KeySelector};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::machine;

/// Options of the measurement.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Samples of each row; they are interleaved, and the median counts.
    #[arg(long, default_value_t = 7)]
    samples: usize,
    /// Records of a sample with busy requests.
    #[arg(long, default_value_t = 20_000)]
    records: u64,
    /// The processor time of a busy request, in microseconds.
    #[arg(long, default_value_t = 20)]
    busy: u64,
}

const CAPACITY: usize = 256;
const KEYS: u64 = 1_000;

/// The least that a second instance must be worth.
const TARGET: f64 = 1.8;

/// The way in which requests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// Polled by the stage's own task.
    Stage,
    OneInstance,
    TwoInstances,
    /// Each on a task of its own.
    SpawnRequests,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    Ordered,
    ByKey,
}

#[derive(Debug, Serialize)]
struct Row {
    request: String,
    order: Order,
    way: Way,
    records_per_second: f64,
    wall_ns_a_record: f64,
    /// Of all threads together.
    cpu_ns_a_record: f64,
    samples: usize,
}

#[derive(Debug, Serialize)]
struct Ratio {
    order: Order,
    two_instances_over_one: f64,
    target: f64,
}

/// Measures all rows and prints them.
pub(crate) fn parallel(options: &Options) -> Result<()> {
    let spins = calibrate(Duration::from_micros(options.busy));
    let mut rows = Vec::new();
    for (request, spins, records) in [
        (format!("busy {} us", options.busy), spins, options.records),
        ("ready".into(), 0, 20 * options.records),
    ] {
        for order in [Order::Ordered, Order::ByKey] {
            let ways = [Way::Stage, Way::OneInstance, Way::TwoInstances, Way::SpawnRequests];
            let mut samples = ways.map(|_| Vec::new());
            for _ in 0..options.samples {
                for (way, samples) in ways.iter().zip(&mut samples) {
                    samples.push(sample(*way, order, spins, records)?);
                }
            }
            for (way, samples) in ways.into_iter().zip(samples) {
                let of = |part: fn(&Sample) -> f64| median(samples.iter().map(part).collect());
                let seconds = of(|sample| sample.wall);
                rows.push(Row {
                    request: request.clone(),
                    order,
                    way,
                    records_per_second: records as f64 / seconds,
                    wall_ns_a_record: 1e9 * seconds / records as f64,
                    cpu_ns_a_record: 1e9 * of(|sample| sample.cpu) / records as f64,
                    samples: samples.len(),
                });
            }
        }
    }
    print(options, &rows)
}

fn print(options: &Options, rows: &[Row]) -> Result<()> {
    if !options.json {
        println!("{}\n", machine::describe());
        println!("capacity {CAPACITY}, two threads; the median of {} samples", options.samples);
        println!(
            "{:>12} {:>8} {:>14} {:>12} {:>10} {:>10}",
            "request", "order", "way", "records/s", "wall ns", "cpu ns"
        );
    }
    for row in rows {
        if options.json {
            println!("{}", serde_json::to_string(row)?);
            continue;
        }
        let (order, way) = (format!("{:?}", row.order), format!("{:?}", row.way));
        let Row { request, records_per_second, wall_ns_a_record, cpu_ns_a_record, .. } = row;
        println!(
            "{request:>12} {order:>8} {way:>14} {records_per_second:>12.0} {wall_ns_a_record:>10.0} {cpu_ns_a_record:>10.0}"
        );
    }
    for order in [Order::Ordered, Order::ByKey] {
        let rate = |way| {
            let row = rows
                .iter()
                .find(|row| row.request != "ready" && row.order == order && row.way == way);
            row.map_or(f64::NAN, |row| row.records_per_second)
        };
        let two_instances_over_one = rate(Way::TwoInstances) / rate(Way::OneInstance);
        let ratio = Ratio { order, two_instances_over_one, target: TARGET };
        match options.json {
            true => println!("{}", serde_json::to_string(&ratio)?),
            false => println!(
                "{order:?}: two instances make {two_instances_over_one:.2} of one (target {TARGET})"
            ),
        }
    }
    Ok(())
}

/// Seconds of one sample.
struct Sample {
    wall: f64,
    cpu: f64,
}

fn sample(way: Way, order: Order, spins: u64, records: u64) -> Result<Sample> {
    match order {
        Order::Ordered => run(way, AsyncWait::ordered(CAPACITY), spins, records, true),
        Order::ByKey => {
            let policy = AsyncWait::ordered_by_key(CAPACITY, |record: &u64| record % KEYS);
            run(way, policy, spins, records, false)
        }
    }
}

fn run<K>(
    way: Way,
    policy: AsyncWait<NoRetry, K>,
    spins: u64,
    records: u64,
    ordered: bool,
) -> Result<Sample>
where
    K: KeySelector<u64> + Clone + Send + Sync + 'static,
{
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    let ask = move |record: &u64| ask(*record, spins);
    // On a task, so that two threads do all the work.
    let consumer = runtime.spawn(async move {
        let source = iter(0..records);
        let stage = |count| {
            source.clone().async_wait_parallel(Instances::on(Tokio, count), policy.clone(), |_| ask)
        };
        match way {
            Way::Stage => {
                consume(source.clone().async_wait(policy.clone(), ask).spawn(Tokio)?).await
            }
            Way::SpawnRequests => {
                let stage = source.clone().async_wait(policy.clone(), ask);
                consume(stage.spawn_requests(Tokio).spawn(Tokio)?).await
            }
            Way::OneInstance => consume(stage(1).spawn(Tokio)?).await,
            Way::TwoInstances => consume(stage(2).spawn(Tokio)?).await,
        }
    });
    let (count, in_order, sample) = runtime.block_on(consumer)??;
    ensure!(count == records && (in_order || !ordered), "the results are not what they should be");
    Ok(sample)
}

async fn consume<S>(mut stage: S) -> Result<(u64, bool, Sample)>
where
    S: Stream<Item = Outcome<u64, u64, ()>> + Unpin,
{
    let (start, cpu) = (Instant::now(), cpu_time());
    let (mut count, mut in_order) = (0, true);
    while let Some(outcome) = stage.next().await {
        in_order &= outcome.result == Ok(count);
        count += 1;
    }
    let sample = Sample { wall: start.elapsed().as_secs_f64(), cpu: cpu_time() - cpu };
    Ok((count, in_order, sample))
}

async fn ask(record: u64, spins: u64) -> Result<u64, ()> {
    spin(spins);
    Ok(record)
}

/// Keeps the core busy for a number of steps, and not for a time: a thread that the machine holds up has its work still before it.
fn spin(steps: u64) {
    let mut state = steps;
    for _ in 0..steps {
        state = black_box(state.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (state >> 29));
    }
}

/// The steps that take this much processor time.
fn calibrate(time: Duration) -> u64 {
    const STEPS: u64 = 20_000_000;
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let rates = (0..5).map(|_| {
        let start = now();
        spin(STEPS);
        STEPS as f64 / (now() - start)
    });
    (median(rates.collect()) * time.as_secs_f64()) as u64
}

/// Seconds of processor time of the whole process.
fn cpu_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
