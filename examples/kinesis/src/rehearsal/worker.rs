//! The job in a process of its own.

use std::fs::{File, create_dir_all};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::process::{Child, Command};

use crate::options::Options;

/// A process with the job. It is killed when this is dropped.
pub struct Worker(Child);

impl Worker {
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        create_dir_all(&options.state)?;
        let log = File::options().create(true).append(true).open(log(options))?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--input", &options.input, "--output", &options.output]);
        command.arg("--state").arg(&options.state);
        let urls = [("--emulator", &options.emulator), ("--endpoint", &options.endpoint)];
        for (name, url) in urls {
            command.args(url.iter().flat_map(|url| [name, url]));
        }
        let times = [("--interval", options.interval), ("--pause", options.pause)];
        for (name, time) in times {
            command.arg(name).arg(humantime::format_duration(time).to_string());
        }
        let numbers = [("--capacity", options.capacity), ("--calls", options.calls)];
        for (name, number) in numbers {
            command.arg(name).arg(number.to_string());
        }
        command.args(options.children_first.then_some("--children-first"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        Ok(Self(command.spawn().context("the job's process")?))
    }

    /// Kills the process at once.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.0.kill().await.context("the job's process")
    }

    /// Makes the job hand over and end, as Ctrl-C does.
    pub async fn leave(mut self) -> anyhow::Result<()> {
        let id = self.0.id().context("the job has ended by itself")?;
        let interrupt = Command::new("kill").args(["-INT", &id.to_string()]).status().await?;
        ensure!(interrupt.success(), "the job cannot be interrupted");
        let ended = tokio::time::timeout(Duration::from_secs(60), self.0.wait()).await;
        let ended = ended.context("the job does not leave")??;
        ensure!(ended.success(), "the job has ended with {ended}");
        Ok(())
    }
}

/// The file with the job's messages.
pub fn log(options: &Options) -> PathBuf {
    options.state.join("log")
}
