//! What is done to the workers and the servers, and when: a function of the seed.

use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::Fleet;
use crate::log::Log;
use crate::options::Options;
use crate::servers::Servers;

/// A worker is frozen for its lease's time and so much more, so that others have its partitions when it wakes.
const FROZEN: Duration = Duration::from_secs(2);

/// A server is down for so long.
const DOWN: Duration = Duration::from_secs(1);

/// A server that was started has to have caught up after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill,
    Freeze,
    Move,
    BrokerKill,
}

/// The faults, each with its time since the beginning.
fn plan(options: &Options, dice: &mut StdRng) -> Vec<(Duration, Fault)> {
    let mut faults = Vec::new();
    for (fault, count) in [
        (Fault::Kill, options.kills),
        (Fault::Freeze, options.frozen),
        (Fault::Move, options.moves),
        (Fault::BrokerKill, options.broker_kills),
    ] {
        faults.extend(std::iter::repeat_n(fault, count));
    }
    faults.shuffle(dice);
    // Each at a random moment of its share of the time in which orders come; not before the workers have begun.
    let time = Duration::from_secs_f64(options.records() as f64 / options.rate as f64);
    let first = (time / 10).min(Duration::from_secs(4));
    let share = (time - first) / faults.len().max(1) as u32;
    let at = |place| first + share.mul_f64(place as f64 + dice.random::<f64>());
    (0..faults.len()).map(at).zip(faults.iter().copied()).collect()
}

/// Everything that faults are done to.
#[derive(Debug)]
pub struct Faults<'a> {
    fleet: &'a mut Fleet,
    servers: &'a Servers,
    log: &'a Log,
    dice: StdRng,
    lease: Duration,
    /// The workers that are frozen, and when each is woken, the first one first.
    frozen: Vec<(Instant, String)>,
    /// A server that is being started again.
    restart: Option<JoinHandle<anyhow::Result<()>>>,
}

impl<'a> Faults<'a> {
    pub fn new(
        options: &Options,
        fleet: &'a mut Fleet,
        servers: &'a Servers,
        log: &'a Log,
    ) -> Self {
        let (dice, lease) = (StdRng::seed_from_u64(options.seed), options.lease);
        Self { fleet, servers, log, dice, lease, frozen: Vec::new(), restart: None }
    }

    /// Does them all, and returns when all workers are awake and all servers have caught up.
    pub async fn run(mut self, options: &Options) -> anyhow::Result<()> {
        let began = Instant::now();
        let plan = plan(options, &mut self.dice);
        let count = plan.len();
        for (number, (at, fault)) in plan.into_iter().enumerate() {
            self.wake_until(began + at).await?;
            let what = match fault {
                Fault::Kill => self.kill().await?,
                Fault::Freeze => self.freeze().await?,
                Fault::Move => self.replace().await?,
                Fault::BrokerKill => self.kill_server().await?,
            };
            eprintln!(
                "fleet: {:>5.1} s  {:>3}/{count}  {what}",
                began.elapsed().as_secs_f64(),
                number + 1
            );
        }
        while let Some((at, _)) = self.frozen.first() {
            self.wake_until(*at).await?;
        }
        self.server_is_back().await?;
        _ = self.fleet.steady()?;
        Ok(())
    }

    /// Waits until a moment, and wakes meanwhile each frozen worker whose time has come.
    async fn wake_until(&mut self, until: Instant) -> anyhow::Result<()> {
        while let Some((at, _)) = self.frozen.first()
            && *at <= until
        {
            let (at, name) = self.frozen.remove(0);
            sleep_until(at).await;
            self.fleet.wake(&name).await?;
        }
        sleep_until(until).await;
        Ok(())
    }

    /// The place of one of the workers that are neither frozen nor leaving. If there is none, it waits for one.
    async fn worker(&mut self) -> anyhow::Result<usize> {
        loop {
            if let Some(place) = self.fleet.steady()?.choose(&mut self.dice) {
                return Ok(*place);
            }
            let (at, _) = self.frozen.first().context("there are no workers")?;
            self.wake_until(*at).await?;
        }
    }

    async fn kill(&mut self) -> anyhow::Result<String> {
        let place = self.worker().await?;
        let name = self.fleet.kill(place).await?;
        self.fleet.start()?;
        Ok(format!("{name} is killed, another one is started"))
    }

    async fn freeze(&mut self) -> anyhow::Result<String> {
        let place = self.worker().await?;
        let (name, time) = (self.fleet.freeze(place).await?, self.lease + FROZEN);
        self.frozen.push((Instant::now() + time, name.clone()));
        Ok(format!("{name} is frozen for {time:?}"))
    }

    async fn replace(&mut self) -> anyhow::Result<String> {
        let place = self.worker().await?;
        let name = self.fleet.leave(place).await?;
        self.fleet.start()?;
        Ok(format!("{name} is asked to leave, another one joins"))
    }

    /// Kills a server and starts it again, beside everything else. One at a time, because two of three are needed.
    async fn kill_server(&mut self) -> anyhow::Result<String> {
        self.server_is_back().await?;
        let number = self.dice.random_range(0..self.servers.count());
        let (servers, log) = (self.servers.clone(), self.log.clone());
        self.restart = Some(tokio::spawn(async move {
            servers.restart(number, DOWN).await?;
            caught_up(&log).await
        }));
        Ok(format!("server {number} is killed"))
    }

    async fn server_is_back(&mut self) -> anyhow::Result<()> {
        match self.restart.take() {
            Some(restart) => restart.await?,
            None => Ok(()),
        }
    }
}

/// Waits until all replicas of all streams are there, and have everything.
async fn caught_up(log: &Log) -> anyhow::Result<()> {
    let began = Instant::now();
    while !log.is_whole().await {
        ensure!(began.elapsed() < PATIENCE, "a server that was started again does not catch up");
        sleep(Duration::from_millis(200)).await;
    }
    Ok(())
}
