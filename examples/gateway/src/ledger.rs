//! The demo's progress in publishing.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

/// A file that records the published readings.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    pub entry: Entry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub seed: u64,
    /// The broker has promised to deliver all readings before this one.
    pub confirmed: u64,
    /// It may have received the readings before this one.
    pub offered: u64,
}

impl Ledger {
    /// The ledger in a file, or a new one.
    pub fn open(path: &Path, seed: u64) -> anyhow::Result<Self> {
        let entry = match fs::read(path) {
            Ok(text) => serde_json::from_slice::<Entry>(&text)
                .with_context(|| format!("{} is not a ledger", path.display()))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Entry { seed, confirmed: 0, offered: 0 }
            }
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        ensure!(
            entry.seed == seed,
            "{} has the seed {}; use --seed {} or another --name",
            path.display(),
            entry.seed,
            entry.seed
        );
        Ok(Self { path: path.into(), entry })
    }

    /// Survives the process at any moment.
    pub fn save(&self) -> anyhow::Result<()> {
        let save = || -> io::Result<()> {
            if let Some(folder) = self.path.parent() {
                fs::create_dir_all(folder)?;
            }
            let draft = self.path.with_extension("draft");
            fs::write(&draft, serde_json::to_vec(&self.entry)?)?;
            fs::rename(&draft, &self.path)
        };
        save().with_context(|| format!("writing {}", self.path.display()))
    }
}
