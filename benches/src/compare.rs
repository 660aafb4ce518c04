//! The comparison: rounds in which every contender has its turn, medians, and the targets.

use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, Result};
use clap::Args;

use crate::contenders::Contender;
use crate::machine;
use crate::memory;
use crate::meter::Amount;
use crate::rows::{Group, Row, What, Where};
use crate::targets;
use crate::workloads::POLLS;

/// Options of a comparison.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// Fewer rows and rounds: takes a minute.
    #[arg(long)]
    quick: bool,
    /// One JSON object a row on the standard output, everything else on standard error.
    #[arg(long)]
    json: bool,
    /// Only these runtimes.
    #[arg(long, value_enum, value_delimiter = ',')]
    runtime: Vec<Where>,
    /// Only these workloads (with and without a timeout).
    #[arg(long, value_enum, value_delimiter = ',')]
    workload: Vec<What>,
    /// Only these capacities.
    #[arg(long, value_delimiter = ',')]
    capacity: Vec<usize>,
    /// Only contenders whose name contains one of these words.
    #[arg(long, value_delimiter = ',')]
    contender: Vec<String>,
    /// Rounds, instead of the usual number.
    #[arg(long)]
    rounds: Option<usize>,
}

/// The size of a run: many short samples, since on a busy machine a long one is sure to be interrupted.
struct Effort {
    rounds: usize,
    seconds: f64,
}

impl Options {
    fn groups(&self) -> Vec<Group> {
        let chosen = |given: &[usize], usual: &[usize]| {
            if given.is_empty() { usual.to_vec() } else { given.to_vec() }
        };
        let usual_runtimes = if self.quick { &Where::ALL[..1] } else { Where::ALL };
        let runtimes = if self.runtime.is_empty() { usual_runtimes } else { &self.runtime };
        let workloads = if self.workload.is_empty() { What::ALL } else { &self.workload };
        let mut groups = Vec::new();
        for &runtime in runtimes {
            for &what in workloads {
                let usual: &[usize] = match (self.quick, what) {
                    (true, What::Sleep) => &[10_000],
                    (true, _) | (false, What::Mix10 | What::Mix1) => &[100, 1_000],
                    (false, What::Sleep) => &[1, 16, 100, 1_000, 10_000],
                    (false, _) => &[1, 16, 100, 1_000, 10_000, 1_000_000],
                };
                for capacity in chosen(&self.capacity, usual) {
                    for timeout in [false, true] {
                        // So many in flight take minutes: on one runtime only, and without timeouts.
                        let many = capacity >= 1_000_000 && self.capacity.is_empty();
                        // What a cache in front costs is no matter of the runtime or of timers.
                        if !(many || what.is_mix()) || (runtime == Where::Tokio && !timeout) {
                            groups.push(Group { runtime, what, timeout, capacity });
                        }
                    }
                }
            }
        }
        groups
    }

    fn contenders(&self, group: &Group) -> Vec<Contender> {
        let named = |contender: &Contender| {
            let name = contender.to_string();
            self.contender.is_empty() || self.contender.iter().any(|word| name.contains(word))
        };
        // The quick run leaves out sleeps one after the other, and most contenders of the sleep.
        let hurry = self.quick && group.what == What::Sleep;
        let bearable = |contender: &Contender| !hurry || contender.is_in_quick_sleep();
        let all = Contender::ALL.iter().copied();
        all.filter(|contender| group.has(*contender)).filter(named).filter(bearable).collect()
    }

    fn effort(&self, group: &Group) -> Effort {
        let (rounds, seconds) = match (self.quick, group.what, group.capacity) {
            (true, What::Sleep, _) => (5, 0.04),
            (true, ..) => (25, 0.001),
            // The ticks of a timer make single sleeps differ by some percent, but the target is a ratio.
            (false, What::Sleep, 10_000) => (11, 0.05),
            (false, What::Sleep, _) => (3, 0.05),
            (false, _, 1_000_000..) => (1, 0.02),
            (false, ..) => (31, 0.002),
        };
        Effort { rounds: self.rounds.unwrap_or(rounds), seconds }
    }
}

/// Runs the comparison.
pub(crate) fn compare(options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    if options.json {
        eprintln!("{}", machine::describe());
    } else {
        println!("{}", machine::describe());
    }
    for group in options.groups() {
        let contenders = options.contenders(&group);
        let measured = measure(&group, &contenders, &options.effort(&group))?;
        for row in &measured {
            if options.json {
                println!("{}", serde_json::to_string(row)?);
            }
        }
        if !options.json {
            print_group(&group, &measured);
        }
        rows.extend(measured);
    }
    let table = targets::table(&rows);
    if options.json {
        eprintln!("{table}\n{}", machine::load());
    } else {
        println!("{table}\n{}", machine::load());
    }
    Ok(())
}

