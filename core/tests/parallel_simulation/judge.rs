//! The rules of the output of one stage, as loops over what has come out.

use std::collections::HashMap;

use inflight_core::{BarrierMode, Failure, StreamElement};

use crate::plan::{Plan, Record, late_output};

/// An element that has come out: its position in the source, and of a record its key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Out {
    Record { number: u32, key: u32 },
    Control(u32),
}

/// Whether an element is a barrier in this mode.
pub(crate) fn is_barrier(plan: &Plan, number: u32, mode: BarrierMode) -> bool {
    matches!(plan.element(number), StreamElement::Barrier(barrier) if barrier.mode == mode)
}

/// What has come out so far: everything once, and in its place. E2, E3, O1, O2, O3
pub(crate) fn is_in_order(plan: &Plan, out: &[Out]) -> Result<(), String> {
    let mut last_of_key = HashMap::new();
    let (mut latest, mut last_control) = (None, None);
    for element in out {
        let (number, key) = match *element {
            Out::Record { number, key } => (number, Some(key)),
            Out::Control(number) => (number, None),
        };
        if key.is_none() && is_barrier(plan, number, BarrierMode::Snapshot) {
            continue;
        }
        let wrong = |rule: &str| Err(format!("element {number} is out of place ({rule}): {out:?}"));
        if last_control.is_some_and(|control| number <= control) {
            return wrong("E3, O2");
        }
        match key {
            None if latest.is_some_and(|latest| number <= latest) => return wrong("E3, O2"),
            None => last_control = Some(number),
            Some(_) if plan.order.is_total() && latest.is_some_and(|latest| number <= latest) => {
                return wrong("O1");
            }
            Some(key) => {
                let last = last_of_key.insert(key, number);
                if plan.order.has_key() && last.is_some_and(|last| number <= last) {
                    return wrong("O3");
                }
            }
        }
        latest = latest.max(Some(number));
    }
    Ok(())
}

/// At the end: each element of the source has come out once, unless it was dropped. A snapshot holds no barriers, so one that was draining
/// is gone after a crash. Adjacent watermarks may have become one. E2, E3, C3
pub(crate) fn is_whole(plan: &Plan, out: &[Out], dropped: &[u32]) -> Result<(), String> {
    for number in 0..plan.elements {
        let expected = match plan.element(number) {
            StreamElement::Record { value: Record { number, key }, .. } => {
                Out::Record { number, key }
            }
            _ => Out::Control(number),
        };
        let count = out.iter().filter(|element| **element == expected).count();
        let may_be_gone = dropped.contains(&number)
            || is_barrier(plan, number, BarrierMode::Drain)
            || is_before_a_watermark(plan, number);
        if count != 1 && !(count == 0 && may_be_gone) {
            return Err(format!("element {number} has come out {count} times (E2, E3): {out:?}"));
        }
    }
    Ok(())
}

/// Whether the element is a watermark with another one next to it, barriers aside.
fn is_before_a_watermark(plan: &Plan, number: u32) -> bool {
    let is_watermark = |number| matches!(plan.element(number), StreamElement::Watermark(_));
    let next = (number + 1..).find(|at| !matches!(plan.element(*at), StreamElement::Barrier(_)));
    is_watermark(number) && next.is_some_and(is_watermark)
}

/// F1, T3: a record's result is one that its function can have given.
pub(crate) fn is_possible(number: u32, result: &Result<u32, Failure<u32>>) -> bool {
    match result {
        Ok(output) => *output == 2 * number || Some(*output) == late_output(number),
        Err(Failure::Error(error)) => *error == number,
        Err(failure) => *failure == Failure::TimedOut,
    }
}
