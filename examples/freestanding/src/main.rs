//! inflight's operator on x86-64 Linux with nothing underneath: no libc, no std, no allocator.
//!
//! Calls that succeed, fail and are retried, hang and time out go through an operator in a `static`
//! sized place, on a clock that the program sets. Prints its own verdict.
#![no_std]
#![no_main]

#[cfg(feature = "std-wanted")]
extern crate std;

mod machine;

use core::fmt::Write;
use core::time::Duration;

use inflight_core::{
    AsyncWait, Barrier, Checkpoint, CheckpointId, Completion, Failure, Fixed, FixedDelay, Instant,
    Operator, StreamElement, Timestamp,
};
use machine::{Console, exit};

type Stage = Operator<u32, u32, Error, FixedDelay, Fixed<16>>;

#[derive(Debug, PartialEq)]
struct Error;

/// Called by the entry point.
pub(crate) fn main() -> ! {
    let (sum, failed, checkpoint) = run();
    let expected = if cfg!(feature = "wrong-value") { (1, 1) } else { EXPECTED };
    let passed = (sum, failed) == expected && checkpoint > 16;
    let verdict = if passed { "PASS" } else { "FAIL" };
    let _ = writeln!(
        Console,
        "freestanding: {verdict} sum={sum} failed={failed} checkpoint={checkpoint} stage={}",
        size_of::<Stage>()
    );
    exit(if passed { 0 } else { 1 })
}

/// 100 readings: every 10th fails once, every 25th never answers.
const EXPECTED: (u32, u32) = (4704, 4);

fn run() -> (u32, u32, usize) {
    static mut BUFFER: [u8; 1024] = [0; 1024];
    let policy = AsyncWait::ordered(16)
        .timeout(Duration::from_millis(200))
        .retry(FixedDelay::new(Duration::from_millis(10)).max_retries(2));
    let Ok(stage) = policy.build_fixed::<u32, u32, Error, 16>() else { exit(2) };
    let mut stage: Stage = stage.checkpointed("stage", 1);

    let mut now = Instant::ZERO;
    let mut waiting = [None; 16];
    let (mut next, mut sum, mut failed, mut left, mut checkpoint) = (0, 0, 0, 0, 0);
    // SAFETY: the only reference to it that there is.
    let mut buffer = Some(unsafe { &mut *(&raw mut BUFFER) });
    while left < 100 {
        while next < 100 {
            let element = StreamElement::record(next, Timestamp::from_millis(i64::from(next)));
            if stage.push(now, element).is_err() {
                break;
            }
            next += 1;
        }
        if next > 50
            && let Some(buffer) = buffer.take()
        {
            let barrier = Barrier::snapshot(Checkpoint::in_buffer(CheckpointId(1), buffer));
            if stage.push(now, StreamElement::Barrier(barrier)).is_err() {
                exit(3);
            }
        }
        while let Some(call) = stage.poll_call(now) {
            let (id, input, attempt) = (call.id, *call.input, call.attempt.number);
            match input {
                hangs if hangs % 25 == 24 => {}
                fails if fails % 10 == 9 && attempt == 1 => {
                    waiting[id.slot()] = Some((id, Err(Failure::Error(()))))
                }
                input => waiting[id.slot()] = Some((id, Ok(input))),
            }
        }
        for entry in &mut waiting {
            let Some((id, result)) = entry.take() else { continue };
            let result = result.map_err(|_: Failure<()>| Failure::Error(Error));
            if stage.handle_completion(now, id, result) == Completion::Late {
                exit(4);
            }
        }
        while let Some(element) = stage.poll_output() {
            match element {
                StreamElement::Record { value, .. } => {
                    left += 1;
                    match value.result {
                        Ok(output) => sum += output,
                        Err(Failure::TimedOut) => failed += 1,
                        Err(_) => exit(5),
                    }
                }
                StreamElement::Barrier(mut barrier) => {
                    checkpoint = barrier.checkpoint.bytes().map_or(0, <[u8]>::len);
                }
                _ => exit(6),
            }
        }
        now = stage.poll_deadline().unwrap_or(now).max(now);
        while stage.handle_deadline(now).is_some() {}
    }
    (sum, failed, checkpoint)
}
