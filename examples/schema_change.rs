//! The record type changes between two versions of a program, and the second version resumes from the
//! checkpoint of the first.
//!
//! ```text
//! cargo run --example schema_change
//! ```
//!
//! There are three ways:
//!
//! 1. **Migrate.** Version 2 has a migration function, which reads the records that version 1 had in flight. Take this if requests
//!    are slow or dear: their attempts and backoffs go on, after a crash too. The price: the old type stays in the program as
//!    long as there are checkpoints with it.
//! 2. **Drain.** Version 1 is stopped before version 2 is started: then nothing is in flight, and no migration is needed.
//!    ([`Pipeline::draining`] makes every checkpoint like that.) Take this if somebody can wait for the slowest request, and the
//!    old program still runs. It does not help after a crash of version 1.
//! 3. **Positions only.** Checkpoints hold no records at all ([`Pipeline::run_positions_only`]), so there is nothing to migrate and
//!    nothing to drain, and the record type needs no serde. Version 2 reads the records that were in flight again, from the
//!    source. Take this if the source can be read again and a request may begin anew: most jobs.
//!
//! With none of these, version 2 refuses to start and names both schema versions. Nothing is lost: the first and the second way are
//! still open, and after the second the third.
#![allow(unreachable_pub, reason = "in a program, `pub` is for its other modules")]

use std::convert::Infallible;
use std::time::Duration;

use inflight::pipeline::{
    Ended, MemorySink, MemorySinkError, MemorySource, MemorySourceError, Pipeline, PipelineError,
};
use inflight::prelude::*;
use inflight::{IntoTracked, RestoreError};

/// The readings of the sensors, which continue for longer than a version of the program.
const LINES: [&str; 6] = ["1 20.5", "2 19.0", "1 20.7", "3 -4.0", "2 19.1", "3 -4.2"];

type Sink = MemorySink<String>;
type Ends = Result<Ended, PipelineError<MemorySourceError, MemorySinkError, Infallible>>;

fn source() -> MemorySource<&'static str> {
    MemorySource::new(LINES)
}

/// The service's answer about a reading.
type Answer = Result<String, Infallible>;

mod v1 {
    use std::future::pending;

    use serde::{Deserialize, Serialize};

    use super::Answer;

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

    /// The service may be silent about sensor 2.
    pub fn look_up(reading: &Reading, is_silent: bool) -> impl Future<Output = Answer> + use<> {
        let &Reading { sensor, celsius } = reading;
        async move {
            match sensor {
                2 if is_silent => pending().await,
                sensor => Ok(format!("{sensor}: {celsius} C")),
            }
        }
    }
}

mod v2 {
    use serde::{Deserialize, Serialize};

    use super::{Answer, v1};

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

    pub fn look_up(reading: &Reading) -> impl Future<Output = Answer> + use<> {
        let text = format!("{}: {} mK", reading.sensor, reading.millikelvin);
        async move { Ok(text) }
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
                if is_stopped {
                    stop.drain();
                }
                v1::look_up(reading, !is_stopped)
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
            .async_wait(AsyncWait::ordered(4), v2::look_up)
            .checkpointed_with(how)
            .restore(checkpoint)
            .spawn(Tokio)?;
        Ok(stage.map_records(|done| done.result.unwrap_or_default()))
    });
    running.await
}

/// Version 1, whose checkpoints hold positions only. The service stops answering about sensor 2, and then the power fails.
async fn version_1_with_positions(sink: &mut Sink, store: &mut MemoryStore) {
    let pipeline = Pipeline::new(source(), sink, store).interval(Duration::from_millis(10));
    let running = pipeline.run_positions_only(Tokio, |lines, recovery| {
        let readings = lines.map_records(|line| Tracked::map(line, v1::parse));
        let stage = readings
            .async_wait(AsyncWait::unordered(4), |reading: &Tracked<v1::Reading>| {
                v1::look_up(reading, true)
            })
            .positions_only(recovery)
            .spawn(Tokio)?;
        Ok(stage.map_records(|done| {
            Tracked::map(done.into_tracked(), |done| done.result.unwrap_or_default())
        }))
    });
    let killed = tokio::time::timeout(Duration::from_millis(100), running).await;
    assert!(killed.is_err(), "sensor 2 is silent");
}

/// Version 2, whose checkpoints hold positions only.
async fn version_2_with_positions(sink: &mut Sink, store: &mut MemoryStore) -> Ends {
    let running =
        Pipeline::new(source(), sink, store).run_positions_only(Tokio, |lines, recovery| {
            let readings = lines
                .map_records(|line| Tracked::map(line, |line| v2::Reading::from(v1::parse(line))));
            let stage = readings
                .async_wait(AsyncWait::unordered(4), |reading: &Tracked<v2::Reading>| {
                    v2::look_up(reading)
                })
                .positions_only(recovery)
                .spawn(Tokio)?;
            Ok(stage.map_records(|done| {
                Tracked::map(done.into_tracked(), |done| done.result.unwrap_or_default())
            }))
        });
    running.await
}

/// Goes all three ways, one after the other.
#[tokio::main(flavor = "current_thread", start_paused = true)]
pub async fn main() {
    migrate().await;
    drain().await;
    keep_positions_only().await;
}

async fn migrate() {
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
}

async fn drain() {
    let (mut sink, mut store) = (Sink::new(), MemoryStore::new());
    let stopped = version_1(&mut sink, &mut store, true).await;
    assert!(matches!(stopped, Some(Ok(Ended::Stopped))), "{stopped:?}");
    println!("version 1 was stopped; it had written {:?}", sink.committed());
    let written = sink.committed().len();
    version_2(&mut sink, &mut store, false).await.expect("there is nothing to migrate");
    println!("version 2, without a migration function: {:#?}", &sink.committed()[written..]);
    assert_eq!(sink.committed().len(), LINES.len());
}

async fn keep_positions_only() {
    let (mut sink, mut store) = (Sink::new(), MemoryStore::new());
    version_1_with_positions(&mut sink, &mut store).await;
    println!("version 1, with positions only, was killed; it had written {:?}", sink.committed());
    let done = ["1: 20.5 C", "1: 20.7 C", "3: -4 C", "3: -4.2 C"];
    assert_eq!(sink.committed(), done);

    version_2_with_positions(&mut sink, &mut store).await.expect("there is nothing to migrate");
    println!("version 2, which read the others again: {:#?}", &sink.committed()[done.len()..]);
    assert_eq!(sink.committed()[done.len()..], ["sensor-2: 292150 mK", "sensor-2: 292250 mK"]);
}
