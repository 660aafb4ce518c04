//! The checkpoints of the job: their folder, and the check that one fits the job.

use std::error::Error;
use std::path::{Path, PathBuf};

use inflight::pipeline::{self, Ended};
use inflight::prelude::*;
use inflight::{FileStore, FileStoreError};

use crate::identity::Identity;
use crate::problem::{Problem, with_causes};
use crate::sink::Written;
use crate::source::Position;

/// A checkpoint that was found, decoded.
#[derive(Debug)]
pub struct Saved {
    pub id: CheckpointId,
    pub position: Position,
    pub written: Written,
    /// True if the job has finished.
    pub is_finished: bool,
    /// The number of damaged checkpoints, which may have been newer.
    pub damaged: usize,
}

/// The folder of checkpoints. One process at a time can have it open.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    pub store: FileStore,
}

impl Checkpoints {
    /// Opens `folder`, and creates it if it does not exist.
    pub fn open(folder: &Path) -> Result<Self, Problem> {
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
        Ok(Self { folder: folder.into(), store })
    }

    /// The latest checkpoint, of any job.
    pub async fn load(&mut self) -> Result<Option<Saved>, Problem> {
        let loaded = self.store.load_latest().await.map_err(|error| self.unusable(&error))?;
        let Some(loaded) = loaded else { return Ok(None) };
        let checkpoint =
            Checkpoint::from_bytes(&loaded.bytes).map_err(|error| self.unusable(&error))?;
        let position = pipeline::position(&checkpoint);
        let (Some(position), Some(written)) = (position, pipeline::prepared(&checkpoint)) else {
            return Err(self.unusable(&*Box::<dyn Error>::from("this program has not written it")));
        };
        let is_finished = pipeline::ended(&checkpoint) == Some(Ended::Finished);
        let (id, damaged) = (loaded.id, loaded.damaged);
        Ok(Some(Saved { id, position, written, is_finished, damaged }))
    }

    /// Checks that a checkpoint belongs to the job `identity`.
    pub fn check(&self, saved: &Saved, identity: &Identity) -> Result<(), Problem> {
        let differences = identity.differences(&saved.written.identity);
        if differences.is_empty() {
            return Ok(());
        }
        let folder = self.folder.display();
        let what = format!("the checkpoint in {folder} belongs to another job");
        Err(Problem::new(
            format!("{what}:\n    {}", differences.join("\n    ")),
            "Run with the old values to resume that job, start from the beginning with --fresh, or \
             choose another --checkpoint-dir.",
        ))
    }

    fn unusable(&self, error: &dyn Error) -> Problem {
        let what = format!("no checkpoint in {} can be used", self.folder.display());
        let way_out = "Start from the beginning with --fresh, or choose another --checkpoint-dir.";
        Problem::new(format!("{what}: {}", with_causes(error)), way_out)
    }

    /// Removes all checkpoints, including damaged ones. It touches only the store's own files.
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
