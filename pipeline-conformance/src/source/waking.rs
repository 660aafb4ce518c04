//! Wake-ups of the task that has polled last.

use std::fmt::Debug;
use std::task::Poll;

use super::reader::{Item, Reader};
use super::{Medium, New, Record};
use crate::Verdict;
use crate::drive::Task;

// Rule 5
pub(crate) fn wakes<M: Medium>(new: New<'_, M>) -> Verdict
where
    Record<M>: PartialEq + Debug,
{
    let mut medium = new();
    let can = medium.capabilities();
    let mut reader = Reader::open(&mut medium, None)?;
    reader.changes_tasks = true;
    let mut known = reader.contents(can.records)?;
    if !can.grows {
        return Ok(());
    }
    for _ in 0..3 {
        let (earlier, latest) = (Task::new(), Task::new());
        expect_pending(&mut reader, &earlier)?;
        expect_pending(&mut reader, &latest)?;
        medium.append();
        let position = reader.position()?;
        let mut next = reader.next_after_wake(&latest)?;
        while let Some(Item::Watermark(_)) = next {
            next = reader.next()?;
        }
        match next {
            Some(item @ Item::Record(..)) if !known.items.contains(&item) => known.items.push(item),
            other => return Err(format!("a record was added, and {other:?} came")),
        }
        if reader.position()? == position {
            return Err("its position does not cover a record that came later".into());
        }
    }
    Ok(())
}

/// Polls until the source is pending; it may hand out watermarks before.
fn expect_pending<M: Medium>(reader: &mut Reader<M>, task: &Task) -> Verdict
where
    Record<M>: Debug,
{
    loop {
        match reader.poll(task)? {
            Poll::Pending => return Ok(()),
            Poll::Ready(Some(Item::Watermark(_))) => {}
            Poll::Ready(other) => {
                return Err(format!("{other:?} comes after everything that there is"));
            }
        }
    }
}
