//! The progress of a run on standard error: redrawn in place on a terminal, else a line every few seconds.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal, Write, stderr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use console::Term;
use inflight::StageHandle;

use crate::counters::Counters;
use crate::pace::Pace;
use crate::screen::Moment;
use crate::terminal::ink::Palette;

/// The time between two pictures on a terminal.
const PERIOD: Duration = Duration::from_millis(100);

/// The time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress that is shown. Clones show the same.
#[derive(Clone)]
pub struct Progress(Arc<Shown>);

struct Shown {
    counters: Arc<Counters>,
    /// The length of the input, if it is known.
    length: Option<u64>,
    stage: OnceLock<StageHandle>,
    board: Mutex<Board>,
}

/// The place where it is shown.
struct Board {
    out: Box<dyn Write + Send>,
    form: Form,
    pace: Pace,
    is_over: bool,
}

enum Form {
    /// In place, on a terminal of a size that may change.
    Picture { palette: Palette, size: Box<dyn Fn() -> Size + Send>, drawn: Vec<usize> },
    /// A line at a time.
    Lines { last: Duration },
}

/// Columns and rows.
type Size = (usize, usize);

impl Progress {
    /// Shows the counters until [`end`](Self::end).
    pub fn start(counters: Arc<Counters>, length: Option<u64>) -> Self {
        // Such a terminal cannot move its cursor.
        let is_dumb = env::var_os("TERM").is_some_and(|terminal| terminal == "dumb");
        let form = if stderr().is_terminal() && !is_dumb { picture() } else { lines() };
        let progress = Self::on(Box::new(stderr()), form, counters, length);
        let (shown, began) = (progress.clone(), Instant::now());
        // On a thread of its own, because a terminal may be slow.
        thread::spawn(move || {
            while shown.show(began.elapsed()) {
                thread::sleep(PERIOD);
            }
        });
        progress
    }

    fn on(
        out: Box<dyn Write + Send>,
        form: Form,
        counters: Arc<Counters>,
        length: Option<u64>,
    ) -> Self {
        let mut pace = Pace::default();
        pace.add(Duration::ZERO, counters.done());
        let board = Mutex::new(Board { out, form, pace, is_over: false });
        Self(Arc::new(Shown { counters, length, stage: OnceLock::new(), board }))
    }

    /// Shows this stage's window too.
    pub fn watch(&self, stage: StageHandle) {
        let _ = self.0.stage.set(stage);
    }

    /// Prints a line above the picture.
    pub fn say(&self, text: &str) {
        let mut board = self.board();
        let _ = board.erase();
        let _ = writeln!(board.out, "enrich: {text}");
    }

    /// Removes the picture.
    pub fn end(&self) {
        let mut board = self.board();
        board.is_over = true;
        let _ = board.erase();
    }

