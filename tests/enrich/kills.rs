//! `kill -9` at random moments, again and again; then the output is compared with the input.
//!
//! `INFLIGHT_KILLS=N` sets the number of kills in each mode, `INFLIGHT_SEED=S` selects another sequence of moments. The example
//! pauses between pre-commit, save and commit (`ENRICH_WINDOW`), so that many of the kills hit there.

use std::io::Write;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::harness::{Job, MODES, Running, flights_and_broken_lines};
use crate::judge::Verdict;

/// The number of kills in a plain `cargo test`.
const KILLS: u64 = 20;

/// A size at which a job takes several lives, and 1,000 kills take several minutes.
const FLIGHTS: usize = 400;

/// The effect of a number of kills.
#[derive(Debug, Default)]
struct Damage {
    kills: u64,
    jobs: u64,
    verdict: Verdict,
}

/// Runs jobs and kills them, until there have been that many kills and the last job is done; or, if asked for, until
/// there is some damage.
fn kill(
    mode: &str,
    kills: u64,
    seed: u64,
    environment: &[(&str, &str)],
    until_damaged: bool,
) -> Damage {
    let mut random = StdRng::seed_from_u64(seed);
    let mut damage = Damage::default();
    let input = flights_and_broken_lines(FLIGHTS);
    while damage.kills < kills && (!until_damaged || damage.verdict.is_good()) {
        let order = ["ordered", "unordered"][(damage.jobs % 2) as usize];
        let job = Job::new(&input).with(&["--order", order, "--latency", "3ms"]);
        let job = job.with(&["--capacity", "10", "--checkpoint-interval", "10ms"]);
        let job = job.with(&["--checkpoint", mode]);
        damage.jobs += 1;
        let start = || {
            let mut command = job.command(&[]);
            command.envs(environment.iter().copied());
            Running::new(command)
        };
        while damage.kills < kills && kill_somewhere(&job, start(), &mut random) {
            damage.kills += 1;
        }
        // The last kill may have been too late.
        let said = start().said();
        assert!(said.status.success(), "{said:#?}");
        damage.verdict.add(job.verdict(&input, order == "ordered"));
    }
    damage
}

/// Kills a run at a random moment. Returns true if it was still running.
fn kill_somewhere(job: &Job, mut running: Running, random: &mut StdRng) -> bool {
    for _ in 0..random.random_range(0..6) {
        let before = job.traces();
        if !running.wait_until(|| job.traces() != before) {
            return false;
        }
    }
    // Its files have just changed, so the run may be in one of its pauses.
    let moment = Duration::from_micros(random.random_range(0..12_000));
    running.kill_after(moment)
}

// K9, K10, K14
#[test]
fn kills_lose_nothing_and_double_nothing_with_positions_only() {
    kills_lose_nothing_and_double_nothing("positions");
}

// K9, K10
#[test]
fn kills_lose_nothing_and_double_nothing_with_snapshots() {
    kills_lose_nothing_and_double_nothing("snapshot");
}

// K3, K9, K10
#[test]
fn kills_lose_nothing_and_double_nothing_with_drains() {
    kills_lose_nothing_and_double_nothing("drain");
}

#[track_caller]
fn kills_lose_nothing_and_double_nothing(mode: &str) {
    let kills = number("INFLIGHT_KILLS").unwrap_or(KILLS);
    let seed = number("INFLIGHT_SEED").unwrap_or(6);
    let Damage { kills: made, jobs, verdict } =
        kill(mode, kills, seed, &[("ENRICH_WINDOW", "5ms")], false);
    say(&format!("{mode}, kills: {made}, {verdict:?}"));
    assert!(
        made == kills && verdict.is_good(),
        "{mode}, seed {seed}, {made} kills, {jobs} jobs: {verdict:?}"
    );
}

/// The control: with save and commit in the wrong order, kills must do damage.
#[test]
fn committing_before_saving_is_found() {
    let wrong = [("ENRICH_WINDOW", "5ms"), ("ENRICH_COMMITS_FIRST", "1")];
    for mode in MODES {
        let damage = kill(mode, 200, 7, &wrong, true);
        say(&format!("{mode}, in the wrong order: {damage:?}"));
        assert!(!damage.verdict.is_good(), "{mode}: {damage:?}");
    }
}

/// Prints a line also when the test passes: the harness captures `println!`, but not this.
fn say(line: &str) {
    writeln!(std::io::stderr(), "{line}").expect("standard error takes it");
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
