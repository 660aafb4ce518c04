//! The start of a run: at the beginning, at the position of an earlier run, or not at all because the job has
//! finished.

use std::fs;
use std::path::{self, Path, PathBuf};

use inflight::lines::{LineFile, LineSource};

use crate::checkpoints::{Checkpoints, Saved};
use crate::identity::Identity;
use crate::input::{self, InputFile};
use crate::options::Options;
use crate::problem::{Problem, with_causes};
use crate::progress::say;
use crate::sink::{self, Written};
use crate::source::Position;
use crate::summary::Summary;
use crate::terminal::numbers::thousands;

/// A job at the start of a run.
pub struct Job {
    pub lines: LineSource,
    /// The length of the input, if it is known.
    pub length: Option<u64>,
    pub output: LineFile,
    pub rejected: LineFile,
    /// `None`: there are no checkpoints, because the input cannot be read again.
    pub checkpoints: Option<Checkpoints>,
    pub identity: Identity,
    /// The position of an earlier run.
    pub start: Start,
}

/// The position to begin at.
#[derive(Debug, Default)]
pub struct Start {
    pub position: Position,
    pub written: Written,
    pub is_finished: bool,
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
        let mut checkpoints = Checkpoints::open(&options.checkpoint_dir)?;
        let saved = if options.fresh { None } else { checkpoints.load().await? };
        let start = match saved {
            Some(saved) => {
                checkpoints.check(&saved, &identity)?;
                go_on(saved, options)?
            }
            None => check_empty(options).map(|()| Start::default())?,
        };
        // Open the files only now, so that a refused job leaves no empty file behind.
        let (mut output, mut rejected) = open_outputs(options)?;
        if options.fresh {
            checkpoints.forget()?;
            empty(&mut output).await?;
            empty(&mut rejected).await?;
        }
        let (lines, length, checkpoints) = (input.lines, Some(input.length), Some(checkpoints));
        Ok(Self { lines, length, output, rejected, checkpoints, identity, start })
    }

    async fn of_standard_input(options: &Options) -> Result<Self, Problem> {
        check_names(options)?;
        check_empty(options)?;
        let (mut output, mut rejected) = open_outputs(options)?;
        if options.fresh && options.checkpoint_dir.is_dir() {
            forget_job_of_output(options).await?;
        }
        empty(&mut output).await?;
        empty(&mut rejected).await?;
        let (lines, start) = (input::standard_input(), Start::default());
        let (length, checkpoints, identity) = (None, None, Identity::default());
        Ok(Self { lines, length, output, rejected, checkpoints, identity, start })
    }
}

/// Removes checkpoints of this job whose output is gone. Those of another job stay.
async fn forget_job_of_output(options: &Options) -> Result<(), Problem> {
    let mut checkpoints = Checkpoints::open(&options.checkpoint_dir)?;
    // Damaged checkpoints belong to no job, and no run can resume from them.
    let Ok(Some(saved)) = checkpoints.load().await else { return Ok(()) };
    if saved.written.identity.writes_to(&options.output)? {
        checkpoints.forget()?;
    }
    Ok(())
}

fn open_outputs(options: &Options) -> Result<(LineFile, LineFile), Problem> {
    if options.output == Path::new(Options::OUTPUT) {
        // The user did not name this folder, so the program creates it. If that fails, opening the file
        // reports it.
        let _ = fs::create_dir_all(Options::OUTPUT_FOLDER);
    }
    // Fail now, and not after all the work.
    options.summary.as_deref().map_or(Ok(()), Summary::check)?;
    let outputs = (sink::open(&options.output)?, sink::open(&options.rejected())?);
    // Check again, because names may only now lead to one file: through a dangling link, or a new folder.
    check_names(options)?;
    Ok(outputs)
}

async fn empty(output: &mut LineFile) -> Result<(), Problem> {
    let way_out = "Name another file with --output.";
    output.cut(0).await.map_err(|error| Problem::new(with_causes(&error), way_out))
}

/// Resumes from a checkpoint.
fn go_on(saved: Saved, options: &Options) -> Result<Start, Problem> {
    let Saved { id, position, written, is_finished, damaged } = saved;
    sink::check_length(&options.output, written.output)?;
    sink::check_length(&options.rejected(), written.rejected)?;
    if damaged > 0 {
        say(&format!("skipped {damaged} damaged checkpoint (a crash may have cut it short)"));
    }
    if !is_finished && written.totals.done().max(position.lines.lines) > 0 {
        say(&format!("resuming from checkpoint {id}: {}", progress(&position, &written)));
    }
    Ok(Start { position, written, is_finished })
}

/// A checkpoint's progress. One that holds positions only has the position of the oldest line in flight, and some
/// of the lines behind it may be done.
fn progress(position: &Position, written: &Written) -> String {
    let (read, done) = (position.lines.lines, written.totals.done());
    let lines = thousands(read);
    match read.checked_sub(done) {
        Some(in_flight) => format!("{lines} lines read, {in_flight} in flight"),
        None => format!("{lines} lines read, and {} of those behind them are done", done - read),
    }
}

/// Checks that no file of another program is overwritten.
fn check_empty(options: &Options) -> Result<(), Problem> {
    let outputs = [options.output.clone(), options.rejected()];
    let full = outputs.iter().find(|path| sink::length(path) > 0);
    let Some(path) = full.filter(|_| !options.fresh) else { return Ok(()) };
    Err(Problem::new(
        format!("{} is not empty, and no checkpoint describes it", path.display()),
        "Overwrite it with --fresh, or name another file with --output.",
    ))
}

/// Checks that each path has only one role, so that no file is overwritten by another.
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

/// True if both paths lead to one file, existing or not.
fn is_same_file(one: &Path, other: &Path) -> bool {
    is_linked(one, other)
        || place(one).is_some_and(|place_of_one| Some(place_of_one) == place(other))
}

/// True if both paths lead to one existing file.
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

/// The path of an existing or future file, without symbolic links.
fn place(path: &Path) -> Option<PathBuf> {
    let path = path::absolute(path).ok()?;
    let would_be = || Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    path.canonicalize().ok().or_else(would_be).or(Some(path))
}
