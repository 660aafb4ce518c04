//! Every position, in another instance.

use std::fmt::Debug;

use inflight_core::Timestamp;

use super::reader::{Contents, Item, Position, Reader};
use super::{Medium, New, Record};
use crate::Verdict;

/// All elements, read by one instance.
pub(crate) fn contents<M: Medium>(medium: &mut M) -> Verdict<Contents<Record<M>>> {
    let records = medium.capabilities().records;
    Reader::open(medium, None)?.contents(records)
}

// Rule 4
pub(crate) fn barriers<M: Medium>(new: New<'_, M>) -> Verdict {
    let mut medium = new();
    let mut reader = Reader::open(&mut medium, None)?;
    let mut records = medium.capabilities().records;
    while records > 0 {
        match reader.next() {
            Ok(Some(Item::Barrier)) => return Err("it hands out a barrier".into()),
            Ok(Some(Item::Record(..))) => records -= 1,
            Ok(Some(Item::Watermark(_))) => {}
            Ok(None) | Err(_) => break, // another check reports that
        }
    }
    Ok(())
}

// Rule 2
pub(crate) fn whole<M: Medium>(new: New<'_, M>) -> Verdict
where
    Record<M>: PartialEq + Debug,
{
    let mut medium = new();
    let first = contents(&mut medium)?;
    for (number, item) in first.items.iter().enumerate() {
        if let Item::Record(..) = item
            && first.items[..number].contains(item)
        {
            return Err(format!("it hands out {item:?} twice"));
        }
    }
    if !medium.capabilities().replays {
        return Ok(());
    }
    // A new job begins at the beginning, also when an earlier one has died before its first checkpoint.
    for _ in 0..2 {
        let again = contents(&mut medium)?;
        same(&first, 0, &again).map_err(|what| format!("another new job: {what}"))?;
    }
    Ok(())
}

// Rules 1 and 2
pub(crate) fn positions<M: Medium>(new: New<'_, M>) -> Verdict
where
    Record<M>: PartialEq + Debug,
{
    each_position(new, same_records)
}

// Rule 6
pub(crate) fn watermarks<M: Medium>(new: New<'_, M>) -> Verdict
where
    Record<M>: PartialEq + Debug,
{
    each_position(new, same)
}

type Compare<R> = fn(&Contents<R>, usize, &Contents<R>) -> Verdict;

fn each_position<M: Medium>(new: New<'_, M>, compare: Compare<Record<M>>) -> Verdict {
    let whole = contents(&mut new())?;
    let all = whole.items.len();
    for after in 0..=all {
        let told = |what| format!("opened at the position after {after} of {all} elements: {what}");
        let mut medium = new();
        let position = position_after(&mut medium, after)?;
        let mut reader = Reader::open(&mut medium, Some(&position)).map_err(told)?;
        let rest = reader.contents(whole.left(after)).map_err(told)?;
        compare(&whole, after, &rest).map_err(told)?;
    }
    hops(&mut new(), &whole, compare)
}

/// The position of an instance that has handed out so many elements.
fn position_after<M: Medium>(medium: &mut M, elements: usize) -> Verdict<Position> {
    let mut reader = Reader::open(medium, None)?;
    for _ in 0..elements {
        reader.next()?;
    }
    reader.position()
}

/// Every instance hands out one element, and the next one goes on at its position.
fn hops<M: Medium>(
    medium: &mut M,
    whole: &Contents<Record<M>>,
    compare: Compare<Record<M>>,
) -> Verdict {
    let mut position = position_after(medium, 0)?;
    let mut read = Contents { items: Vec::new(), positions: Vec::new() };
    // A source that hands out a watermark again, and nothing else, would never come to an end.
    for _ in 0..2 * whole.items.len() + 2 {
        if !medium.capabilities().ends && read.records() == whole.records() {
            break;
        }
        let mut reader = Reader::open(medium, Some(&position))?;
        let Some(item) = reader.next()? else { break };
        read.items.push(item);
        position = reader.position()?;
    }
    compare(whole, 0, &read).map_err(|what| format!("with an instance for each element: {what}"))
}

/// The same records; the watermarks have a check of their own.
pub(crate) fn same_records<R: PartialEq + Debug>(
    whole: &Contents<R>,
    after: usize,
    found: &Contents<R>,
) -> Verdict {
    let is_record = |item: &&Item<R>| matches!(item, Item::Record(..));
    let expected: Vec<_> = whole.items[after..].iter().filter(is_record).collect();
    equal(&expected, &found.items.iter().filter(is_record).collect::<Vec<_>>())
}

/// The same records and the same watermarks. The last watermark before the position may come again.
fn same<R: PartialEq + Debug>(whole: &Contents<R>, after: usize, found: &Contents<R>) -> Verdict {
    let (before, rest) = whole.items.split_at(after);
    let highest = before.iter().filter_map(watermark).max();
    equal(&without_repetitions(rest, highest), &without_repetitions(&found.items, highest))
}

fn watermark<R>(item: &Item<R>) -> Option<Timestamp> {
    match item {
        Item::Watermark(time) => Some(*time),
        _ => None,
    }
}

/// Without watermarks that say nothing new.
fn without_repetitions<R>(items: &[Item<R>], mut highest: Option<Timestamp>) -> Vec<&Item<R>> {
    let says_something = |item: &&Item<R>| match watermark(item) {
        Some(time) if Some(time) == highest => false,
        Some(time) => {
            highest = Some(time);
            true
        }
        None => true,
    };
    items.iter().filter(says_something).collect()
}

fn equal<R: PartialEq + Debug>(expected: &[&Item<R>], found: &[&Item<R>]) -> Verdict {
    match expected.iter().zip(found).position(|(expected, found)| expected != found) {
        Some(at) => Err(format!("{:?} comes instead of {:?}", found[at], expected[at])),
        None if expected.len() == found.len() => Ok(()),
        None => Err(format!("{} elements come instead of {}", found.len(), expected.len())),
    }
}

// Rule 2
pub(crate) fn refused<M: Medium>(new: New<'_, M>) -> Verdict {
    let whole = contents(&mut new())?;
    for after in 1..=whole.items.len() {
        // Nothing is lost by going to a position at which no record was handed out.
        if whole.left(after) == whole.records() {
            continue;
        }
        let mut medium = new();
        let position = position_after(&mut medium, after)?;
        if medium.capabilities().loses {
            medium.lose();
        }
        if Reader::try_open(&mut medium, Some(&position))?.is_ok() {
            return Err(format!(
                "it has opened at the position after {after} elements, to which it cannot go"
            ));
        }
    }
    Ok(())
}
