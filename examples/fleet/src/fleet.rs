//! The workers as processes.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::options::{Options, WorkerOptions};
use crate::servers::{Servers, signal};
use crate::service::Service;

/// A worker that was asked to leave has to be gone after that.
const PATIENCE: Duration = Duration::from_secs(60);

/// The workers of one trial or measurement. They are killed when it is dropped.
#[derive(Debug)]
pub struct Fleet {
    template: WorkerOptions,
    logs: PathBuf,
    /// Those that work, or are frozen.
    workers: Vec<Worker>,
    started: usize,
    /// Those that leave; each returns its end.
    leaving: JoinSet<anyhow::Result<()>>,
    /// Of all workers that there ever were.
    fenced: Arc<Mutex<Fenced>>,
}

/// A worker's process.
#[derive(Debug)]
pub struct Worker {
    name: String,
    log: PathBuf,
    child: Child,
    /// The worker ends when this is closed, which waiting for the child would do if the child had it.
    _input: ChildStdin,
    is_frozen: bool,
    told: Arc<Mutex<Told>>,
}

/// What a worker has told.
#[derive(Debug, Default)]
struct Told {
    partitions: BTreeSet<String>,
    was_frozen: bool,
}

/// How often pipelines were fenced.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fenced {
    pub times: u64,
    /// As often in workers that had been frozen.
    pub in_frozen: u64,
}

impl Fleet {
    pub fn new(options: &Options, servers: &Servers, service: &Service) -> anyhow::Result<Self> {
        let logs = options.data.join("workers");
        std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let template = WorkerOptions {
            name: String::new(),
            servers: servers.addresses(),
            replicas: servers.count(),
            service: service.address,
            partitions: options.partitions,
            permits: options.permits.into(),
            lease: options.lease,
            late: options.late,
            broken: options.broken(),
        };
        let (workers, leaving, fenced) = (Vec::new(), JoinSet::new(), Arc::default());
        Ok(Self { template, logs, workers, started: 0, leaving, fenced })
    }

    /// Starts another worker.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.started += 1;
        let name = format!("worker-{}", self.started);
        let log = self.logs.join(format!("{name}.log"));
        let mut command = Command::new(std::env::current_exe()?);
        command.args(self.template.arguments(&name)).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().context("a worker")?;
        let input = child.stdin.take().context("the worker's input")?;
        let told = Arc::default();
        let lines = child.stdout.take().context("the worker's output")?;
        tokio::spawn(listen(lines, Arc::clone(&told), Arc::clone(&self.fenced)));
        self.workers.push(Worker { name, log, child, _input: input, is_frozen: false, told });
        Ok(())
    }

    /// The places of the workers that are neither frozen nor asked to leave.
    ///
    /// # Errors
    ///
    /// If one has ended by itself, or did not leave as it should.
    pub fn steady(&mut self) -> anyhow::Result<Vec<usize>> {
        while let Some(left) = self.leaving.try_join_next() {
            left??;
        }
        for worker in &mut self.workers {
            let ended = worker.child.try_wait()?;
            ensure!(ended.is_none(), "{} has ended, see {}", worker.name, worker.log.display());
        }
        let steady = self.workers.iter().enumerate().filter(|(_, worker)| !worker.is_frozen);
        Ok(steady.map(|(place, _)| place).collect())
    }

    /// The number of partitions of each worker.
    pub fn partitions(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| lock(&worker.told).partitions.len()).collect()
    }

    pub fn fenced(&self) -> Fenced {
        *lock(&self.fenced)
    }

    /// Kills a worker.
    pub async fn kill(&mut self, place: usize) -> anyhow::Result<String> {
        let mut worker = self.workers.swap_remove(place);
        worker.child.kill().await?;
        Ok(worker.name)
    }

    /// Freezes a worker, and returns its name, by which it is [woken](Self::wake).
    pub async fn freeze(&mut self, place: usize) -> anyhow::Result<String> {
        let worker = &mut self.workers[place];
        worker.signal("STOP").await?;
        worker.is_frozen = true;
        lock(&worker.told).was_frozen = true;
        Ok(worker.name.clone())
    }

    pub async fn wake(&mut self, name: &str) -> anyhow::Result<()> {
        for worker in self.workers.iter_mut().filter(|worker| worker.name == name) {
            worker.signal("CONT").await?;
            worker.is_frozen = false;
        }
        Ok(())
    }

    /// Asks a worker to leave, and does not wait until it has.
    pub async fn leave(&mut self, place: usize) -> anyhow::Result<String> {
        let worker = self.workers.swap_remove(place);
        worker.signal("TERM").await?;
        let name = worker.name.clone();
        self.leaving.spawn(worker.gone());
        Ok(name)
    }

    /// Asks all workers to leave, and waits until they have.
    pub async fn disband(&mut self) -> anyhow::Result<()> {
        while !self.workers.is_empty() {
            self.leave(0).await?;
        }
        while let Some(left) = self.leaving.join_next().await {
            left??;
        }
        Ok(())
    }
}

impl Worker {
    /// Waits for its end, which has to come soon and without a failure.
    async fn gone(mut self) -> anyhow::Result<()> {
        let Self { name, log, child, .. } = &mut self;
        let Ok(status) = timeout(PATIENCE, child.wait()).await else {
            bail!("{name} does not leave, see {}", log.display());
        };
        let status = status?;
        ensure!(status.success(), "{name} has failed ({status}), see {}", log.display());
        Ok(())
    }

    async fn signal(&self, name: &str) -> anyhow::Result<()> {
        signal(name, self.child.id().context("it has ended")?).await
    }
}

/// Takes down what a worker tells, one event in a line, until it ends.
async fn listen(lines: ChildStdout, told: Arc<Mutex<Told>>, fenced: Arc<Mutex<Fenced>>) {
    let mut lines = BufReader::new(lines).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let (mut told, mut fenced) = (lock(&told), lock(&fenced));
        match line.split_once(' ') {
            Some(("started", partition)) => _ = told.partitions.insert(partition.into()),
            Some(("handed-over" | "timed-out" | "lost", partition)) => {
                told.partitions.remove(partition);
            }
            Some(("fenced", _)) => {
                fenced.times += 1;
                fenced.in_frozen += u64::from(told.was_frozen);
            }
            _ => {}
        }
    }
}

/// Nothing panics while it is locked.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
