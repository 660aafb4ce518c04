//! Where a run begins: at the start, where an earlier one was, or not at all because that one has
//! finished.

use std::fs;
use std::path::Path;

use inflight::prelude::*;

use crate::checkpoints::{Checkpoints, STAGE, Saved, Written};
use crate::identity::Identity;
use crate::input::{self, InputFile, Reader};
use crate::options::Options;
use crate::problem::Problem;
use crate::progress::{say, thousands};
use crate::sink::OutputFile;
use crate::source::Position;

/// A job as a run finds it.
pub struct Job {
    pub reader: Reader,
    /// The length of the input, where it is known.
    pub length: Option<u64>,
    pub output: OutputFile,
    pub rejected: OutputFile,
    /// `None`: there are none, because the input cannot be read again.
    pub checkpoints: Option<Checkpoints>,
    pub start: Start,
}

/// The point to begin at.
#[derive(Debug)]
pub struct Start {
    pub position: Position,
    pub written: Written,
    /// What was in flight there.
    pub in_flight: Option<Checkpoint>,
    /// The number of the next checkpoint.
    pub next: CheckpointId,
}

impl Default for Start {
    /// The beginning of a new job.
    fn default() -> Self {
        let (position, written) = (Position::default(), Written::default());
        Self { position, written, in_flight: None, next: CheckpointId(0) }
    }
}

impl Job {
    pub async fn open(options: &Options) -> Result<Self, Problem> {
        if options.reads_standard_input() {
            say("standard input cannot be read again: there are no checkpoints");
            return Self::of_standard_input(options).await;
        }
        let input = InputFile::open(&options.input)?;
        check_names(options)?;
        let identity = Identity::of(options, &input)?;
        let mut checkpoints = Checkpoints::open(&options.checkpoint_dir, identity)?;
        let saved = if options.fresh { None } else { checkpoints.load().await? };
        let (mut output, mut rejected) = open_outputs(options)?;
        let start = match saved {
            Some(saved) => go_on(saved, &output, &rejected)?,
            None => begin(options, &mut checkpoints, &output, &rejected).await?,
        };
        if !start.written.finished {
            output.cut(start.written.output).await?;
            rejected.cut(start.written.rejected).await?;
        }
        let length = Some(input.length);
        let reader = input.read_from(start.position.offset)?;
        Ok(Self { reader, length, output, rejected, checkpoints: Some(checkpoints), start })
    }

    async fn of_standard_input(options: &Options) -> Result<Self, Problem> {
        let (mut output, mut rejected) = open_outputs(options)?;
        check_empty(options, &output, &rejected)?;
        if options.fresh && options.checkpoint_dir.is_dir() {
            // They would go with an output that is gone.
            Checkpoints::open(&options.checkpoint_dir, Identity::default())?.forget().await?;
        }
        output.cut(0).await?;
        rejected.cut(0).await?;
        let (reader, start) = (input::standard_input(), Start::default());
        Ok(Self { reader, length: None, output, rejected, checkpoints: None, start })
    }
}

fn open_outputs(options: &Options) -> Result<(OutputFile, OutputFile), Problem> {
    if options.output == Path::new(Options::OUTPUT) {
        // Nobody asked for this folder, so nobody has made it. If it fails, the file tells.
        let _ = fs::create_dir_all(Options::OUTPUT_FOLDER);
    }
    Ok((OutputFile::open(&options.output)?, OutputFile::open(&options.rejected())?))
}

/// From the start. A checkpoint says so before the first byte is written: however early a crash
/// comes, the next run knows that the files are its own.
async fn begin(
    options: &Options,
    checkpoints: &mut Checkpoints,
    output: &OutputFile,
    rejected: &OutputFile,
) -> Result<Start, Problem> {
    if options.fresh {
        checkpoints.forget().await?;
    } else {
        check_empty(options, output, rejected)?;
    }
    let first = Start::default();
    checkpoints.save(first.position.checkpoint(first.next), &first.written).await?;
    Ok(Start { next: first.next.next(), ..first })
}

/// From a checkpoint.
fn go_on(saved: Saved, output: &OutputFile, rejected: &OutputFile) -> Result<Start, Problem> {
    let Saved { checkpoint, position, written, damaged, .. } = saved;
    output.check_length(written.output)?;
    rejected.check_length(written.rejected)?;
    if damaged > 0 {
        say(&format!("passed over {damaged} damaged checkpoint (a crash may have cut it short)"));
    }
    // A damaged one may have had a higher number.
    let next = CheckpointId(checkpoint.id().0 + damaged as u64 + 1);
    if !written.finished && position.lines > 0 {
        let in_flight = position.lines.saturating_sub(written.totals.done());
        let (id, lines) = (checkpoint.id(), thousands(position.lines));
        say(&format!("going on from checkpoint {id}: {lines} lines read, {in_flight} in flight"));
    }
    // The first and the last checkpoint are made without the stage: nothing is in flight there.
    let in_flight = checkpoint.section(STAGE).is_some().then_some(checkpoint);
    Ok(Start { position, written, in_flight, next })
}

/// Whether nothing of somebody else's is overwritten.
fn check_empty(
    options: &Options,
    output: &OutputFile,
    rejected: &OutputFile,
) -> Result<(), Problem> {
    let full = [output, rejected].into_iter().find(|file| file.length() > 0);
    let Some(file) = full.filter(|_| !options.fresh) else { return Ok(()) };
    Err(Problem::new(
        format!("{} is not empty, and there is no checkpoint that goes with it", file.path()),
        "Overwrite it with --fresh, or name another file with --output.",
    ))
}

/// Whether the input stays as it is.
fn check_names(options: &Options) -> Result<(), Problem> {
    let outputs = [options.output.clone(), options.rejected()];
    match outputs.iter().find(|output| is_same_file(output, &options.input)) {
        None => Ok(()),
        Some(output) => Err(Problem::new(
            format!("{} is the input and would be overwritten", output.display()),
            "Name another file with --output.",
        )),
    }
}

/// Whether both names are of one file that is there.
fn is_same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
