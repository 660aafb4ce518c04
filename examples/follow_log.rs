//! Follows a log file (`tail -f`, log shipping, access logs) and enriches each line, across restarts: no line is lost or written twice.
//!
//! ```text
//! cargo run --example follow_log
//! ```
//!
//! The checkpoint knows how far the file has been read and which lines are in flight. A line that its writer has not finished
//! waits for its line feed. When the log is rotated, the rest of the old file is read and the pipeline ends with
//! `LinesError::InputMoved`: run it again.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use inflight::FileStore;
use inflight::lines::{Line, LineError, LineSink, LineSource};
use inflight::pipeline::{Ended, Pipeline, Report, StopHandle};
use inflight::prelude::*;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Stands for a service that knows where an address is.
async fn country(address: &str) -> Result<&'static str, LineError> {
    sleep(Duration::from_millis(5)).await;
    Ok(if address.starts_with("10.") { "NO" } else { "PE" })
}

/// A line of the output, or of `countries.txt.rejected`.
fn line(done: Outcome<Line, String, LineError>) -> Result<String, String> {
    done.result.map_err(|failure| format!("line {}: {failure}", done.input.number))
}

/// Follows `access.log` in the folder until `stop` says so, and writes `countries.txt` there.
async fn follow(
    folder: &Path,
    stop: impl AsyncFnOnce(StopHandle),
) -> Result<Ended, Box<dyn Error>> {
    let every = Duration::from_millis(10); // a real program looks for new lines once or twice a second
    let source = LineSource::follow(folder.join("access.log"), Tokio, every)?;
    let sink = LineSink::open(folder.join("countries.txt"), line)?;
    let pipeline = Pipeline::new(source, sink, FileStore::open(folder.join("checkpoints"))?)
        .interval(Duration::from_millis(20)) // a second is usual
        .on_report(|report| {
            if let Report::Resumed { id, .. } = report {
                println!("resumed from checkpoint {id}");
            }
        });
    let stop_handle = pipeline.stop_handle();
    let running = pipeline.run(Tokio, |lines, recovery| {
        let policy = AsyncWait::ordered(100).timeout(Duration::from_secs(5));
        lines
            .async_wait(policy, |line: &Line| {
                let line = line.text().map(str::to_owned);
                async move {
                    let line = line?;
                    let address = line.split(' ').next().unwrap_or_default();
                    Ok(format!("{line} {}", country(address).await?))
                }
            })
            .checkpointed("country", 1)
            .restore(recovery)
            .spawn(Tokio)
    });
    let (ended, ()) = tokio::join!(running, stop(stop_handle));
    Ok(ended?)
}

/// Waits until the output has `count` lines.
async fn written(folder: &Path, count: usize) {
    let has_count = async {
        while fs::read_to_string(folder.join("countries.txt")).unwrap_or_default().lines().count()
            < count
        {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(20), has_count).await.expect("the lines arrive");
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let folder = folder.path();
    let mut log = File::create(folder.join("access.log"))?;
    log.write_all(b"10.0.0.1 GET /\n200.1.2.3 GET /a\n10.0.0.2 GE")?;

    // The first life ends by Ctrl-C or, here, when the two complete lines are written.
    let ended = follow(folder, async |stop| {
        written(folder, 2).await;
        stop.drain();
    });
    assert_eq!(ended.await?, Ended::Stopped);

    // The second one is killed: dropping its future has the same effect.
    log.write_all(b"T /b\n")?;
    let (third, mut has_third) = watch::channel(false);
    tokio::select! {
        ended = follow(folder, async |stop| {
            written(folder, 3).await;
            third.send_replace(true);
            std::future::pending::<()>().await;
            stop.drain();
        }) => { ended?; }
        _ = has_third.wait_for(|has| *has) => {}
    }

    // A file operation of the second life may still run on another thread and own its file. After a real kill nothing does.
    let owned = || {
        LineSink::open(folder.join("countries.txt"), line).is_err()
            || FileStore::open(folder.join("checkpoints")).is_err()
    };
    while owned() {
        sleep(Duration::from_millis(5)).await;
    }
    log.write_all(b"200.9.9.9 GET /c\n")?;
    let ended = follow(folder, async |stop| {
        written(folder, 4).await;
        stop.drain();
    });
    assert_eq!(ended.await?, Ended::Stopped);

    let countries = fs::read_to_string(folder.join("countries.txt"))?;
    print!("{countries}");
    let expected =
        "10.0.0.1 GET / NO\n200.1.2.3 GET /a PE\n10.0.0.2 GET /b NO\n200.9.9.9 GET /c PE\n";
    assert_eq!(countries, expected, "each line once, in order, over three lives");
    println!("follow_log: PASS, four lines over three lives");
    Ok(())
}
