//! The progress bar, if standard error is a terminal.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use inflight::prelude::*;

use crate::counters::Counters;

/// The bar, or none. Clones share the bar.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// Shows the counters, ten times a second, until [`end`](Self::end). The bar's length is that of the
    /// input, if it is known.
    pub fn start(counters: Arc<Counters>, length: Option<u64>) -> Self {
        if !stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
        let template = match length {
            Some(_) => "[{bar:40}] {percent}%{prefix}\n{msg}",
            None => "{spinner}{prefix}\n{msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        let shown = bar.clone();
        tokio::spawn(async move {
            let (since, before) = (Instant::now(), counters.done());
            while !shown.is_finished() {
                let rate = (counters.done() - before) as f64 / since.elapsed().as_secs_f64();
                shown.set_position(counters.bytes.get());
                shown.set_prefix(counters.event_time().map(event_time).unwrap_or_default());
                shown.set_message(counts(&counters, rate));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self(bar)
    }

    /// Prints a line above the bar.
    pub fn say(&self, text: &str) {
        self.0.suspend(|| say(text));
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Prints a line on standard error, which may be closed; that is not an error.
pub fn say(text: &str) {
    let _ = writeln!(stderr(), "enrich: {text}");
}

/// 12345 as 12,345.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn counts(counters: &Counters, rate: f64) -> String {
    format!(
        "{} records, {rate:.0}/s, {} in flight, {} retries, {} timeouts",
        thousands(counters.done()),
        counters.in_flight(),
        thousands(counters.retries.get()),
        thousands(counters.timeouts.get()),
    )
}

fn event_time(time: Timestamp) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or_default();
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(millis));
    format!(", event time {time}")
}
