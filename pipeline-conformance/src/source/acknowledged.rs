//! Acknowledgements, and what is left behind them.

use std::fmt::Debug;

use super::positions::{contents, same_records};
use super::reader::{Contents, Reader};
use super::{Medium, New, Record};
use crate::Verdict;

// Rule 3
pub(crate) fn acknowledged<M: Medium>(new: New<'_, M>) -> Verdict
where
    Record<M>: PartialEq + Debug,
{
    let whole = contents(&mut new())?;
    let all = whole.items.len();
    for last in 0..=all {
        // The one before may be any earlier one (those between are missing), the same one, or none.
        for before in (0..=last).map(Some).chain([None]) {
            let told = |what| match before {
                Some(before) => {
                    format!("elements up to {before}, then up to {last} of {all}: {what}")
                }
                None => format!("elements up to {last} of {all} are acknowledged: {what}"),
            };
            scenario(&mut new(), &whole, before, last).map_err(told)?;
        }
    }
    Ok(())
}

fn scenario<M: Medium>(
    medium: &mut M,
    whole: &Contents<Record<M>>,
    before: Option<usize>,
    last: usize,
) -> Verdict
where
    Record<M>: PartialEq + Debug,
{
    let mut reader = Reader::open(medium, None)?;
    let read = reader.contents(whole.records())?;
    for acknowledged in before.into_iter().chain([last]) {
        reader.acknowledge(&read.positions[acknowledged])?;
    }
    drop(reader);

    // After a crash the same acknowledgement comes again, early or late.
    for is_early in [true, false] {
        let mut reader = Reader::open(medium, Some(&read.positions[last]))?;
        if is_early {
            reader.acknowledge(&read.positions[last])?;
        }
        let rest = reader.contents(whole.left(last))?;
        same_records(whole, last, &rest)?;
        if !is_early {
            reader.acknowledge(&read.positions[last])?;
            reader.acknowledge(rest.positions.last().expect("the first one is always there"))?;
            let end = reader.position()?;
            drop(reader);
            let after_all = Reader::open(medium, Some(&end))?.contents(0)?;
            same_records(whole, whole.items.len(), &after_all)?;
        }
    }
    Ok(())
}
