//! `--scale`: the records a second with 1, 2 and 3 workers, while the service's answers take their time.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, sleep};

use crate::fleet::Fleet;
use crate::log::{Log, connect};
use crate::options::Options;
use crate::order::orders;
use crate::publisher::publish;
use crate::servers::Servers;
use crate::service::Service;

/// With so many workers it is measured.
const WORKERS: u16 = 3;

/// Two workers do so many times as much as one, at least.
const GOAL: f64 = 1.7;

/// Between the moment at which all partitions run, and the measurement.
const WARM_UP: Duration = Duration::from_secs(2);

const MEASURED: Duration = Duration::from_secs(10);

/// The partitions have to be shared out after that.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures, and prints a table. Returns status 0 if the goal is met.
pub async fn scale(options: &Options) -> anyhow::Result<ExitCode> {
    let Ok(servers) = Servers::up(&options.data).await? else { return Ok(ExitCode::from(77)) };
    let log = Log::new(connect(&servers.addresses(), "controller").await?, servers.count());
    let most = f64::from(options.permits) / options.latency.as_secs_f64();
    println!(
        "calls of {:?}, {} at a time in a worker: at most {most:.0} a second in each",
        options.latency, options.permits
    );
    println!("{:>7}  {:>16}  {:>6}", "workers", "records a second", "times");
    let mut rates = Vec::new();
    for workers in 1..=WORKERS {
        let rate = measure(options, &servers, &log, workers, most).await?;
        rates.push(rate);
        println!("{workers:>7}  {rate:>16.0}  {:>6.2}", rate / rates[0]);
    }
    Ok(if rates[1] >= GOAL * rates[0] { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The records a second with so many workers.
async fn measure(
    options: &Options,
    servers: &Servers,
    log: &Log,
    workers: u16,
    most: f64,
) -> anyhow::Result<f64> {
    log.create(options.partitions).await?;
    let service = Service::start(options.latency).await?;
    // More than there can be done, so that no worker waits for orders.
    let seconds = (WARM_UP + MEASURED).as_secs_f64() + 5.0;
    let count = most * f64::from(workers) * seconds;
    eprintln!("fleet: {workers} workers, {count:.0} orders");
    publish(log, &orders(options.seed, count as u64), None).await;
    let mut fleet = Fleet::new(options, servers, &service)?;
    for _ in 0..workers {
        fleet.start()?;
    }
    wait_for_balance(&mut fleet, options.partitions.into()).await?;
    sleep(WARM_UP).await;
    let (began, before) = (Instant::now(), log.outputs().await?);
    sleep(MEASURED).await;
    let done = log.outputs().await? - before;
    let rate = done as f64 / began.elapsed().as_secs_f64();
    ensure!(log.outputs().await? < count as u64, "the orders were too few");
    fleet.disband().await?;
    Ok(rate)
}

/// Waits until each partition runs somewhere, and no worker has two more than another one.
async fn wait_for_balance(fleet: &mut Fleet, partitions: usize) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        _ = fleet.steady()?;
        let shares = fleet.partitions();
        let least = shares.iter().min().copied().unwrap_or(0);
        if shares.iter().sum::<usize>() == partitions && shares.iter().all(|n| *n <= least + 1) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "the partitions are not shared out: {shares:?}");
        sleep(Duration::from_millis(100)).await;
    }
}
