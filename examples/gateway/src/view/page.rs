//! The page: what a terminal of any size shows.

use crate::status::{Numbers, Server};
use crate::terminal::cells::{Cells, legend};
use crate::terminal::ink::{Ink, Line, flow};
use crate::terminal::numbers::{seconds, thousands};
use crate::view::history::History;
use crate::view::spark::spark;

/// At least this many of the last lines of the log stay visible.
const LOG_LINES: usize = 3;

/// The width of a label.
const LABEL: usize = 12;

/// A part of the page, which has room or is missing as a whole.
struct Section {
    /// Those with the lowest numbers come first, if there is not enough room for all.
    rank: u8,
    lines: Vec<Line>,
}

/// At most `height` lines, none of which should be drawn wider than `width`. The log has the rows that remain, and some in any case.
/// A line says how many others have no room.
pub fn page(
    history: &History,
    window: &Cells,
    log: &[String],
    (width, height): (usize, usize),
) -> Vec<Line> {
    let Some(now) = history.now() else { return Vec::new() };
    let log_lines = log.len().min(LOG_LINES);
    let room = height.saturating_sub(log_lines + 1);
    let (mut page, missing) = fitting(sections(history, now, window, width), room);
    let gap = match missing {
        0 => Line::default(),
        lines => Line::inked(Ink::Grey, format!("… {lines} more lines in a larger terminal")),
    };
    page.push(gap);
    let rest = height.saturating_sub(page.len());
    page.extend(log[log.len().saturating_sub(rest)..].iter().map(Line::new));
    page.truncate(height);
    page
}

/// The lines of those sections that have room, and the number of lines of the others.
fn fitting(sections: Vec<Section>, mut room: usize) -> (Vec<Line>, usize) {
    let mut ranked: Vec<_> = sections.iter().collect();
    ranked.sort_by_key(|section| section.rank);
    let mut ranks = Vec::new();
    for section in ranked {
        if let Some(rest) = room.checked_sub(section.lines.len()) {
            room = rest;
            ranks.push(section.rank);
        }
    }
    let (shown, missing): (Vec<_>, Vec<_>) =
        sections.into_iter().partition(|section| ranks.contains(&section.rank));
    let missing = missing.iter().map(|section| section.lines.len()).sum();
    (shown.into_iter().flat_map(|section| section.lines).collect(), missing)
}

/// From top to bottom, each with a rank of its own.
fn sections(history: &History, now: &Numbers, window: &Cells, width: usize) -> Vec<Section> {
    let section = |rank, lines| Section { rank, lines };
    vec![
        section(0, vec![title(now, width)]),
        section(9, vec![Line::default()]),
        section(1, servers(now, width)),
        section(2, in_flight(now, window, width)),
        section(4, labelled("", legend(&now.stage), width)),
        section(3, rates(history, width)),
        section(6, minutes(history, width)),
        section(5, latency(history, width)),
        section(8, in_all(now, width)),
        section(7, checkpoint(now, width)),
    ]
}

fn title(now: &Numbers, width: usize) -> Line {
    let title = Line::new(format!("inflight-gateway, for {} s", thousands(now.up_for.as_secs())));
    let stop = "Ctrl-C: stop";
    let gap = width.saturating_sub(title.width() + stop.len()).max(1);
    title.then(None, " ".repeat(gap)).then(Ink::Grey, stop)
}

fn servers(now: &Numbers, width: usize) -> Vec<Line> {
    labelled("servers", now.servers.map(|(server, is_up)| describe(server, is_up)), width)
}

fn describe(server: Server, is_up: Option<bool>) -> Line {
    let (ink, state) = match is_up {
        Some(true) => (Ink::Green, "up"),
        Some(false) => (Ink::Red, "DOWN"),
        None => (Ink::Grey, "not asked yet"),
    };
    Line::new(format!("{} ", server.name())).then(ink, state)
}

fn in_flight(now: &Numbers, window: &Cells, width: usize) -> Vec<Line> {
    let (stage, room) = (&now.stage, width.saturating_sub(LABEL));
    let (part, whole) = (thousands(stage.in_flight), thousands(stage.capacity));
    let count = Line::new(format!("{part} of {whole}"));
    let items = [count].into_iter().chain(window.notes(stage, room));
    let mut lines = labelled("in flight", items, width);
    lines.push(Line::new(" ".repeat(LABEL)).join(window.line(stage, room)));
    lines
}

fn rates(history: &History, width: usize) -> Vec<Line> {
    let item = |name, of| Line::new(format!("{} {name}", round(history.rate(of))));
    let items = [
        item("in", |now| now.received),
        item("out", out),
        item("attempts", |now| now.stage.attempts),
        item("retries", |now| now.stage.retried),
    ];
    labelled("a second", items, width)
}

