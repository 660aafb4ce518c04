//! `--try`: orders are published while faults happen, and then every record is compared with the outputs.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, interval, sleep};

use crate::check::Tally;
use crate::faults::Faults;
use crate::fleet::Fleet;
use crate::log::{Log, connect};
use crate::options::Options;
use crate::order::{Order, orders};
use crate::publisher::publish;
use crate::servers::Servers;
use crate::service::Service;

/// Outputs that do not come for so long, after the last order, are lost.
const PATIENCE: Duration = Duration::from_secs(30);

const BETWEEN_NEWS: Duration = Duration::from_secs(5);

/// The status of a skip, as `up` has it.
const SKIPPED: u8 = 77;

/// Runs it all. Returns status 0 if the outputs are right.
pub async fn trial(options: &Options) -> anyhow::Result<ExitCode> {
    let Ok(servers) = Servers::up(&options.data).await? else { return Ok(ExitCode::from(SKIPPED)) };
    let log = Log::new(connect(&servers.addresses(), "controller").await?, servers.count());
    log.create(options.partitions).await?;
    let service = Service::start(options.latency).await?;
    let mut fleet = Fleet::new(options, &servers, &service)?;
    let orders = orders(options.seed, options.records());
    eprintln!("fleet: {} orders at {} a second, seed {}", orders.len(), options.rate, options.seed);
    for _ in 0..options.workers {
        fleet.start()?;
    }
    let faults = Faults::new(options, &mut fleet, &servers, &log);
    tokio::select! {
        done = async { tokio::try_join!(faults.run(options), publish_all(&log, &orders, options.rate)) } => done?,
        never = tell_progress(&log) => never,
    };
    let mut outputs = Outputs { tally: Tally::new(orders), read: 0 };
    outputs.wait_for_all(&log, &mut fleet).await?;
    fleet.disband().await?;
    // A worker may have written some when it left.
    outputs.read(&log).await?;
    Ok(conclude(options, &outputs.tally, &fleet, &service))
}

/// Prints the result.
fn conclude(options: &Options, tally: &Tally, fleet: &Fleet, service: &Service) -> ExitCode {
    let (verdict, fenced) = (tally.verdict(), fleet.fenced());
    eprintln!("fleet: the service was asked {} times", service.calls());
    if fenced.times > 0 {
        eprintln!(
            "fleet: {} of {} pipelines that were fenced are those of workers that had been frozen",
            fenced.in_frozen, fenced.times
        );
    } else if options.frozen > 0 && options.broken().is_none() {
        eprintln!(
            "fleet: WARNING: workers were frozen, and none was fenced: this run proves nothing about the fence"
        );
    }
    if verdict.wrong > 0 {
        eprintln!("fleet: {} outputs are wrong", verdict.wrong);
    }
    println!("{verdict}, fenced: {}", fenced.times);
    if verdict.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn publish_all(log: &Log, orders: &[Order], rate: u64) -> anyhow::Result<()> {
    publish(log, orders, Some(rate)).await;
    Ok(())
}

async fn tell_progress(log: &Log) -> ((), ()) {
    let (mut interval, began) = (interval(BETWEEN_NEWS), Instant::now());
    loop {
        interval.tick().await;
        // A server may be down just now.
        if let (Ok(orders), Ok(outputs)) = (log.orders().await, log.outputs().await) {
            eprintln!(
                "fleet: {:>5.1} s  {orders} orders, {outputs} outputs",
                began.elapsed().as_secs_f64()
            );
        }
    }
}

/// The outputs as they are read.
struct Outputs {
    tally: Tally,
    /// The sequence of the last one.
    read: u64,
}

impl Outputs {
    /// Reads until nothing is missing, or nothing has come for a long time.
    async fn wait_for_all(&mut self, log: &Log, fleet: &mut Fleet) -> anyhow::Result<()> {
        let mut latest = Instant::now();
        loop {
            let before = self.read;
            self.read(log).await?;
            let missing = self.tally.verdict().lost;
            if missing == 0 {
                return Ok(());
            }
            if self.read > before {
                eprintln!("fleet: {missing} outputs are missing");
                latest = Instant::now();
            }
            if latest.elapsed() > PATIENCE {
                eprintln!("fleet: no more outputs come");
                return Ok(());
            }
            _ = fleet.steady()?;
            sleep(Duration::from_secs(1)).await;
        }
    }

    /// Reads what has been added.
    async fn read(&mut self, log: &Log) -> anyhow::Result<()> {
        let Self { tally, read } = self;
        let mut tries = 0;
        loop {
            // What was read before a failure is counted, so the next try begins behind it.
            let mut last = *read;
            let result = log.read(*read, |sequence, payload| {
                tally.count(payload);
                last = sequence;
            });
            let result = result.await;
            *read = last;
            match result {
                Ok(()) => return Ok(()),
                Err(_) if tries < 10 => tries += 1,
                Err(error) => return Err(error),
            }
            sleep(Duration::from_millis(500)).await;
        }
    }
}
