//! The example `exactly_once` from outside: two processes of one dataflow are killed again and again, and the output is compared with the
//! input, record by record. The negative controls leave out what recovery needs, and must fail.
//!
//! `cargo test -p inflight-timely` builds the example. For this file alone: `cargo build -p inflight-timely --example exactly_once`, then
//! `cargo test -p inflight-timely --test kills`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

// K10, O3: each record is in the output exactly once and in the order of its key, after ten kills.
#[test]
fn ten_kills_lose_nothing_and_double_nothing() {
    let job = Job { port: 15_800, records: 8_000, options: &[], slow: "10" };
    let told = job.run(10, 3..30);
    println!("{told:?}");
    assert_eq!(told, Told { records: 16_000, ..Told::default() });
}

// K10, the control: without the agreement on an epoch that all have, records are lost or doubled.
#[test]
fn workers_that_go_on_at_their_own_epochs_damage_the_output() {
    let job = Job { port: 15_810, records: 2_000, options: &["--unaligned"], slow: "20" };
    let told = job.run(5, 3..20);
    println!("{told:?}");
    assert!(told.lost > 0 || told.doubled > 0, "{told:?}");
}

// K10, the control: with journals that are not cut off behind that epoch, records are doubled.
#[test]
fn journals_that_are_not_cut_off_have_records_twice() {
    let job = Job { port: 15_820, records: 2_000, options: &["--uncut"], slow: "20" };
    let told = job.run(5, 3..20);
    println!("{told:?}");
    assert!(told.doubled > 0, "{told:?}");
}

struct Job {
    port: u16,
    /// Records for each worker.
    records: u64,
    options: &'static [&'static str],
    /// By how many milliseconds process 1 is late with each save: this draws out the window in which one worker has an epoch and
    /// another has not. Without it the controls would find nothing in a few kills.
    slow: &'static str,
}

#[derive(Debug, Default, PartialEq)]
struct Told {
    records: u64,
    lost: u64,
    doubled: u64,
    out_of_order: u64,
    wrong: u64,
}

impl Job {
    /// Lives that end with a kill, when a process has saved a random number of epochs, and one that ends well.
    fn run(&self, kills: u32, epochs: std::ops::Range<u32>) -> Told {
        let folder = tempfile::tempdir().expect("a folder");
        let mut random = SmallRng::seed_from_u64(u64::from(self.port));
        let mut last_kill = None;
        for _ in 0..kills {
            let mut life = Life::begin(self, folder.path());
            life.wait_for_save(0);
            tell_time(last_kill);
            // Process 0 is the one whose saves are not slow.
            (1..random.random_range(epochs.clone())).for_each(|_| life.wait_for_save(0));
            life.kill(random.random_range(0..2));
            last_kill = Some(Instant::now());
        }
        Life::begin(self, folder.path()).finish();
        compare(folder.path(), self.records)
    }
}

fn tell_time(last_kill: Option<Instant>) {
    if let Some(kill) = last_kill {
        println!("{} ms from the kill to the next save", kill.elapsed().as_millis());
    }
}

/// Both processes, and what they tell.
struct Life {
    processes: [Child; 2],
    lines: Receiver<(usize, String)>,
}

impl Life {
    fn begin(job: &Job, folder: &Path) -> Self {
        let (tell, lines) = channel();
        let processes = [0, 1].map(|process| {
            let mut child = Command::new(example())
                .args(["--process", &process.to_string(), "--port", &job.port.to_string()])
                .args(["--records", &job.records.to_string(), "--folder"])
                .arg(folder)
                .args(["--save-takes", if process == 1 { job.slow } else { "0" }])
                .args(job.options)
                .env("RUST_BACKTRACE", "0")
                .stdout(Stdio::piped())
                .stderr(Stdio::null()) // timely panics when a process is gone
                .spawn()
                .expect("it starts");
            forward(process, &mut child, tell.clone());
            child
        });
        Self { processes, lines }
    }

    /// Waits until a process has saved one more epoch.
    fn wait_for_save(&self, process: usize) {
        let saved = |(from, line): (usize, String)| from == process && line.starts_with("saved");
        assert!(self.lines.iter().any(saved), "both processes have ended too early");
    }

    /// Kills one process. The other one ends as well.
    fn kill(&mut self, process: usize) {
        self.processes[process].kill().expect("it runs");
        for process in &mut self.processes {
            assert!(!process.wait().expect("it was started").success());
        }
    }

    fn finish(mut self) {
        for process in &mut self.processes {
            let status = process.wait().expect("it was started");
            assert!(status.success(), "{status}");
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill(); // after a test that has failed
            let _ = process.wait();
        }
    }
}

fn forward(process: usize, child: &mut Child, tell: Sender<(usize, String)>) {
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    thread::spawn(move || {
        for line in output.lines().map_while(Result::ok) {
            let _ = tell.send((process, line)); // the test may have ended
        }
    });
}

/// Compares the journals with what two partitions of so many records must give.
fn compare(folder: &Path, records: u64) -> Told {
    let mut told = Told::default();
    let mut times = BTreeMap::<(u64, u64), u64>::new();
    for worker in 0..2 {
        let journal = fs::read_to_string(folder.join(format!("worker-{worker}")));
        let mut last = BTreeMap::new();
        for line in
            journal.expect("it was written").lines().filter_map(|line| line.strip_prefix("r "))
        {
            let fields: Vec<u64> =
                line.split(' ').map(|field| field.parse().expect("a number")).collect();
            let [_epoch, partition, number, key, answer] = fields[..] else { panic!("{line}") };
            *times.entry((partition, number)).or_default() += 1;
            told.records += 1;
            told.wrong += u64::from(answer != number * number || key % 2 != worker);
            let before = last.insert((key, partition), number);
            told.out_of_order += u64::from(before.is_some_and(|before| before >= number));
        }
    }
    let all = || (0..2).flat_map(|partition| (0..records).map(move |number| (partition, number)));
    told.lost = all().filter(|record| !times.contains_key(record)).count() as u64;
    told.doubled = times.values().map(|times| times - 1).sum();
    told.wrong += (times.len() as u64 + told.lost).abs_diff(2 * records);
    told
}

/// Cargo has built the example for the tests, into the folder next to theirs.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("it has a path");
    let build = test.parent().and_then(Path::parent).expect("it is in a folder");
    let example =
        build.join("examples").join("exactly_once").with_extension(std::env::consts::EXE_EXTENSION);
    assert!(
        example.exists(),
        "no example: run `cargo build -p inflight-timely --example exactly_once` before this test alone"
    );
    example
}