/// Spark lines, the latest moment on the right.
fn minutes(history: &History, width: usize) -> Vec<Line> {
    const NAME: usize = 4;
    let room = width.saturating_sub(LABEL + NAME).min(History::STEPS);
    let latest = |mut rates: Vec<f64>| rates.split_off(rates.len().saturating_sub(room));
    let (taken_in, out) = (latest(history.rates(|now| now.received)), latest(history.rates(out)));
    let most = taken_in.iter().chain(&out).copied().fold(0.0, f64::max);
    let line = |name: &str, rates| {
        Line::new(format!("{name:NAME$}")).then(Ink::Blue, format!("{:>room$}", spark(rates, most)))
    };
    let mut lines = labelled("minutes", [line("in", taken_in)], width);
    lines.extend(labelled("", [line("out", out)], width));
    let step = format!("a bar is {} s", History::STEP.as_secs());
    let scale = [step, format!("the highest {} a second", round(most))].map(Line::new);
    lines.extend(labelled("", scale, width));
    lines
}

/// The times of the calls that have ended in the last minute.
fn latency(history: &History, width: usize) -> Vec<Line> {
    let (stage, time) = history.lately();
    let (calls, of_time) = (stage.call_time, format!("last {} s", time.as_secs()));
    if calls.count() == 0 {
        return labelled(
            "latency",
            [Line::new(format!("no call has ended in the {of_time}"))],
            width,
        );
    }
    let below = |name, part| Line::new(format!("{name} < {}", seconds(calls.quantile(part))));
    let buckets: Vec<_> = calls.buckets().skip_while(|(_, count)| *count == 0).collect();
    let used = buckets.iter().rposition(|(_, count)| *count > 0).map_or(0, |last| last + 1);
    let counts = || buckets[..used].iter().map(|(_, count)| *count as f64);
    let bars = spark(counts(), counts().fold(0.0, f64::max));
    let (first, last) = (seconds(buckets[0].0), seconds(buckets[used - 1].0));
    let spread =
        Line::new(format!("{first} ")).then(Ink::Blue, bars).then(None, format!(" {last}"));
    let items = [below("p50", 0.5), below("p99", 0.99), spread, Line::new(of_time)];
    labelled("latency", items, width)
}

fn in_all(now: &Numbers, width: usize) -> Vec<Line> {
    let item = |count, name| Line::new(format!("{} {name}", thousands(count)));
    let bad = (now.dead_lettered > 0).then_some(Ink::Red);
    let items = [
        item(now.received, "in"),
        item(now.repeated, "came again"),
        item(now.enriched, "enriched"),
        Line::inked(bad, format!("{} dead letters", thousands(now.dead_lettered))),
        item(now.timeouts, "timed out"),
    ];
    labelled("in all", items, width)
}

fn checkpoint(now: &Numbers, width: usize) -> Vec<Line> {
    let age = now.checkpoint_age.map_or_else(|| "none yet".into(), |age| seconds(age) + " old");
    let items = [
        age,
        format!("{} KiB", thousands(now.checkpoint_bytes / 1024)),
        format!("{} in all", thousands(now.checkpoints)),
        format!("{} messages unacknowledged", thousands(now.unacknowledged)),
    ];
    labelled("checkpoint", items.map(Line::new), width)
}

fn labelled(label: &str, items: impl IntoIterator<Item = Line>, width: usize) -> Vec<Line> {
    flow(&format!("{label:LABEL$}"), items, width)
}

fn out(now: &Numbers) -> u64 {
    now.enriched + now.dead_lettered
}

