//! The machine and the versions behind the figures, without which the figures mean nothing.

use std::fs;

/// The compiler.
pub(crate) const RUSTC: &str = env!("BENCH_RUSTC");

/// The versions of the contenders, and the machine.
pub(crate) fn describe() -> String {
    let mut lines = format!("inflight-bench, {RUSTC}\n");
    let lock = include_str!(concat!(env!("OUT_DIR"), "/versions.txt"));
    lines += lock.trim_end();
    lines += &format!("\n{}, {} cores\n{}", processor(), cores(), load());
    lines
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or("unknown processor".into(), |name| name.trim_start_matches(['\t', ' ', ':']).into())
}

/// The load of the machine.
pub(crate) fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let averages: Vec<_> = load.split(' ').take(3).collect();
    format!("load {}", averages.join(" "))
}
