//! The checkpoints of the job: what is in them, where they are kept.

use std::error::Error;
use std::path::{Path, PathBuf};

use inflight::prelude::*;
use inflight::{FileStore, FileStoreError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::counters::Totals;
use crate::identity::Identity;
use crate::problem::{Problem, with_causes};
use crate::source::Position;

/// The section that the source puts in: its [`Position`].
pub const SOURCE: &str = "source";
/// The section that the stage puts in: the lines in flight.
pub const STAGE: &str = "enrich";
/// The sections that the sink puts in: the job's [`Identity`], and what is [`Written`].
const JOB: &str = "job";
const OUTPUT: &str = "output";

/// How far the output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Written {
    /// Bytes in the output file.
    pub output: u64,
    /// Bytes in the file of rejected lines.
    pub rejected: u64,
    pub totals: Totals,
    /// Whether that is all there will be.
    pub finished: bool,
}

/// A checkpoint that was found, taken apart.
#[derive(Debug)]
pub struct Saved {
    pub checkpoint: Checkpoint,
    pub identity: Identity,
    pub position: Position,
    pub written: Written,
    /// How many others are damaged, and may have been newer.
    pub damaged: usize,
}

/// The folder of checkpoints. One process at a time has it open.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    store: FileStore,
    identity: Identity,
}

impl Checkpoints {
    /// Those of the job `identity` in `folder`, which is made if it is not there.
    pub fn open(folder: &Path, identity: Identity) -> Result<Self, Problem> {
        let store = FileStore::open(folder).map_err(|error| {
            let what = format!("cannot keep checkpoints in {}", folder.display());
            let way_out = match error {
                FileStoreError::Owned { .. } => {
                    "Wait for another run to end, or choose another --checkpoint-dir."
                }
                _ => "Name a folder that can be written to with --checkpoint-dir.",
            };
            Problem::new(format!("{what}: {}", with_causes(&error)), way_out)
        })?;
        Ok(Self { folder: folder.into(), store, identity })
    }

    /// The latest one, if there is one. It has to be of this job.
    pub async fn load(&mut self) -> Result<Option<Saved>, Problem> {
        let saved = self.load_any().await?;
        saved.iter().try_for_each(|saved| self.check(&saved.identity))?;
        Ok(saved)
    }

    /// The latest one, of whatever job.
    pub async fn load_any(&mut self) -> Result<Option<Saved>, Problem> {
        let loaded = self.store.load_latest().await.map_err(|error| self.unusable(&error))?;
        let Some(loaded) = loaded else { return Ok(None) };
        let checkpoint =
            Checkpoint::from_bytes(&loaded.bytes).map_err(|error| self.unusable(&error))?;
        let saved = Saved {
            identity: self.section(&checkpoint, JOB)?,
            position: self.section(&checkpoint, SOURCE)?,
            written: self.section(&checkpoint, OUTPUT)?,
            damaged: loaded.damaged,
            checkpoint,
        };
        Ok(Some(saved))
    }

    fn check(&self, earlier: &Identity) -> Result<(), Problem> {
        let differences = self.identity.differences(earlier);
        if differences.is_empty() {
            return Ok(());
        }
        let folder = self.folder.display();
        let what = format!("the checkpoint in {folder} belongs to another job");
        Err(Problem::new(
            format!("{what}:\n    {}", differences.join("\n    ")),
            "Run with the old values to go on with that job, start over with --fresh, or choose \
             another --checkpoint-dir.",
        ))
    }

    fn section<T: DeserializeOwned>(&self, from: &Checkpoint, name: &str) -> Result<T, Problem> {
        let bytes = from.section(name).unwrap_or_default();
        serde_json::from_slice(bytes).map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, error: &dyn Error) -> Problem {
        let what = format!("no checkpoint in {} can be used", self.folder.display());
        let way_out = "Start over with --fresh, or choose another --checkpoint-dir.";
        Problem::new(format!("{what}: {}", with_causes(error)), way_out)
    }

    /// Completes a checkpoint and saves it.
    pub async fn save(
        &mut self,
        mut checkpoint: Checkpoint,
        written: &Written,
    ) -> Result<(), Problem> {
        let id = checkpoint.id();
        let saved = async {
            checkpoint.put(JOB, &serde_json::to_vec(&self.identity)?)?;
            checkpoint.put(OUTPUT, &serde_json::to_vec(written)?)?;
            self.store.save(id, checkpoint.bytes()?).await?;
            Ok::<_, Box<dyn Error>>(())
        };
        saved.await.map_err(|error| {
            let what = format!("cannot save checkpoint {id} in {}", self.folder.display());
            Problem::new(
                format!("{what}: {}", with_causes(&*error)),
                "Make room there, and run the same command again: it goes on.",
            )
        })
    }

    /// Forgets all of them, damaged ones too. Only the store's own files are touched.
    pub fn forget(&mut self) -> Result<(), Problem> {
        self.store.clear_blocking().map_err(|error| {
            let what = format!("cannot empty {}", self.folder.display());
            Problem::new(
                format!("{what}: {}", with_causes(&error)),
                "Choose another --checkpoint-dir, or empty it.",
            )
        })
    }
}
