//! The record type changes between two versions of a program, and the second version resumes from the
//! checkpoint of the first.
//!
//! ```text
//! cargo run --example schema_change
//! ```
//!
//! There are three ways:
//!
//! 1. Version 2 has a migration function: it reads the records that version 1 had in flight.
//! 2. Version 1 is stopped before version 2 is started: then nothing is in flight, and no migration is needed.
//!    ([`Pipeline::draining`] makes every checkpoint like that.)
//! 3. With neither, version 2 refuses to start and names both schema versions. Nothing is lost: the first or the
//!    second way is still open.
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use inflight::RestoreError;
use inflight::pipeline::{
    Ended, MemorySink, MemorySinkError, MemorySource, MemorySourceError, Pipeline, PipelineError,
};
use inflight::prelude::*;

/// The readings of the sensors, which continue for longer than a version of the program.
const LINES: [&str; 6] = ["1 20.5", "2 19.0", "1 20.7", "3 -4.0", "2 19.1", "3 -4.2"];

type Sink = MemorySink<String>;
type Ends = Result<Ended, PipelineError<MemorySourceError, MemorySinkError, Infallible>>;

fn source() -> MemorySource<&'static str> {
    MemorySource::new(LINES)
}

mod v1 {
    use serde::{Deserialize, Serialize};

    /// A reading, as version 1 defines it.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Reading {
        pub sensor: u8,
        pub celsius: f32,
    }

    pub const SCHEMA: u32 = 1;

    pub fn parse(line: &str) -> Reading {
        let (sensor, celsius) = line.split_once(' ').unwrap_or_default();
        let (sensor, celsius) = (sensor.parse(), celsius.parse());
        Reading { sensor: sensor.unwrap_or_default(), celsius: celsius.unwrap_or_default() }
    }
}

mod v2 {
    use serde::{Deserialize, Serialize};

    use super::v1;

    /// A reading, as version 2 defines it: in other units, and with a name for the sensor.
    #[derive(Debug, Serialize, Deserialize)]
    pub struct Reading {
        pub sensor: String,
        pub millikelvin: i64,
    }

    pub const SCHEMA: u32 = 2;

    impl From<v1::Reading> for Reading {
        fn from(old: v1::Reading) -> Self {
            let millikelvin = ((f64::from(old.celsius) + 273.15) * 1000.0).round() as i64;
            Self { sensor: format!("sensor-{}", old.sensor), millikelvin }
        }
    }

    /// A record that was in flight under an older version: the version, and the record's bytes.
    pub fn migrate(schema: u32, bytes: &[u8]) -> Option<Reading> {
        match schema {
            v1::SCHEMA => postcard::from_bytes::<v1::Reading>(bytes).ok().map(Reading::from),
            _ => None,
        }
    }
}

/// Version 1. It is stopped after about a line; or the service stops answering about sensor 2, and then the
/// power fails: `None`.
async fn version_1(sink: &mut Sink, store: &mut MemoryStore, is_stopped: bool) -> Option<Ends> {
    let pipeline = Pipeline::new(source(), sink, store).every_records(2);
    let stop = pipeline.stop_handle();
    let running = pipeline.run(Tokio, |lines, checkpoint| {
        let readings = lines.map_records(v1::parse);
        let stage = readings
            .async_wait(AsyncWait::ordered(4), move |reading: &v1::Reading| {
                let (sensor, celsius) = (reading.sensor, reading.celsius);
                if is_stopped {
                    stop.drain();
                }
                async move {
                    match sensor {
                        2 if !is_stopped => pending().await,
                        sensor => Ok::<_, Infallible>(format!("{sensor}: {celsius} C")),
                    }
                }
            })
            .checkpointed("look up", v1::SCHEMA)
            .restore(checkpoint)
            .spawn(Tokio)?;
        Ok(stage.map_records(|done| done.result.unwrap_or_default()))
    });
    tokio::time::timeout(Duration::from_millis(100), running).await.ok()
}

/// Version 2. The sensor answers again.
async fn version_2(sink: &mut Sink, store: &mut MemoryStore, migrates: bool) -> Ends {
    let pipeline = Pipeline::new(source(), sink, store).every_records(2);
    let running = pipeline.run(Tokio, |lines, checkpoint| {
        let readings = lines.map_records(|line| v2::Reading::from(v1::parse(line)));
        let how = Checkpointing::new("look up", v2::SCHEMA);
        let how = if migrates { how.migrating(v2::migrate) } else { how };
        let stage = readings
            .async_wait(AsyncWait::ordered(4), |reading: &v2::Reading| {
                let text = format!("{}: {} mK", reading.sensor, reading.millikelvin);
                async move { Ok::<_, Infallible>(text) }
            })
            .checkpointed_with(how)
            .restore(checkpoint)
            .spawn(Tokio)?;
        Ok(stage.map_records(|done| done.result.unwrap_or_default()))
    });
    running.await
}

/// Runs all three, one after the other.
#[tokio::main(flavor = "current_thread", start_paused = true)]
pub async fn main() {
    let (mut sink, mut store) = (Sink::new(), MemoryStore::new());
    assert!(version_1(&mut sink, &mut store, false).await.is_none());
    println!("version 1 was killed; it had written {:?}", sink.committed());
    assert_eq!(sink.committed(), ["1: 20.5 C"]);

    let refused = version_2(&mut sink, &mut store, false).await.expect_err("it cannot know");
    println!("version 2, without a migration function: {refused}");
    let versions = RestoreError::Schema { found: v1::SCHEMA, expected: v2::SCHEMA };
    assert!(matches!(refused, PipelineError::Start(StartError::Restore(e)) if e == versions));

    version_2(&mut sink, &mut store, true).await.expect("it can be migrated");
    println!("version 2, with one: {:#?}", sink.committed());
    assert_eq!(sink.committed()[..3], ["1: 20.5 C", "sensor-2: 292150 mK", "sensor-1: 293850 mK"]);
    assert_eq!(sink.committed().len(), LINES.len());

    let (mut sink, mut store) = (Sink::new(), MemoryStore::new());
    let stopped = version_1(&mut sink, &mut store, true).await;
    assert!(matches!(stopped, Some(Ok(Ended::Stopped))), "{stopped:?}");
    println!("version 1 was stopped; it had written {:?}", sink.committed());
    let written = sink.committed().len();
    version_2(&mut sink, &mut store, false).await.expect("there is nothing to migrate");
    println!("version 2, without a migration function: {:#?}", &sink.committed()[written..]);
    assert_eq!(sink.committed().len(), LINES.len());
}
