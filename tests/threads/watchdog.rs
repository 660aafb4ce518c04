//! A watchdog that reads the progress of streams and touches nothing: polling or waking a stage that has missed a
//! wake-up would hide the fault.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use inflight::StageHandle;

use super::consumer::Stream;

/// The time between two looks. If the whole machine stalls, the watchdog stalls too.
const TICK: Duration = Duration::from_millis(20);

/// The number of looks without progress that is suspicious: 5 s.
const PATIENCE: u32 = 250;

/// A lane, which runs one stream at a time.
#[derive(Default)]
pub struct Lane {
    stream: Mutex<Option<Stream>>,
    /// The number of streams that have ended, and of the records that came out of them.
    pub streams: AtomicU64,
    pub records: AtomicU64,
}

impl Lane {
    pub fn show(&self, stream: Option<Stream>) {
        *self.stream.lock().unwrap() = stream;
    }

    pub fn count(&self, records: u32) {
        self.streams.fetch_add(1, SeqCst);
        self.records.fetch_add(u64::from(records), SeqCst);
    }

    /// A number that changes with every event; `None` if there is no stream.
    fn progress(&self) -> Option<(u64, u64)> {
        let stream = self.stream.lock().unwrap();
        let progress = stream.as_ref()?.tally.progress();
        Some((self.streams.load(SeqCst), progress))
    }

    fn report(&self) -> String {
        let stream = self.stream.lock().unwrap();
        let Some(Stream { tally, handle }) = &*stream else { return "no stream".into() };
        let metrics = handle.as_ref().map(StageHandle::metrics);
        format!("L6 (or L2, if all came out): a stream stands still. {tally:?}\n{metrics:?}")
    }
}

/// The watchdog's state for a lane.
#[derive(Clone, Default)]
struct Last {
    progress: Option<(u64, u64)>,
    looks: u32,
}

/// Watches until `is_over`. If a lane makes no progress, it calls `calm`, so that the other lanes end. If the lane
/// still makes no progress, alone on the machine, it is not slow but stuck, and the report is returned.
pub fn watch(
    lanes: &[impl std::ops::Deref<Target = Lane>],
    mut is_over: impl FnMut() -> bool,
    calm: impl Fn(),
) -> Result<(), String> {
    let mut last = vec![Last::default(); lanes.len()];
    while !is_over() {
        thread::sleep(TICK);
        for (lane, last) in lanes.iter().zip(&mut last) {
            let progress = lane.progress();
            if progress.is_none() || progress != last.progress {
                *last = Last { progress, looks: 0 };
                continue;
            }
            last.looks += 1;
            match last.looks {
                PATIENCE => calm(),
                looks if looks == 2 * PATIENCE => return Err(lane.report()),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Waits for a condition that should soon be true. Returns true if it is.
pub fn wait(mut is_so: impl FnMut() -> bool) -> bool {
    (0..2 * PATIENCE).any(|_| {
        let so = is_so();
        if !so {
            thread::sleep(TICK);
        }
        so
    })
}
