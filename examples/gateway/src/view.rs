//! The live view.

use std::sync::Arc;

use crate::status::Status;

/// Shows the status until it is dropped.
pub struct View(Arc<Status>);

impl View {
    pub fn open(status: Arc<Status>) -> anyhow::Result<Self> {
        Ok(Self(status))
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.0.keep_lines(false);
    }
}
