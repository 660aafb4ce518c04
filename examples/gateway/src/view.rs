//! The live view: a page on the terminal that is redrawn four times a second.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::ensure;
use crossterm::cursor::{Hide, MoveTo, Show};
use crossterm::execute;
use crossterm::terminal::{Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, size};

use crate::status::{Numbers, Server, Status};

const PERIOD: Duration = Duration::from_millis(250);

/// The number of periods for a rate.
const RATE_OVER: usize = 8;

/// The maximum length of a bar.
const BAR: u64 = 30;

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
        execute!(io::stdout(), EnterAlternateScreen, Hide)?;
        status.keep_lines(true);
        let (stop, stopped) = channel();
        let shown = Arc::clone(&status);
        // On a thread of its own, because a terminal may be slow.
        let thread = thread::spawn(move || {
            let mut history = Vec::new();
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                history.insert(0, shown.numbers());
                history.truncate(RATE_OVER + 1);
                let _ = draw(&page(&history, &shown.kept_lines()));
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
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        for line in self.status.keep_lines(false) {
            eprintln!("{line}");
        }
    }
}

/// Overwrites the previous page line by line, so that it does not flicker.
fn draw(page: &str) -> io::Result<()> {
    let (width, height) = size().unwrap_or((80, 24));
    let mut out = io::stdout().lock();
    for (row, line) in (0..height).zip(page.lines()) {
        let line: String = line.chars().take(width.into()).collect();
        execute!(out, MoveTo(0, row), Clear(ClearType::CurrentLine))?;
        out.write_all(line.as_bytes())?;
    }
    execute!(out, Clear(ClearType::FromCursorDown))
}

/// The page for the latest of several moments, the latest first.
fn page(history: &[Numbers], log: &[String]) -> String {
    let (Some(now), Some(before)) = (history.first(), history.last()) else {
        return String::new();
    };
    let mut page = String::new();
    let _ = write!(page, "inflight-gateway, for {:.0?} s", now.up_for.as_secs());
    let _ = writeln!(page, "{:>40}", "Ctrl-C: stop");
    let servers = now.servers.map(|(server, is_up)| describe(server, is_up));
    let _ = writeln!(page, "\nservers     {}", servers.join("   "));
    in_flight(&mut page, now);
    rates(&mut page, now, before);
    let _ = writeln!(
        page,
        "in all      {} taken in   {} came again   {} enriched   {} dead letters   {} timed out",
        now.received, now.repeated, now.enriched, now.dead_lettered, now.timeouts
    );
    let age = now.checkpoint_age.map_or_else(|| "none yet".into(), |age| seconds(age) + " old");
    let _ = writeln!(
        page,
        "checkpoint  {age}   {} KiB   {} in all   {} messages unacknowledged",
        now.checkpoint_bytes / 1024,
        now.checkpoints,
        now.unacknowledged
    );
    call_times(&mut page, now);
    let _ = writeln!(page, "\n{}", log.join("\n"));
    page
}

fn describe(server: Server, is_up: Option<bool>) -> String {
    let state = match is_up {
        Some(true) => "up",
        Some(false) => "DOWN",
        None => "not asked yet",
    };
    format!("{} {state}", server.name())
}

fn in_flight(page: &mut String, now: &Numbers) {
    let stage = &now.stage;
    // The age is published less often than the count.
    let oldest = stage.oldest.filter(|_| stage.in_flight > 0);
    let full = bar(stage.in_flight, stage.capacity);
    let _ = writeln!(page, "in flight   {} of {} {full}", stage.in_flight, stage.capacity);
    let _ = writeln!(
        page,
        "            {} running   {} in backoff   {} waiting   {} done   oldest {}",
        stage.running,
        stage.in_backoff,
        now.waiting(),
        stage.done,
        oldest.map_or_else(|| "none".into(), seconds)
    );
}

fn rates(page: &mut String, now: &Numbers, before: &Numbers) {
    let time = now.up_for.saturating_sub(before.up_for).as_secs_f64().max(0.001);
    let rate = |of: fn(&Numbers) -> u64| of(now).saturating_sub(of(before)) as f64 / time;
    let _ = writeln!(
        page,
        "a second    {:.0} in   {:.0} out   {:.0} attempts   {:.0} retries",
        rate(|numbers| numbers.received),
        rate(|numbers| numbers.enriched + numbers.dead_lettered),
        rate(|numbers| numbers.stage.attempts),
        rate(|numbers| numbers.stage.retried)
    );
}

/// The durations of calls since the start.
fn call_times(page: &mut String, now: &Numbers) {
    let buckets: Vec<_> = now.stage.call_time.buckets().collect();
    let most = buckets.iter().map(|(_, count)| *count).max().unwrap_or_default();
    let _ = writeln!(page, "\ncall time, below");
    let first = buckets.iter().position(|(_, count)| *count > 0).unwrap_or(buckets.len());
    let last = buckets.iter().rposition(|(_, count)| *count > 0).map_or(0, |last| last + 1);
    for (bound, count) in buckets.get(first..last).unwrap_or_default() {
        let _ = writeln!(page, "{:>10}  {} {count}", seconds(*bound), bar(*count, most));
    }
}

fn bar(part: u64, whole: u64) -> String {
    let length = (part * BAR).div_ceil(whole.max(1)).min(BAR);
    "#".repeat(usize::try_from(length).unwrap_or_default())
}

/// Three digits, and a unit.
fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    match seconds {
        0.995.. => format!("{seconds:.1} s"),
        0.000_995.. => format!("{:.1} ms", seconds * 1e3),
        _ => format!("{:.1} us", seconds * 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_how_things_are() {
        let status = Status::new();
        status.received.add(100);
        status.up(Server::Mqtt);
        status.down(Server::Postgres, &"gone");
        let mut before = status.numbers();
        before.up_for = Duration::ZERO;
        status.received.add(50);
        let mut now = status.numbers();
        now.up_for = Duration::from_secs(2);
        now.stage.in_flight = 64;
        now.stage.running = 8;
        now.stage.capacity = 256;
        now.stage.call_time.record(Duration::from_millis(3));
        let page = page(&[now, before], &["[0.0s] mqtt: up".into()]);
        for text in [
            "mqtt up   postgres DOWN   nats not asked yet",
            "64 of 256 ########\n",
            "8 running   0 in backoff   56 waiting",
            "25 in   0 out",
            "150 taken in",
            "4.2 ms  ############################## 1\n",
            "[0.0s] mqtt: up",
        ] {
            assert!(page.contains(text), "{text} is not in:\n{page}");
        }
        assert_eq!(super::page(&[], &[]), "");
    }
}
