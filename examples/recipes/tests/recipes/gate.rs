//! A gate that blocks the thread in front of it until the test opens it.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Clone)]
pub struct Gate(Arc<Mutex<Receiver<()>>>);

/// Opens the gate when it is dropped.
pub struct Key(#[allow(dead_code, reason = "its end is the signal")] Sender<()>);

impl Gate {
    pub fn closed() -> (Self, Key) {
        let (key, gate) = channel();
        (Self(Arc::new(Mutex::new(gate))), Key(key))
    }

    /// Returns false if nobody opens the gate, because the thread that would do so stands here itself.
    pub fn pass(&self) -> bool {
        let opened = self.0.lock().unwrap().recv_timeout(Duration::from_secs(10));
        opened == Err(RecvTimeoutError::Disconnected)
    }
}
