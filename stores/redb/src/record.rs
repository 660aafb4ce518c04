//! What the database holds: checkpoints by job and number, each behind a checksum of its own.
//!
//! The database checks sums of its pages only after a crash, so a bit that changes by itself would
//! pass.

use inflight_core::envelope::{self, FormatError, HEADER_LEN, Magic};
use inflight_core::{CheckpointId, Loaded};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError};

use crate::error::RedbStoreError;

const MAGIC: Magic = *b"ifRD";

type Key = (&'static str, u64);
const CHECKPOINTS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("inflight-checkpoints");

/// The number and the job stand in it too: a bit may change in the key.
pub(crate) fn frame(job: &str, id: CheckpointId, bytes: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; HEADER_LEN];
    frame.extend_from_slice(&id.0.to_le_bytes());
    frame.extend_from_slice(&(job.len() as u64).to_le_bytes());
    frame.extend_from_slice(job.as_bytes());
    frame.extend_from_slice(bytes);
    envelope::seal(&mut frame, MAGIC, 0);
    frame
}

fn open<'a>(frame: &'a [u8], job: &str, id: u64) -> Result<&'a [u8], FormatError> {
    let (_, body) = envelope::open(frame, MAGIC)?;
    let after_id = body.strip_prefix(&id.to_le_bytes());
    let after_len = after_id.and_then(|body| body.strip_prefix(&(job.len() as u64).to_le_bytes()));
    after_len.and_then(|body| body.strip_prefix(job.as_bytes())).ok_or(FormatError::Damaged)
}

pub(crate) fn save(
    database: &Database,
    job: &str,
    (id, frame): (CheckpointId, &[u8]),
    keep: usize,
) -> Result<(), RedbStoreError> {
    let mut transaction = database.begin_write()?;
    // A commit whose last page is torn cannot pass for whole, by chance or otherwise.
    transaction.set_two_phase_commit(true);
    {
        let mut table = transaction.open_table(CHECKPOINTS)?;
        let intact = make_way(&mut table, job, id)?;
        table.insert((job, id.0), frame)?;
        // Damaged ones do not count, or they would push out the intact ones.
        let oldest = intact.len().saturating_sub(keep.saturating_sub(1));
        for id in &intact[..oldest] {
            table.remove((job, *id))?;
        }
        if let Some(kept) = intact.get(oldest).copied().or(Some(id.0)).filter(|_| keep > 0) {
            table.retain_in((job, 0)..(job, kept), |_, _| false)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The numbers of the intact checkpoints before `id`. Damaged ones from there on are removed: they
/// would stand before the new one.
fn make_way(
    table: &mut Table<'_, Key, &'static [u8]>,
    job: &str,
    id: CheckpointId,
) -> Result<Vec<u64>, RedbStoreError> {
    let (mut intact, mut damaged) = (Vec::new(), Vec::new());
    for entry in table.range((job, 0)..=(job, u64::MAX))? {
        let (key, value) = entry?;
        let found = key.value().1;
        let is_intact = open(value.value(), job, found).is_ok();
        if is_intact && found > id.0 {
            return Err(RedbStoreError::IdBehind { id, latest: CheckpointId(found) });
        } else if is_intact && found < id.0 {
            intact.push(found);
        } else if !is_intact && found > id.0 {
            damaged.push(found);
        }
    }
    for id in damaged {
        table.remove((job, id))?;
    }
    Ok(intact)
}

pub(crate) fn load(database: &Database, job: &str) -> Result<Option<Loaded>, RedbStoreError> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(CHECKPOINTS) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        other => other?,
    };
    let mut damaged = 0;
    for entry in table.range((job, 0)..=(job, u64::MAX))?.rev() {
        let (key, value) = entry?;
        let id = key.value().1;
        if let Ok(bytes) = open(value.value(), job, id) {
            return Ok(Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged }));
        }
        damaged += 1;
    }
    if damaged == 0 {
        return Ok(None);
    }
    Err(RedbStoreError::AllDamaged { job: job.into(), damaged })
}

pub(crate) fn clear(database: &Database, job: &str) -> Result<(), RedbStoreError> {
    let transaction = database.begin_write()?;
    transaction.open_table(CHECKPOINTS)?.retain_in((job, 0)..=(job, u64::MAX), |_, _| false)?;
    transaction.commit()?;
    Ok(())
}
