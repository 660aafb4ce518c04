//! The live view on a real terminal, which `script` (of util-linux) provides. It needs no servers: the view says that they are
//! down.
#![allow(missing_docs)]
#![cfg(unix)]

use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};

/// The shell reads a line before each of its steps. It has no job control, so the signal must not be Ctrl-C's.
const STEPS: &str = "stty -echo cols 80 rows 24
\"$GATEWAY\" --view --data \"$DATA\" --drain 0s --mqtt 127.0.0.1:1 --nats 127.0.0.1:1 --postgres 127.0.0.1:1 &
read line; stty cols 40 rows 12
read line; kill $!; wait $!";

struct Terminal {
    script: Child,
    said: Vec<u8>,
}

impl Terminal {
    /// `None`, with a message, without `script`.
    fn open(data: &std::path::Path) -> Option<Self> {
        let mut script = Command::new("script");
        script.args(["-qec", STEPS, "/dev/null"]).env("SHELL", "/bin/sh").env("DATA", data);
        script.env("GATEWAY", env!("CARGO_BIN_EXE_inflight-gateway")).env("TERM", "xterm-256color");
        script.env_remove("NO_COLOR").stdin(Stdio::piped()).stdout(Stdio::piped());
        let Ok(script) = script.spawn() else {
            let _ = writeln!(io::stderr(), "\nSKIPPED: this machine has no `script`\n");
            return None;
        };
        Some(Self { script, said: Vec::new() })
    }

    /// Reads until a page that has this in it is complete, and returns its rows.
    fn page_with(&mut self, text: &str) -> Vec<String> {
        loop {
            let said = String::from_utf8_lossy(&self.said);
            let mut pages: Vec<_> = said.split("\x1b[1;1H\x1b[2K").skip(1).collect();
            assert!(pages.len() < 100, "no page has {text:?}: {said}");
            pages.pop(); // The last one is complete when the next one begins.
            if let Some(page) =
                pages.into_iter().map(rows).find(|page| page.join("\n").contains(text))
            {
                return page;
            }
            let mut some = [0; 4096];
            let count = self
                .script
                .stdout
                .as_mut()
                .expect("a pipe")
                .read(&mut some)
                .expect("it can be read");
            assert!(count > 0, "it has ended without {text:?}: {said}");
            self.said.extend(&some[..count]);
        }
    }

    fn next_step(&mut self) {
        self.said.clear();
        self.script.stdin.as_mut().expect("a pipe").write_all(b"\n").expect("the shell reads it");
    }
}

/// A failing test leaves no process behind: without its terminal the gateway gets a signal.
impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

/// The rows of a page, without colours.
fn rows(page: &str) -> Vec<String> {
    let mut parts = page.split("\x1b[");
    let mut rows = vec![parts.next().unwrap_or_default().to_owned()];
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).expect("a sequence has an end");
        let (code, text) = part.split_at(end + 1);
        if code.ends_with('H') {
            rows.push(String::new());
        }
        rows.last_mut().expect("there is one").push_str(text);
    }
    // The last one begins the blank rest of the terminal.
    rows.pop_if(|row| row.is_empty());
    rows
}

#[test]
fn the_view_follows_the_size_of_its_terminal() {
    let data = tempfile::tempdir().expect("a folder");
    let Some(mut terminal) = Terminal::open(data.path()) else { return };
    let usual = terminal.page_with("mqtt: down");
    for text in ["mqtt DOWN", "in flight", "minutes", "latency", "checkpoint"] {
        assert!(usual.iter().any(|row| row.contains(text)), "{text} is not in {usual:#?}");
    }
    assert!(
        usual[0].starts_with("inflight-gateway, for") && usual[0].chars().count() == 80,
        "{usual:#?}"
    );
    assert!(String::from_utf8_lossy(&terminal.said).contains("\x1b[91mDOWN\x1b[0m"), "DOWN is red");
    terminal.next_step();
    let small = terminal.page_with("more lines in a larger terminal");
    assert!(small.len() <= 12 && small.iter().all(|row| row.chars().count() <= 40), "{small:#?}");
    assert!(
        small.last().is_some_and(|row| row.contains("mqtt: down") && row.ends_with('…')),
        "{small:#?}"
    );
    terminal.next_step();
    let mut rest = String::new();
    terminal.script.stdout.as_mut().expect("a pipe").read_to_string(&mut rest).expect("text");
    let (_, after) = rest.split_once("\x1b[?1049l").expect("it leaves the other screen");
    assert!(after.contains("mqtt: down: I/O: Connection refused"), "the log is lost: {rest}");
    assert!(terminal.script.wait().expect("it ends").success(), "{rest}");
}
