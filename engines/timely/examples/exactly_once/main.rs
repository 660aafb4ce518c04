//! Two processes, one dataflow, each record exactly once in the output, whatever is killed.
//!
//! ```text
//! cargo run -p inflight-timely --example exactly_once -- --process 0 --folder /tmp/once &
//! cargo run -p inflight-timely --example exactly_once -- --process 1 --folder /tmp/once
//! ```
//!
//! Kill either of them; the other one ends too. Start both again, and they go on. Each worker reads a partition of the input, records are
//! exchanged by their key, a service is asked for each, and the worker that has asked writes the answer.
//!
//! **Epochs are checkpoints.** A source sends its records at times 0, 1, 2 .., a few at each: the time is the number of an *epoch*. When the
//! frontier behind the operator has passed an epoch, all of its answers have come, on all workers. Then each worker appends to its journal,
//! in one write, its answers of this epoch and the position of its source behind it (`journal.rs`, `sink.rs`).
//!
//! **Recovery takes the latest epoch that all have.** A worker may die before it has written an epoch that another one has. So the workers
//! tell each other how many they have, cut their journals off behind the smallest number, and their sources go on at the position there
//! (`job.rs`). An answer behind the cut comes again, since its record does.
//!
//! `--unaligned` leaves out the agreement and `--uncut` the cut, to show that both are needed.

mod job;
mod journal;
mod options;
mod sink;

use std::process::ExitCode;

use options::Options;
use timely::{CommunicationConfig, Config, WorkerConfig};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("exactly_once: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse(std::env::args().skip(1))?;
    end_on_panic();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let handle = runtime.handle().clone();
    let config = Config { communication: cluster(&options), worker: WorkerConfig::default() };
    let workers = timely::execute(config, move |worker| {
        let _inside = handle.enter();
        job::run(worker, &options).map_err(|error| error.to_string())
    })?;
    for worker in workers.join() {
        worker??;
    }
    Ok(())
}

fn cluster(options: &Options) -> CommunicationConfig {
    CommunicationConfig::Cluster {
        threads: options.threads,
        process: options.process,
        addresses: (0..2).map(|process| format!("127.0.0.1:{}", options.port + process)).collect(),
        report: false,
        zerocopy: false,
    }
}

/// A panic of any thread ends the process, since the other workers would wait for one that has panicked.
fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::exit(101);
    }));
}
