//! The job on inflight: numbers, a request for each of them, in order, with a timeout, retries and a checkpoint a second.

mod client;

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use std::{env, fs, process};

use anyhow::Result;
use inflight::pipeline::{Pipeline, ReplayableSource, Report, TransactionalSink};
use inflight::prelude::*;
use inflight::{CheckpointId, FileStore, Outcome, StreamElement, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

use self::client::Client;

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().collect();
    let [_, client, capacity, port, checkpoints, warm_up, measured] = &arguments[..] else {
        anyhow::bail!("usage: CLIENT CAPACITY PORT CHECKPOINTS WARM_UP MEASURED");
    };
    let service = ([127, 0, 0, 1], port.parse()?).into();
    let (warm_up, measured) = (warm_up.parse()?, measured.parse()?);
    let (capacity, count) = (capacity.parse::<usize>()?, Rc::new(Cell::new(0)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.spawn_local(measure(Rc::clone(&count), capacity as u64, warm_up, measured));
    match client.as_str() {
        "none" => tasks.block_on(&runtime, run(client::None, capacity, checkpoints, count)),
        "http" => {
            tasks.block_on(&runtime, run(client::Http::new(service), capacity, checkpoints, count))
        }
        "raw" => {
            tasks.block_on(&runtime, run(client::Raw::new(service), capacity, checkpoints, count))
        }
        _ => anyhow::bail!("there is no client {client}"),
    }
}

async fn run(
    client: impl Client,
    capacity: usize,
    checkpoints: &str,
    count: Rc<Cell<u64>>,
) -> Result<()> {
    let client = Rc::new(client);
    let policy = AsyncWait::ordered(capacity)
        .timeout(Duration::from_secs(60))
        .retry(ExponentialBackoff::new(Duration::from_millis(100)).max_retries(3));
    let pipeline = Pipeline::new(Numbers(0), Counter(count), FileStore::open(checkpoints)?)
        .interval(Duration::from_secs(1))
        .on_report(|report| {
            if let Report::Failed { id, reason } = report {
                eprintln!("checkpoint {id:?}: {reason}");
            }
        });
    pipeline
        .run(TokioLocal, |numbers, recovery| {
            numbers
                .async_wait(policy, move |number: &u64| {
                    let (client, number) = (Rc::clone(&client), *number);
                    async move { client.ask(number).await }
                })
                .checkpointed("ask", 1)
                .restore(recovery)
                .spawn(TokioLocal)
        })
        .await?;
    Ok(())
}

/// The source: all numbers.
struct Numbers(u64);

impl ReplayableSource for Numbers {
    type Record = u64;
    type Position = u64;
    type Error = Infallible;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), Infallible> {
        self.0 = position.unwrap_or(0);
        Ok(())
    }

    fn poll_next(
        &mut self,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u64>, Infallible>>> {
        let number = self.0;
        self.0 += 1;
        Poll::Ready(Some(Ok(StreamElement::value(number))))
    }

    fn position(&self) -> u64 {
        self.0
    }

    fn acknowledger(&mut self) {}
}

/// The sink: counts the answers, and checks that each comes once and in order.
struct Counter(Rc<Cell<u64>>);

impl TransactionalSink<Outcome<u64, u64, anyhow::Error>> for Counter {
    type Prepared = ();
    type Error = Infallible;

    async fn write(
        &mut self,
        done: Outcome<u64, u64, anyhow::Error>,
        _: Option<Timestamp>,
    ) -> Result<(), Infallible> {
        match done.result {
            Ok(answer) => assert_eq!(answer, self.0.get(), "an answer is missing or out of order"),
            Err(failure) => panic!("{}: {failure:?}", done.input),
        }
        self.0.set(self.0.get() + 1);
        Ok(())
    }

    async fn pre_commit(&mut self, _: CheckpointId) -> Result<(), Infallible> {
        Ok(())
    }

    async fn commit(&mut self, _: CheckpointId, _: &()) -> Result<(), Infallible> {
        Ok(())
    }

    async fn abort(&mut self, _: Option<&()>) -> Result<(), Infallible> {
        Ok(())
    }
}

/// Waits until every connection has been used, and through the warm-up, measures, prints, and ends the process.
async fn measure(count: Rc<Cell<u64>>, capacity: u64, warm_up: f64, measured: f64) {
    while count.get() < capacity {
        sleep(Duration::from_millis(1)).await;
    }
    sleep(Duration::from_secs_f64(warm_up)).await;
    let (began, records, cpu, kernel) =
        (Instant::now(), count.get(), cpu_seconds(), kernel_seconds());
    sleep(Duration::from_secs_f64(measured)).await;
    let (seconds, records) = (began.elapsed().as_secs_f64(), count.get() - records);
    let (cpu, kernel) = (cpu_seconds() - cpu, kernel_seconds() - kernel);
    println!("{seconds:.3} {records} {cpu:.6} {kernel:.2} {}", peak_kilobytes());
    process::exit(0);
}

/// The processor time of all threads of the process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The part of it in the kernel, in steps of a hundredth.
fn kernel_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("/proc");
    let (_, fields) = stat.rsplit_once(')').expect("the program's name in brackets");
    let ticks: f64 =
        fields.split_whitespace().nth(12).and_then(|field| field.parse().ok()).expect("stime");
    ticks / 100.0
}

fn peak_kilobytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
