//! The targets of this library, relative to its peers in the same run.

use std::fmt::Write;

use crate::rows::Row;

/// A ratio of two contenders that must not be exceeded, for each of some workloads.
struct Target {
    name: &'static str,
    ours: &'static str,
    peer: &'static str,
    timeout: bool,
    at_most: &'static [(&'static str, f64)],
}

const TARGETS: &[Target] = &[
    Target {
        name: "in place, ordered / futures-buffered ordered",
        ours: "inflight in-place ordered",
        peer: "futures-buffered ordered",
        timeout: false,
        at_most: &[
            ("ready", 0.5),
            ("pending-once", 0.45),
            ("random", 0.8),
            ("mix-10", 1.0),
            ("mix-1", 1.0),
        ],
    },
    Target {
        name: "in place, ordered, timeout and retry armed / futures-buffered ordered with timeout",
        ours: "inflight in-place ordered",
        peer: "futures-buffered ordered",
        timeout: true,
        at_most: &[("ready", 0.3), ("pending-once", 0.2), ("random", 0.5)],
    },
    Target {
        name: "the same with a watermark every 100 records",
        ours: "inflight in-place ordered watermarks",
        peer: "futures-buffered ordered",
        timeout: true,
        at_most: &[("ready", 0.3), ("pending-once", 0.2), ("random", 0.5)],
    },
    Target {
        name: "on its own task, ordered / spawn each and a VecDeque",
        ours: "inflight on-task ordered",
        peer: "spawn vecdeque",
        timeout: false,
        at_most: &[("ready", 0.25), ("pending-once", 0.25), ("random", 0.55)],
    },
    Target {
        name: "in place, unordered / futures-buffered unordered",
        ours: "inflight in-place unordered",
        peer: "futures-buffered unordered",
        timeout: false,
        at_most: &[
            ("ready", 0.6),
            ("pending-once", 0.5),
            ("random", 0.75),
            ("mix-10", 1.0),
            ("mix-1", 1.0),
        ],
    },
    Target {
        name: "in place, ordered / the limit: a ring with a waker bit a slot",
        ours: "inflight in-place ordered",
        peer: "limit",
        timeout: false,
        at_most: &[("random", 1.1), ("mix-10", 1.5), ("mix-1", 2.0)],
    },
];

/// Ours in place and on a task of its own: the difference is what the handover costs.
const HANDOVERS: [(&str, &str); 2] = [
    ("inflight in-place ordered", "inflight on-task ordered"),
    ("inflight in-place unordered", "inflight on-task unordered"),
];

const CAPACITIES: [usize; 2] = [100, 1_000];

/// The share of the rate of 10,000 bare tasks with a 10 ms sleep that a stage must reach.
const SLEEP_AT_LEAST: f64 = 0.97;

/// Polls of a sleeping request.
const POLLS_AT_MOST: f64 = 2.1;

fn find<'r>(
    rows: &'r [Row],
    workload: &str,
    timeout: bool,
    capacity: usize,
    contender: &str,
) -> Option<&'r Row> {
    let workload = format!("{workload}{}", if timeout { "+timeout" } else { "" });
    rows.iter().find(|row| {
        row.runtime == "tokio"
            && row.workload == workload
            && row.capacity == capacity
            && row.contender == contender
    })
}

/// The table of targets, for the rows that were measured.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = String::from(
        "\nratios on tokio, one thread\n  capacity  workload        target  reached       (of the lowest)\n",
    );
    for target in TARGETS {
        let mut lines = String::new();
        for capacity in CAPACITIES {
            for &(workload, at_most) in target.at_most {
                let find = |name| find(rows, workload, target.timeout, capacity, name);
                let (Some(ours), Some(peer)) = (find(target.ours), find(target.peer)) else {
                    continue;
                };
                let ratio = ours.ns_per_record / peer.ns_per_record;
                let of_lowest = ours.ns_lowest / peer.ns_lowest;
                let _ = writeln!(
                    lines,
                    "  {capacity:>8}  {workload:<14} {at_most:>7.2} {ratio:>8.2}  {}  {of_lowest:>8.2}  {:.1} / {:.1} ns",
                    verdict(ratio <= at_most),
                    ours.ns_per_record,
                    peer.ns_per_record,
                );
            }
        }
        if !lines.is_empty() {
            let _ = write!(table, "{}\n{lines}", target.name);
        }
    }
    table + &handovers(rows) + &sleeps(rows) + &allocations(rows)
}

fn verdict(reached: bool) -> &'static str {
    if reached { "ok " } else { "NOT" }
}

fn handovers(rows: &[Row]) -> String {
    let mut lines = String::new();
    for (in_place, on_task) in HANDOVERS {
        for capacity in CAPACITIES {
            for workload in ["ready", "random"] {
                let find = |name| find(rows, workload, false, capacity, name);
                let (Some(in_place), Some(on_task)) = (find(in_place), find(on_task)) else {
                    continue;
                };
                let _ = writeln!(
                    lines,
                    "  {capacity:>8}  {workload:<14} {:.1} ns more than {:.1}  {}",
                    on_task.ns_per_record - in_place.ns_per_record,
                    in_place.ns_per_record,
                    on_task.contender,
                );
            }
        }
    }
    if lines.is_empty() {
        lines
    } else {
        format!("the handover from a task of its own, beside the same stage in place\n{lines}")
    }
}

fn sleeps(rows: &[Row]) -> String {
    let mut lines = String::new();
    for timeout in [false, true] {
        let find = |name: &str| find(rows, "sleep-10ms", timeout, 10_000, name);
        let Some(bare) = find("no stage") else { continue };
        for name in ["inflight in-place ordered", "inflight on-task ordered"] {
            let Some(ours) = find(name) else { continue };
            let share = bare.ns_per_record / ours.ns_per_record;
            let polls = ours.polls_per_record.unwrap_or(f64::NAN);
            let _ = writeln!(
                lines,
                "  {:>8}  {:<14} {SLEEP_AT_LEAST:>7.2} {share:>8.2}  {}  {polls:.2} polls  {}  {name}",
                10_000,
                ours.workload.replace("sleep-10ms", "sleep"),
                verdict(share >= SLEEP_AT_LEAST),
                verdict(polls <= POLLS_AT_MOST),
            );
        }
    }
    if lines.is_empty() {
        lines
    } else {
        format!("10 ms sleep, share of the rate of bare tasks (at least)\n{lines}")
    }
}

fn allocations(rows: &[Row]) -> String {
    let ours = rows
        .iter()
        .filter(|row| row.contender.starts_with("inflight") && !row.contender.contains("spawned"));
    let Some(worst) =
        ours.max_by(|a, b| a.allocations_per_record.total_cmp(&b.allocations_per_record))
    else {
        return String::new();
    };
    let most = worst.allocations_per_record;
    format!(
        "allocations per record once the window is full, the largest of all our rows on tokio except `spawned`\n  \
         {most:.4} ({}, {}, capacity {})  {}\n",
        worst.contender,
        worst.workload,
        worst.capacity,
        verdict(most < 0.001)
    )
}
