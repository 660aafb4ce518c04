//! The live view: a page on the terminal that is redrawn four times a second.

mod history;
mod page;
mod spark;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::terminal::{
    Clear, ClearType, DisableLineWrap, EnableLineWrap, EnterAlternateScreen, LeaveAlternateScreen,
    size,
};
use crossterm::{execute, queue};

use crate::status::Status;
use crate::terminal::ink::{Line, Palette};
use crate::view::history::History;
use crate::view::page::page;

const PERIOD: Duration = Duration::from_millis(250);

/// Shows the status until it is dropped.
#[derive(Debug)]
pub struct View {
    status: Arc<Status>,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl View {
    /// # Errors
    ///
    /// If standard output is not a terminal.
    pub fn open(status: Arc<Status>) -> anyhow::Result<Self> {
        ensure!(io::stdout().is_terminal(), "--view needs a terminal");
        // A character may be two columns wide, and must not push a line to the next row.
        execute!(io::stdout(), EnterAlternateScreen, Hide, DisableLineWrap)?;
        status.keep_lines(true);
        let (stop, stopped) = channel();
        let shown = Arc::clone(&status);
        // On a thread of its own, because a terminal may be slow.
        let thread = thread::spawn(move || {
            let (mut history, palette) = (History::default(), Palette::of_environment());
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                history.add(shown.numbers());
                let size = terminal_size();
                let page = page(&history, &shown.window(), &shown.kept_lines(), size);
                let _ = draw(&page, size, palette);
            }
        });
        Ok(Self { status, thread: Some((stop, thread)) })
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            let _ = thread.join();
        }
        let _ = execute!(io::stdout(), EnableLineWrap, Show, LeaveAlternateScreen);
        for line in self.status.keep_lines(false) {
            eprintln!("{line}");
        }
    }
}

/// Columns and rows, which the user may change at any time. Some terminals say zero.
fn terminal_size() -> (usize, usize) {
    let known = size().ok().filter(|(width, height)| *width > 0 && *height > 0);
    let (width, height) = known.unwrap_or((80, 24));
    (width.into(), height.into())
}

/// Overwrites the previous page line by line, so that it does not flicker.
fn draw(page: &[Line], (width, height): (usize, usize), palette: Palette) -> io::Result<()> {
    let mut frame = Vec::new();
    let lines = page.iter().map(|line| line.draw(width, palette));
    for (row, line) in (0..u16::try_from(height).unwrap_or(u16::MAX)).zip(lines) {
        queue!(frame, MoveTo(0, row), Clear(ClearType::CurrentLine))?;
        frame.write_all(line.as_bytes())?;
    }
    let below = u16::try_from(page.len()).unwrap_or(u16::MAX);
    if page.len() < height {
        queue!(frame, MoveTo(0, below), Clear(ClearType::FromCursorDown))?;
    }
    let mut out = io::stdout().lock();
    out.write_all(&frame)?;
    out.flush()
}
