//! Hooks for the tests that kill this program: they prolong the moments at which a crash is dangerous, and
//! introduce a fault that the tests must find.

use std::time::Duration;

#[derive(Clone, Copy, Debug, Default)]
pub struct Rehearsal {
    /// `ENRICH_WINDOW=20ms`: the pause between pre-commit, save and commit.
    window: Duration,
    /// `ENRICH_COMMITS_FIRST=1`: commits the output before the checkpoint is saved, and never cuts it back.
    pub commits_first: bool,
}

impl Rehearsal {
    pub fn from_environment() -> Self {
        let window = std::env::var("ENRICH_WINDOW").ok();
        let window = window.and_then(|window| humantime::parse_duration(&window).ok());
        let commits_first = std::env::var_os("ENRICH_COMMITS_FIRST").is_some();
        Self { window: window.unwrap_or_default(), commits_first }
    }

    pub async fn pause(self) {
        if !self.window.is_zero() {
            tokio::time::sleep(self.window).await;
        }
    }
}