fn round(rate: f64) -> String {
    thousands(rate.round() as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use inflight::CellState;

    use super::*;
    use crate::status::Status;
    use crate::terminal::ink::Palette;

    /// An outage of the database, after five minutes of work.
    fn outage() -> History {
        let (status, mut history) = (Status::new(), History::default());
        status.up(Server::Mqtt);
        status.down(Server::Postgres, &"gone");
        for second in 0..=420_u64 {
            let mut now = status.numbers();
            let worked = second.min(400);
            now.up_for = Duration::from_secs(second);
            (now.received, now.enriched) = (2_000 * worked + second, 1_999 * worked);
            (now.dead_lettered, now.repeated, now.timeouts) = (83 * worked, 12, 1_024);
            (now.checkpoints, now.checkpoint_bytes, now.unacknowledged) = (1_250, 82_944, 2_048);
            now.checkpoint_age = Some(Duration::from_millis(6_500));
            let stage = &mut now.stage;
            (stage.in_flight, stage.capacity, stage.running, stage.in_backoff) = (256, 256, 8, 200);
            (stage.done, stage.oldest) = (12, Some(Duration::from_secs(20)));
            (stage.attempts, stage.retried) = (2_002 * worked, 170 * second);
            (0..worked)
                .for_each(|call| stage.call_time.record(Duration::from_millis(1 + call % 50)));
            history.add(now);
        }
        history
    }

    fn log() -> Vec<String> {
        let line =
            |number| format!("[{number:8}.0s] postgres: down: {}", "a long reason ".repeat(12));
        (1..=50).map(line).collect()
    }

    fn drawn(history: &History, log: &[String], size: (usize, usize)) -> Vec<String> {
        let mut states = vec![CellState::Backoff; 200];
        states.extend([CellState::Running; 8]);
        states.extend([CellState::Waiting; 48]);
        let page = page(history, &Cells { states, omitted: 0 }, log, size);
        page.iter().map(|line| line.draw(size.0, Palette::None)).collect()
    }

    #[test]
    fn a_usual_terminal_shows_all_and_the_end_of_the_log() {
        let page = drawn(&outage(), &log(), (80, 24)).join("\n");
        for text in [
            "inflight-gateway, for 420 s                                         Ctrl-C: stop\n",
            "servers     mqtt up   postgres DOWN   nats not asked yet\n",
            "in flight   256 of 256   oldest 20.0 s   1 cell = 4 records\n",
            "            [▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒██············]\n",
            "            █ 8 running   ▒ 200 in backoff   · 36 waiting   ▪ 12 done\n",
            "a second    1 in   0 out   0 attempts   170 retries\n",
            "minutes     in  ████████████████████████████████████████████████████████▁▁▁▁\n",
            "            out ████████████████████████████████████████████████████████____\n",
            "            a bar is 5 s   the highest 2,082 a second\n",
            "latency     p50 < 33.6 ms   p99 < 67.1 ms   16.8 ms ▃██ 67.1 ms   last 60 s\n",
            "in all      800,420 in   12 came again   799,600 enriched   33,200 dead letters\n",
            "            1,024 timed out\n",
            "checkpoint  6.5 s old   81 KiB   1,250 in all   2,048 messages unacknowledged\n",
            "[      49.0s] postgres: down: a long reason a long reason a long reason a long …\n",
            "[      50.0s] postgres: down: a long reason a long reason a long reason a long …",
        ] {
            assert!(page.contains(text), "{text} is not in:\n{page}");
        }
        assert!(!page.contains("more lines"), "{page}");
    }

    #[test]
    fn a_small_terminal_says_what_it_does_not_show() {
        let page = drawn(&outage(), &log(), (40, 12));
        assert_eq!(page.len(), 12, "{page:#?}");
        for (line, start) in page.iter().zip([
            "inflight-gateway, for 420 s Ctrl-C: stop",
            "servers     mqtt up   postgres DOWN",
            "            nats not asked yet",
            "in flight   256 of 256   oldest 20.0 s",
            "            1 cell = 10 records",
            "            [▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒▒█·····]",
            "a second    1 in   0 out   0 attempts",
            "            170 retries",
        ]) {
            assert_eq!(line, start, "{page:#?}");
        }
        assert!(
            page[8].starts_with("… ") && page[8].ends_with(" more lines in a larger terminal"),
            "{page:#?}"
        );
        for (line, number) in page[9..].iter().zip(48..) {
            assert!(
                line.starts_with(&format!("[      {number}.0s]")) && line.ends_with('…'),
                "{page:#?}"
            );
        }
    }

    #[test]
    fn a_large_terminal_shows_more_of_the_log() {
        let page = drawn(&outage(), &log(), (200, 50));
        assert_eq!(page.len(), 50);
        let whole =
            page.iter().filter(|line| line.contains("postgres: down") && !line.ends_with('…'));
        assert!(whole.count() > 30, "{page:#?}");
    }

    #[test]
    fn no_page_is_larger_than_its_terminal() {
        let (outage, log) = (outage(), log());
        for size in [(80, 24), (40, 12), (200, 50), (0, 0), (1, 1), (13, 5), (20, 100), (500, 2)] {
            for log in [&log[..], &log[..1], &[]] {
                let page = drawn(&outage, log, size);
                assert!(page.len() <= size.1, "{size:?}: {page:#?}");
                let too_wide = |line: &&String| line.chars().count() > size.0;
                assert_eq!(page.iter().find(too_wide), None, "{size:?}");
            }
        }
    }

    #[test]
    fn a_gateway_that_has_just_begun_has_a_page_too() {
        assert_eq!(drawn(&History::default(), &[], (80, 24)), [""; 0]);
        let (status, mut history) = (Status::new(), History::default());
        history.add(status.numbers());
        let page = drawn(&history, &["[     0.0s] mqtt: up".into()], (80, 24)).join("\n");
        for text in
            ["0 of 0", "no call has ended in the last 0 s", "checkpoint  none yet", "mqtt: up"]
        {
            assert!(page.contains(text), "{text} is not in:\n{page}");
        }
    }

    #[test]
    fn a_server_that_is_down_is_red() {
        let page = page(&outage(), &Cells::default(), &[], (80, 24));
        let servers = page.iter().map(|line| line.draw(80, Palette::Sixteen));
        let servers: String = servers.filter(|line| line.contains("postgres")).collect();
        assert!(servers.contains("\x1b[32mup\x1b[0m"), "{servers:?}");
        assert!(servers.contains("\x1b[91mDOWN\x1b[0m"), "{servers:?}");
    }
}