    /// Returns false after the end.
    fn show(&self, now: Duration) -> bool {
        let Shown { counters, length, stage, .. } = &*self.0;
        let mut moment = Moment::new(counters, *length);
        moment.stage = stage.get().map(|stage| (stage.metrics(), stage.window().into()));
        let mut board = self.board();
        if board.is_over {
            return false;
        }
        board.pace.add(now, moment.done);
        moment.rate = board.pace.rate();
        moment.eta = moment.remaining.and_then(|remaining| board.pace.time_for(remaining));
        // Standard error may be closed; that is not an error.
        let _ = board.show(&moment, now);
        true
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

/// Prints a line on standard error, which may be closed; that is not an error.
pub fn say(text: &str) {
    let _ = writeln!(stderr(), "enrich: {text}");
}

fn picture() -> Form {
    let terminal = Term::stderr();
    // On Windows this makes the terminal understand escape sequences.
    let _ = terminal.features().colors_supported();
    let size = move || {
        let (rows, columns) = terminal.size();
        (columns.into(), rows.into())
    };
    Form::Picture { palette: Palette::of_environment(), size: Box::new(size), drawn: Vec::new() }
}

fn lines() -> Form {
    Form::Lines { last: Duration::ZERO }
}

impl Board {
    fn show(&mut self, moment: &Moment, now: Duration) -> io::Result<()> {
        match &mut self.form {
            Form::Lines { last } if now < *last + LINE_EVERY => Ok(()),
            Form::Lines { last } => {
                *last = now;
                writeln!(self.out, "enrich: {}", moment.log_line())
            }
            Form::Picture { palette, size, drawn } => {
                let (columns, rows) = size();
                let mut frame = erased(drawn, columns);
                // The cursor stays behind the last line; its column is the one that is not used.
                let width = columns.saturating_sub(1);
                let lines = moment.lines(width);
                let lines = lines.iter().take(rows.saturating_sub(1));
                *drawn = lines.clone().map(|line| line.width().min(width)).collect();
                let lines: Vec<_> = lines.map(|line| line.draw(width, *palette)).collect();
                frame += &lines.join("\n");
                self.out.write_all(frame.as_bytes())?;
                self.out.flush()
            }
        }
    }

    fn erase(&mut self) -> io::Result<()> {
        let Form::Picture { size, drawn, .. } = &mut self.form else { return Ok(()) };
        let frame = erased(drawn, size().0);
        drawn.clear();
        self.out.write_all(frame.as_bytes())
    }
}

/// Moves the cursor to the beginning of the picture, and erases the picture. A terminal that has become narrower has broken
/// its lines.
fn erased(drawn: &[usize], columns: usize) -> String {
    let rows: usize = drawn.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
    match rows {
        0 => String::new(),
        1 => "\r\x1b[J".into(),
        rows => format!("\r\x1b[{}A\x1b[J", rows - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn progress(form: Form) -> (Progress, Arc<Counters>, Written) {
        let (counters, written) = (Arc::new(Counters::default()), Written::default());
        let progress = Progress::on(Box::new(written.clone()), form, counters.clone(), Some(2_000));
        (progress, counters, written)
    }

    #[test]
    fn without_a_terminal_a_line_comes_every_five_seconds() {
        let (progress, counters, written) = progress(lines());
        for tenth in 1..=120 {
            counters.lines.add(5);
            counters.bytes.add(10);
            counters.written.add(5);
            assert!(progress.show(PERIOD * tenth));
        }
        let wanted = [
            "enrich: 250 lines done, 50/s, 25%, ETA 15s, 0 in flight, 0 rejected, 0 retries, 0 timeouts\n",
            "enrich: 500 lines done, 50/s, 50%, ETA 10s, 0 in flight, 0 rejected, 0 retries, 0 timeouts\n",
        ];
        assert_eq!(written.take(), wanted.concat());
        progress.end();
        assert!(!progress.show(PERIOD * 200));
        assert_eq!(written.take(), "");
    }

    #[test]
    fn a_picture_takes_the_place_of_the_one_before() {
        let size = Arc::new(Mutex::new((81, 24)));
        let asked = size.clone();
        let size_now = Box::new(move || *asked.lock().unwrap());
        let (palette, drawn) = (Palette::None, Vec::new());
        let (progress, _, written) = progress(Form::Picture { palette, size: size_now, drawn });
        progress.show(PERIOD);
        let picture = "[                        ] 0%   ETA unknown\n\
                       0 lines done   0/s   0 rejected   0 retries   0 timeouts";
        assert_eq!(written.take(), picture);
        progress.show(PERIOD);
        assert_eq!(written.take(), format!("\r\x1b[1A\x1b[J{picture}"));
        // The terminal has broken both lines into two.
        *size.lock().unwrap() = (31, 24);
        progress.show(PERIOD);
        assert!(written.take().starts_with("\r\x1b[3A\x1b[J[            "));
        // A picture of more lines than the terminal has would leave its beginning behind.
        *size.lock().unwrap() = (31, 3);
        progress.show(PERIOD);
        assert_eq!(written.take().matches('\n').count(), 1);
        progress.say("stopping");
        assert_eq!(written.take(), "\r\x1b[1A\x1b[Jenrich: stopping\n");
        progress.end();
        assert_eq!(written.take(), "");
    }
}
