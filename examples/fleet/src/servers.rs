//! The NATS servers as processes, which `up` starts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use tokio::process::Command;

/// The ports on which `up` lets the servers listen.
const PORTS: &str = "14230 14231 14232";

/// A cluster of three servers on loopback.
#[derive(Clone, Debug)]
pub struct Servers {
    folder: PathBuf,
    ports: Vec<String>,
}

/// The servers could not be had, which is neither right nor wrong.
#[derive(Debug)]
pub struct Missing;

impl Servers {
    /// Starts those that do not run.
    pub async fn up(data: &Path) -> anyhow::Result<Result<Self, Missing>> {
        let ports = std::env::var("FLEET_PORTS").unwrap_or_else(|_| PORTS.into());
        let ports = ports.split_whitespace().take(3).map(Into::into).collect();
        let servers = Self { folder: data.join("servers"), ports };
        match servers.start().await? {
            Some(0) => Ok(Ok(servers)),
            Some(77) => Ok(Err(Missing)),
            _ => bail!("examples/fleet/up has failed"),
        }
    }

    /// Returns the script's status.
    async fn start(&self) -> anyhow::Result<Option<i32>> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("up");
        let status = Command::new(script).arg(&self.folder).status();
        Ok(status.await.context("examples/fleet/up")?.code())
    }

    pub fn count(&self) -> usize {
        self.ports.len()
    }

    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect()
    }

    /// Kills a server, and starts it again after a while.
    pub async fn restart(&self, number: usize, after: Duration) -> anyhow::Result<()> {
        let file = self.folder.join(format!("nats{number}.pid"));
        let id = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        signal("KILL", id.trim().parse()?).await?;
        // Its process may be there for a while yet, as one that nobody has waited for.
        std::fs::remove_file(&file).with_context(|| file.display().to_string())?;
        tokio::time::sleep(after).await;
        match self.start().await? {
            Some(0) => Ok(()),
            _ => bail!("server {number} does not start again"),
        }
    }
}

/// Sends a signal to a process.
pub async fn signal(name: &str, process: u32) -> anyhow::Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(process.to_string()).status();
    match status.await.context("kill")?.success() {
        true => Ok(()),
        false => bail!("process {process} is not there"),
    }
}
