//! The records of the database: checkpoints by job and number, each with a checksum of its own.
//!
//! The database checks the sums of its pages only after a crash, so it would not detect a bit that changes by
//! itself.

use inflight_core::envelope::{self, FormatError, HEADER_LEN, Magic};
use inflight_core::{CheckpointId, Loaded};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, TableError};

use crate::error::RedbStoreError;

const MAGIC: Magic = *b"ifRD";

type Key = (&'static str, u64);
const CHECKPOINTS: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("inflight-checkpoints");
/// The number of each job's latest checkpoint, in a frame of its own.
const LATEST: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("inflight-latest");

/// Creates the tables, or leaves existing ones as they are.
pub(crate) fn make_tables(database: &Database) -> Result<(), RedbStoreError> {
    let transaction = database.begin_write()?;
    transaction.open_table(CHECKPOINTS)?;
    transaction.open_table(LATEST)?;
    transaction.commit()?;
    Ok(())
}

/// A new database gets the tables, so a database without them is damaged.
pub(crate) fn check_tables(database: &impl ReadableDatabase) -> Result<(), RedbStoreError> {
    let transaction = database.begin_read()?;
    let tables =
        [transaction.open_table(CHECKPOINTS).map(drop), transaction.open_table(LATEST).map(drop)];
    for table in tables {
        match table {
            Err(TableError::TableDoesNotExist(_)) => return Err(RedbStoreError::NoTables),
            table => table?,
        }
    }
    Ok(())
}

/// The frame contains the number and the job too, because a bit may change in the key.
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
    let transaction = database.begin_write()?;
    {
        let mut table = transaction.open_table(CHECKPOINTS)?;
        let intact = make_way(&mut table, job, id)?;
        table.insert((job, id.0), frame)?;
        // Damaged checkpoints do not count, because otherwise they would displace intact ones.
        let oldest = intact.len().saturating_sub(keep.saturating_sub(1));
        for id in &intact[..oldest] {
            table.remove((job, *id))?;
        }
        transaction.open_table(LATEST)?.insert(job, &*self::frame(job, id, &[]))?;
        if let Some(kept) = intact.get(oldest).copied().or(Some(id.0)).filter(|_| keep > 0) {
            table.retain_in((job, 0)..(job, kept), |_, _| false)?;
        }
    }
    transaction.commit()?;
    Ok(())
}

/// The numbers of the intact checkpoints before `id`. Removes damaged ones from `id` on, which would sort
/// after the new one.
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

pub(crate) fn load(
    database: &impl ReadableDatabase,
    job: &str,
) -> Result<Option<Loaded>, RedbStoreError> {
    let mut damaged = 0;
    let transaction = database.begin_read()?;
    let table = transaction.open_table(CHECKPOINTS)?;
    let latest = latest(&transaction.open_table(LATEST)?, job)?;
    for entry in table.range((job, 0)..=(job, u64::MAX))?.rev() {
        let (key, value) = entry?;
        let id = key.value().1;
        if let Ok(bytes) = open(value.value(), job, id) {
            if latest != Some(id) {
                damaged = damaged.max(1); // it was not found, or its record is damaged
            }
            return Ok(Some(Loaded { id: CheckpointId(id), bytes: bytes.to_vec(), damaged }));
        }
        damaged += 1;
    }
    if damaged == 0 && latest.is_none() {
        return Ok(None);
    }
    Err(RedbStoreError::AllDamaged { job: job.into(), damaged: damaged.max(1) })
}

/// The number of the job's latest checkpoint; 0 if that cannot be read.
fn latest(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    job: &str,
) -> Result<Option<u64>, RedbStoreError> {
    let Some(frame) = table.get(job)? else { return Ok(None) };
    let id =
        envelope::open(frame.value(), MAGIC).ok().and_then(|(_, body)| body.first_chunk().copied());
    let id = id.map(u64::from_le_bytes).filter(|id| open(frame.value(), job, *id).is_ok());
    Ok(Some(id.unwrap_or(0)))
}

pub(crate) fn clear(database: &Database, job: &str) -> Result<(), RedbStoreError> {
    let transaction = database.begin_write()?;
    transaction.open_table(CHECKPOINTS)?.retain_in((job, 0)..=(job, u64::MAX), |_, _| false)?;
    transaction.open_table(LATEST)?.remove(job)?;
    transaction.commit()?;
    Ok(())
}