/// Measures some contenders.
pub(crate) fn measure_row_set(
    group: &Group,
    contenders: &[Contender],
    rounds: usize,
) -> Result<Vec<Row>> {
    measure(group, contenders, &Effort { rounds, seconds: 0.005 })
}

/// A contender in the rounds.
struct Entry {
    contender: Contender,
    amount: Amount,
    ns: Vec<f64>,
    allocations: f64,
    peak_bytes: u64,
    polls: Option<f64>,
}

fn measure(group: &Group, contenders: &[Contender], effort: &Effort) -> Result<Vec<Row>> {
    let mut entries = Vec::new();
    for contender in contenders.iter().copied() {
        entries.push(warm_up(group, contender, effort)?);
    }
    for round in 0..effort.rounds {
        // Each round begins with another contender, so that none always runs after the same neighbour.
        for at in 0..entries.len() {
            let at = (at + round) % entries.len();
            let entry = &mut entries[at];
            let measured = group.sample(entry.contender, entry.amount)?;
            entry.ns.push(measured.ns);
        }
    }
    Ok(entries.into_iter().map(|entry| entry.row(group)).collect())
}

/// The approximate time of a record, and its allocations.
fn warm_up(group: &Group, contender: Contender, effort: &Effort) -> Result<Entry> {
    let about =
        || format!("{contender}, {} at {} on {}", group.workload(), group.capacity, group.runtime);
    let few = group.amount(contender, 1_000.0, effort.seconds / 10.0);
    let ns = group.sample(contender, few).with_context(about)?.ns;
    let amount = group.amount(contender, ns.max(1.0), effort.seconds);
    let polls = POLLS.load(Relaxed);
    if group.on_one_thread() {
        memory::start_here();
    } else {
        memory::start();
    }
    let counted = group.sample(contender, amount).with_context(about)?;
    memory::stop();
    let (allocations, peak_bytes) = (counted.allocations, memory::peak_bytes());
    let polls = (POLLS.load(Relaxed) - polls) as f64 / amount.total() as f64;
    let polls = (polls > 0.0).then_some(polls);
    Ok(Entry { contender, amount, ns: Vec::new(), allocations, peak_bytes, polls })
}

impl Entry {
    fn row(mut self, group: &Group) -> Row {
        self.ns.sort_by(f64::total_cmp);
        Row {
            runtime: group.runtime.to_string(),
            workload: group.workload(),
            capacity: group.capacity,
            contender: self.contender.to_string(),
            ns_per_record: self.ns[self.ns.len() / 2],
            ns_lowest: self.ns[0],
            ns_highest: self.ns[self.ns.len() - 1],
            allocations_per_record: self.allocations,
            peak_bytes: self.peak_bytes,
            polls_per_record: self.polls,
        }
    }
}

fn print_group(group: &Group, rows: &[Row]) {
    println!("\n{}, {}, capacity {}", group.runtime, group.workload(), group.capacity);
    println!(
        "{:<38} {:>9} {:>9} {:>9}  {:>11} {:>12}{}",
        "",
        "ns/record",
        "lowest",
        "highest",
        "allocations",
        "peak bytes",
        if group.what == What::Sleep { "  polls" } else { "" }
    );
    for row in rows {
        let polls = row.polls_per_record.map_or(String::new(), |polls| format!(" {polls:>6.2}"));
        println!(
            "{:<38} {:>9.1} {:>9.1} {:>9.1}  {:>11.3} {:>12}{polls}",
            row.contender,
            row.ns_per_record,
            row.ns_lowest,
            row.ns_highest,
            row.allocations_per_record,
            row.peak_bytes
        );
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// In every mode of ours except one task per request, once the window has been full.
    pub(crate) fn no_record_allocates() {
        for (what, timeout) in [
            (What::Ready, false),
            (What::PendingOnce, false),
            (What::Random, false),
            (What::Random, true),
        ] {
            let group = Group { runtime: Where::Tokio, what, timeout, capacity: 100 };
            let ours = Contender::ALL.iter().copied().filter(|contender| {
                let name = contender.to_string();
                group.has(*contender) && name.starts_with("inflight") && !name.contains("spawned")
            });
            let mut rows = 0;
            for contender in ours {
                let effort = Effort { rounds: 0, seconds: 0.001 };
                let entry = warm_up(&group, contender, &effort).expect("a sample");
                assert!(
                    entry.allocations == 0.0,
                    "{contender}, {}: {}",
                    group.workload(),
                    entry.allocations
                );
                rows += 1;
            }
            assert!(rows >= 6, "{rows} of ours");
        }
    }
}
