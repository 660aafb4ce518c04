//! Where a run begins: at the start, where an earlier one was, or not at all because that one has
//! finished.

use std::fs;
use std::path::{self, Path, PathBuf};

use inflight::prelude::*;

use crate::checkpoints::{Checkpoints, STAGE, Saved, Written};
use crate::identity::Identity;
use crate::input::{self, InputFile, Reader};
use crate::options::Options;
use crate::problem::Problem;
use crate::progress::{say, thousands};
use crate::sink::OutputFile;
use crate::source::Position;
use crate::summary::Summary;

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
        let position = saved.as_ref().map(|saved| saved.position.clone()).unwrap_or_default();
        let length = Some(input.length);
        let reader = input.read_from(&position)?;
        let earlier = match saved {
            Some(saved) => Some(go_on(saved, options)?),
            None => check_empty(options).map(|()| None)?,
        };
        // Only now, so that a job that is refused leaves no empty file behind.
        let (mut output, mut rejected) = open_outputs(options)?;
        let start = match earlier {
            Some(start) => start,
            None => begin(options, &mut checkpoints, &mut output, &mut rejected).await?,
        };
        if !start.written.finished {
            output.cut(start.written.output).await?;
            rejected.cut(start.written.rejected).await?;
        }
        Ok(Self { reader, length, output, rejected, checkpoints: Some(checkpoints), start })
    }

    async fn of_standard_input(options: &Options) -> Result<Self, Problem> {
        check_names(options)?;
        check_empty(options)?;
        let (mut output, mut rejected) = open_outputs(options)?;
        if options.fresh && options.checkpoint_dir.is_dir() {
            forget_job_of_output(options).await?;
        }
        output.cut(0).await?;
        rejected.cut(0).await?;
        let (reader, start) = (input::standard_input(), Start::default());
        Ok(Self { reader, length: None, output, rejected, checkpoints: None, start })
    }
}

/// Forgets checkpoints that would go with an output that is gone. Those of another job stay.
async fn forget_job_of_output(options: &Options) -> Result<(), Problem> {
    let mut checkpoints = Checkpoints::open(&options.checkpoint_dir, Identity::default())?;
    // Damaged ones are nobody's, and no run goes on from them.
    let Ok(Some(saved)) = checkpoints.load_any().await else { return Ok(()) };
    if saved.identity.writes_to(&options.output)? {
        checkpoints.forget()?;
    }
    Ok(())
}

fn open_outputs(options: &Options) -> Result<(OutputFile, OutputFile), Problem> {
    if options.output == Path::new(Options::OUTPUT) {
        // Nobody asked for this folder, so nobody has made it. If it fails, the file tells.
        let _ = fs::create_dir_all(Options::OUTPUT_FOLDER);
    }
    // Now, and not when all the work is done.
    options.summary.as_deref().map_or(Ok(()), Summary::check)?;
    let outputs = (OutputFile::open(&options.output)?, OutputFile::open(&options.rejected())?);
    // Names may only now lead to one file: through a link to nowhere, or a folder just made.
    check_names(options)?;
    Ok(outputs)
}

/// From the start. A checkpoint says so before the first byte is written: however early a crash
/// comes, the next run knows that the files are its own.
async fn begin(
    options: &Options,
    checkpoints: &mut Checkpoints,
    output: &mut OutputFile,
    rejected: &mut OutputFile,
) -> Result<Start, Problem> {
    if options.fresh {
        checkpoints.forget()?;
        // An output without a checkpoint would be taken for somebody else's.
        output.cut(0).await?;
        rejected.cut(0).await?;
    }
    let first = Start::default();
    checkpoints.save(first.position.checkpoint(first.next), &first.written).await?;
    Ok(Start { next: first.next.next(), ..first })
}

/// From a checkpoint.
fn go_on(saved: Saved, options: &Options) -> Result<Start, Problem> {
    let Saved { checkpoint, position, written, damaged, .. } = saved;
    OutputFile::check_length(&options.output, written.output)?;
    OutputFile::check_length(&options.rejected(), written.rejected)?;
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
fn check_empty(options: &Options) -> Result<(), Problem> {
    let outputs = [options.output.clone(), options.rejected()];
    let full = outputs.iter().find(|path| OutputFile::length(path) > 0);
    let Some(path) = full.filter(|_| !options.fresh) else { return Ok(()) };
    Err(Problem::new(
        format!("{} is not empty, and there is no checkpoint that goes with it", path.display()),
        "Overwrite it with --fresh, or name another file with --output.",
    ))
}

/// Whether each file is one thing only, so that none is overwritten by another.
fn check_names(options: &Options) -> Result<(), Problem> {
    let (input, rejected) = (&options.input, options.rejected());
    let input = (!options.reads_standard_input()).then_some(("the input", &**input, "--input"));
    let output = Some(("the output", &*options.output, "--output"));
    let rejected = Some(("the file of rejected lines", &*rejected, "--output"));
    let summary = options.summary.as_deref().map(|path| ("the summary", path, "--summary"));
    let files: Vec<_> = [input, output, rejected, summary].into_iter().flatten().collect();
    for (index, (_, path, option)) in files.iter().enumerate() {
        let other = files[..index].iter().find(|(_, other, _)| is_same_file(path, other));
        if let Some((role, ..)) = other {
            return Err(Problem::new(
                format!("{} is {role} and would be overwritten", path.display()),
                format!("Name another file with {option}."),
            ));
        }
    }
    Ok(())
}

/// Whether both names are of one file, be it there or not.
fn is_same_file(one: &Path, other: &Path) -> bool {
    is_linked(one, other)
        || place(one).is_some_and(|place_of_one| Some(place_of_one) == place(other))
}

/// Whether both names are of one file that is there.
#[cfg(unix)]
fn is_linked(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;

    let number = |path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    number(one).is_some_and(|number_of_one| Some(number_of_one) == number(other))
}

#[cfg(not(unix))]
fn is_linked(_: &Path, _: &Path) -> bool {
    false
}

/// Where a file is or would be, without symbolic links.
fn place(path: &Path) -> Option<PathBuf> {
    let path = path::absolute(path).ok()?;
    let would_be = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(would_be).or(Some(path))
}
