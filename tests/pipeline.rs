//! Pipelines that checkpoint themselves, over real runtimes, on tokio's paused clock. The crashes are in
//! `core/tests/pipeline_simulation`.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, pending};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::StreamExt as _;
use futures::future::Either;
use inflight::lines::{Line, LineError, LineSink, LineSource};
use inflight::pipeline::{
    self, Ended, MemorySink, MemorySource, Pipeline, PipelineError, ReplayableSource, Report,
};
use inflight::prelude::*;
use inflight::{BarrierMode, CheckpointError, LoadError, LoadedInto};
use tokio::sync::mpsc;
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

type Sink = MemorySink<Outcome<u32, u32, &'static str>>;

/// A service that answers ten times the number after that many milliseconds.
fn ask(n: &u32) -> impl Future<Output = Result<u32, &'static str>> + use<> {
    let n = *n;
    async move {
        sleep(n * MS).await;
        Ok(n * 10)
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, test)
}

fn committed(sink: &Sink) -> Vec<u32> {
    sink.committed().iter().map(|outcome| outcome.input).collect()
}

/// A source of numbers, or an error, from a channel.
struct Live {
    incoming: mpsc::UnboundedReceiver<Result<u32, Broken>>,
    position: u64,
}

#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl ReplayableSource for Live {
    type Record = u32;
    type Position = u64;
    type Error = Broken;
    type Acknowledger = ();

    async fn open(&mut self, position: Option<u64>) -> Result<(), Broken> {
        self.position = position.unwrap_or(0);
        Ok(())
    }

    fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<StreamElement<u32>, Broken>>> {
        self.incoming.poll_recv(cx).map(|received| {
            self.position += u64::from(matches!(received, Some(Ok(_))));
            received.map(|received| received.map(StreamElement::value))
        })
    }

    fn position(&self) -> u64 {
        self.position
    }

    fn acknowledger(&mut self) {}
}

fn live() -> (mpsc::UnboundedSender<Result<u32, Broken>>, Live) {
    let (sender, incoming) = mpsc::unbounded_channel();
    (sender, Live { incoming, position: 0 })
}

/// A store whose checkpoints a test can see. It fails as planned.
#[derive(Clone, Default)]
struct Watched {
    store: Rc<RefCell<MemoryStore>>,
    saves: Rc<RefCell<u32>>,
    fails: Rc<RefCell<VecDeque<bool>>>,
    takes: Duration,
}

impl Watched {
    fn failing(fails: impl IntoIterator<Item = bool>) -> Self {
        Self { fails: Rc::new(RefCell::new(fails.into_iter().collect())), ..Self::default() }
    }

    fn saves(&self) -> u32 {
        *self.saves.borrow()
    }
}

impl CheckpointStore for Watched {
    type Error = Broken;

    async fn save(&mut self, id: CheckpointId, bytes: &[u8]) -> Result<(), Broken> {
        *self.saves.borrow_mut() += 1;
        sleep(self.takes).await;
        if self.fails.borrow_mut().pop_front() == Some(true) {
            return Err(Broken);
        }
        let mut store = self.store.take();
        let Ok(()) = store.save(id, bytes).await;
        self.store.replace(store);
        Ok(())
    }

    async fn load_latest_into(
        &mut self,
        buffer: &mut [u8],
    ) -> Result<Option<LoadedInto>, LoadError<Broken>> {
        let mut store = self.store.take();
        let loaded = store.load_latest_into(buffer).await;
        self.store.replace(store);
        loaded.map_err(|error| match error {
            LoadError::BufferTooSmall { needed } => LoadError::BufferTooSmall { needed },
            LoadError::Store(_) => LoadError::Store(Broken),
        })
    }
}

#[test] // K4, K10
fn everything_is_committed_in_the_end_on_every_runtime() {
    let policy = AsyncWait::ordered(4);
    macro_rules! on {
        ($way:ident, $runtime:expr) => {{
            let (mut sink, runtime) = (Sink::new(), $runtime);
            let pipeline = Pipeline::new(MemorySource::new(1..=9), &mut sink, MemoryStore::new());
            let ended = pipeline.interval(3 * MS).run(runtime, |numbers, checkpoint| {
                let stage = numbers.async_wait(policy, |n: &u32| std::future::ready(Ok(*n)));
                stage.checkpointed("stage", 1).restore(checkpoint).$way(runtime)
            });
            assert_eq!(ended.await.map_err(|error| error.to_string()), Ok(Ended::Finished));
            assert!(committed(&sink).into_iter().eq(1..=9));
        }};
    }
    run(async {
        on!(spawn, Tokio);
        on!(in_place, Tokio);
        on!(spawn, TokioLocal);
    });
    let (executor, local) = (smol::Executor::new(), smol::LocalExecutor::new());
    smol::block_on(local.run(executor.run(async {
        on!(spawn, Smol(&executor));
        on!(in_place, Smol(&executor));
        on!(spawn, SmolLocal(&local));
    })));
}

/// Collects the reports as text.
fn word(report: Report<'_>) -> String {
    match report {
        Report::Resumed { id, damaged } => format!("resumed {id} {damaged}"),
        Report::Saved { id, .. } => format!("saved {id}"),
        Report::Failed { id, reason } => format!("failed {id}: {reason}"),
        other => format!("{other:?}"),
    }
}

#[test] // K10, K13: an idle source does not delay a commit, and nothing is saved when there is nothing new.
fn a_quiet_source_is_committed_after_the_interval() {
    run(async {
        let ((sender, source), mut sink, store) = (live(), Sink::new(), Watched::default());
        let running = Pipeline::new(source, &mut sink, store.clone()).interval(100 * MS).run(
            Tokio,
            |numbers, checkpoint| {
                let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
            },
        );
        let script = async {
            sender.send(Ok(150)).unwrap();
            // The first checkpoint at the beginning, one with the record in flight, one with the record written.
            sleep(1000 * MS).await;
            assert_eq!(store.saves(), 3);
            sender.send(Ok(1)).unwrap();
            // Again one with the record in flight (the interval is long over), and one with the record written.
            for _ in 0..5 {
                sleep(1000 * MS).await;
                assert_eq!(store.saves(), 5);
            }
        };
        match futures::future::select(Box::pin(running), Box::pin(script)).await {
            Either::Left((ended, _)) => panic!("{ended:?}"),
            Either::Right(((), running)) => drop(running), // a crash
        }
        assert_eq!(committed(&sink), [150, 1]);
    });
}

#[test] // K10: the clock is the runtime's. The time of a checkpoint that drains is also that of its calls.
fn a_report_tells_how_long_a_checkpoint_took() {
    run(async {
        let ((sender, source), mut sink) = (live(), Sink::new());
        let store = Watched { takes: 30 * MS, ..Watched::default() };
        let mut took = Vec::new();
        let running = Pipeline::new(source, &mut sink, store)
            .interval(100 * MS)
            .draining(None)
            .on_report(|report| {
                if let Report::Saved { took: time, .. } = report {
                    took.push(time);
                }
            })
            .run(Tokio, |numbers, checkpoint| {
                let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
            });
        let script = async {
            sleep(1000 * MS).await;
            sender.send(Ok(150)).unwrap();
            sleep(1000 * MS).await;
        };
        let first = futures::future::select(Box::pin(running), Box::pin(script)).await;
        assert!(matches!(first, Either::Right(_)));
        drop(first);
        // The last one has the outcome, which was written behind the barrier before.
        assert_eq!(took, [30 * MS, 180 * MS, 30 * MS]);
    });
}

#[test] // K10: a failed checkpoint is reported, and the next one covers it, also if no more records come.
fn a_store_that_fails_loses_nothing() {
    run(async {
        let ((sender, source), mut sink) = (live(), Sink::new());
        let store = Watched::failing([false, true, true, false]);
        let mut story = Vec::new();
        let running = Pipeline::new(source, &mut sink, store.clone())
            .interval(100 * MS)
            .on_report(|report| story.push(word(report)))
            .run(Tokio, |numbers, checkpoint| {
                let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
            });
        sender.send(Ok(1)).unwrap();
        let script = sleep(1000 * MS);
        let first = futures::future::select(Box::pin(running), Box::pin(script)).await;
        assert!(matches!(first, Either::Right(_)));
        drop(first);
        assert_eq!(story, ["saved 0", "failed 1: broken", "failed 2: broken", "saved 3"]);
        assert_eq!(committed(&sink), [1]);
    });
}

#[test] // K10
fn a_last_checkpoint_that_fails_is_an_error() {
    run(async {
        let (source, mut sink) = (MemorySource::new([1]), Sink::new());
        let store = Watched::failing([false, true]);
        let build = |numbers: pipeline::CheckpointedSource<_>, recovery: &Recovery| {
            numbers
                .async_wait(AsyncWait::ordered(4), |n: &u32| ask(n))
                .checkpointed("stage", 1)
                .restore(recovery)
                .spawn(Tokio)
        };
        let ended = Pipeline::new(source.clone(), &mut sink, store.clone()).run(Tokio, build).await;
        assert!(matches!(ended, Err(PipelineError::Save(Broken))), "{ended:?}");
        assert!(committed(&sink).is_empty());
        let ended = Pipeline::new(source, &mut sink, store).run(Tokio, build).await;
        assert_eq!((ended.unwrap(), committed(&sink)), (Ended::Finished, vec![1]));
    });
}

#[test] // K13
fn a_pipeline_without_an_interval_commits_every_second() {
    run(async {
        let ((sender, source), mut sink, store) = (live(), Sink::new(), Watched::default());
        sender.send(Ok(1)).unwrap();
        let running =
            Pipeline::new(source, &mut sink, store.clone()).run(Tokio, |numbers, recovery| {
                let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                stage.checkpointed("stage", 1).restore(recovery).spawn(Tokio)
            });
        // A kill, before the source has ended.
        assert!(tokio::time::timeout(1_500 * MS, running).await.is_err());
        assert_eq!((store.saves(), committed(&sink)), (2, vec![1]));
    });
}

#[test] // K3: a drain past its limit fails its checkpoint and nothing else.
fn a_drain_past_its_limit_is_reported() {
    run(async {
        let ((sender, source), mut sink, store) = (live(), Sink::new(), Watched::default());
        let mut story = Vec::new();
        let pipeline = Pipeline::new(source, &mut sink, store.clone());
        let pipeline = pipeline.every_records(2).draining(Some(50 * MS));
        let running = pipeline.on_report(|report| story.push(word(report))).run(
            Tokio,
            |numbers, checkpoint| {
                let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
            },
        );
        for n in [1, 500, 3, 4] {
            sender.send(Ok(n)).unwrap();
        }
        drop(sender);
        assert_eq!(running.await.unwrap(), Ended::Finished);
        let late = format!("failed 1: {}", CheckpointError::DrainTimedOut);
        assert_eq!(story[..2], ["saved 0".into(), late]);
        assert_eq!(committed(&sink), [1, 500, 3, 4]);
    });
}

/// A first life that crashes after a checkpoint with two records in flight.
async fn interrupted() -> (Watched, Sink) {
    let ((sender, source), mut sink, store) = (live(), Sink::new(), Watched::default());
    sender.send(Ok(1)).unwrap();
    sender.send(Ok(2)).unwrap();
    {
        let pipeline = Pipeline::new(source, &mut sink, store.clone()).every_records(2);
        let running = pipeline.run(Tokio, |numbers, checkpoint| {
            let stage = numbers.async_wait(AsyncWait::ordered(4), |_: &u32| {
                pending::<Result<u32, &'static str>>()
            });
            stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
        });
        assert!(tokio::time::timeout(100 * MS, running).await.is_err());
    }
    assert_eq!(store.saves(), 2);
    (store, sink)
}

#[test] // K10, K17: records of a stage that is not restored are not lost silently.
fn a_stage_that_is_not_restored_is_an_error() {
    run(async {
        let (store, mut sink) = interrupted().await;
        for (name, restores) in [("stage", false), ("other", false), ("other", true)] {
            let (_sender, source) = live();
            let ended = Pipeline::new(source, &mut sink, store.clone())
                .run(Tokio, |numbers, checkpoint| {
                    let stage = numbers
                        .async_wait(AsyncWait::ordered(4), |n: &u32| ask(n))
                        .checkpointed(name, 1);
                    let stage = if restores { stage.restore(checkpoint) } else { stage };
                    stage.spawn(Tokio)
                })
                .await;
            match ended.unwrap_err() {
                PipelineError::NotRestored { stage } => assert_eq!(stage, "stage"),
                other => panic!("{other}"),
            }
        }
        // The refusal has changed nothing.
        let (sender, source) = live();
        drop(sender);
        let ended = Pipeline::new(source, &mut sink, store).run(Tokio, |numbers, checkpoint| {
            let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
            stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
        });
        assert_eq!((ended.await.unwrap(), committed(&sink)), (Ended::Finished, vec![1, 2]));
    });
}

#[test] // L3, K16: the next run goes on with the next record.
fn a_pipeline_that_is_stopped_leaves_nothing_in_flight() {
    run(async {
        let (mut sink, mut store) = (Sink::new(), MemoryStore::new());
        let pipeline = Pipeline::new(MemorySource::new(1..=50), &mut sink, &mut store);
        let stop = pipeline.stop_handle();
        let ended = pipeline.run(Tokio, move |numbers, checkpoint| {
            let stage = numbers.async_wait(AsyncWait::ordered(4), move |n: &u32| {
                if *n == 20 {
                    stop.drain();
                }
                ask(n)
            });
            stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
        });
        assert_eq!(ended.await.unwrap(), Ended::Stopped);
        let done = committed(&sink);
        assert!(done.iter().copied().eq(1..=done.len() as u32) && (20..50).contains(&done.len()));
        let loaded = store.load_latest().await.unwrap().unwrap();
        let checkpoint = Checkpoint::from_bytes(&loaded.bytes).unwrap();
        assert_eq!(pipeline::ended(&checkpoint), Some(Ended::Stopped));
        assert_eq!(pipeline::position::<u64>(&checkpoint), Some(done.len() as u64));
        assert_eq!(pipeline::prepared::<u64>(&checkpoint), Some(done.len() as u64));

        let pipeline = Pipeline::new(MemorySource::new(1..=50), &mut sink, &mut store);
        // The checkpoint holds no records, so a stage may have another name.
        let ended = pipeline.run(Tokio, |numbers, recovery| {
            let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
            stage.checkpointed("another", 1).restore(recovery).spawn(Tokio)
        });
        assert_eq!(ended.await.unwrap(), Ended::Finished);
        assert!(committed(&sink).into_iter().eq(1..=50));
    });
}

#[test]
fn the_records_of_a_failing_source_are_committed() {
    run(async {
        let ((sender, source), mut sink, store) = (live(), Sink::new(), Watched::default());
        for element in [Ok(7), Ok(2), Err(Broken), Ok(1)] {
            sender.send(element).unwrap();
        }
        let ended =
            Pipeline::new(source, &mut sink, store.clone()).run(Tokio, |numbers, checkpoint| {
                let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
            });
        assert!(matches!(ended.await, Err(PipelineError::Source(Broken))));
        assert_eq!(committed(&sink), [7, 2]);
    });
}

/// A function that cannot connect.
struct Closed;

impl AsyncFunction<u32> for Closed {
    type Output = u32;
    type Error = &'static str;
    type Future = std::future::Ready<Result<u32, &'static str>>;

    fn poll_open(&mut self, _: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        Poll::Ready(Err("nobody there"))
    }

    fn invoke(&mut self, n: &u32, _: AttemptInfo) -> Self::Future {
        std::future::ready(Ok(*n))
    }
}

#[test] // F3: a failed start never looks like the end of the stream.
fn a_stage_that_ends_early_is_an_error() {
    run(async {
        let (source, mut sink) = (MemorySource::new(1..=9), Sink::new());
        let ended = Pipeline::new(source, &mut sink, MemoryStore::new())
            .run(Tokio, |numbers, _| {
                numbers.async_wait_with(AsyncWait::ordered(4), Closed).spawn(Tokio)
            });
        assert!(matches!(ended.await, Err(PipelineError::EndedEarly)));
    });
}

/// An adapter that drops some of the control elements.
async fn with_adapter(
    interval: Duration,
    keeps: fn(&StreamElement<Outcome<u32, u32, &'static str>>) -> bool,
) -> (Result<Ended, String>, usize) {
    let (source, mut sink) = (MemorySource::new(1..=9), Sink::new());
    let taken = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&taken);
    let pipeline = Pipeline::new(source, &mut sink, MemoryStore::new()).interval(interval);
    let ended = pipeline.run(Tokio, |numbers, recovery| {
        let function = move |n: &u32| {
            let (n, _) = (*n, calls.fetch_add(1, Ordering::Relaxed));
            async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok(n)
            }
        };
        let stage = numbers.async_wait(AsyncWait::ordered(1), function);
        let stage = stage.checkpointed("numbers", 1).restore(recovery).spawn(Tokio)?;
        Ok(stage.filter(move |element| std::future::ready(keeps(element))))
    });
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await.expect("it ends");
    (ended.map_err(|error| error.to_string()), taken.load(Ordering::Relaxed))
}

#[test] // K17: an adapter that drops barriers is found out before anything is taken from the source.
fn an_adapter_that_drops_barriers_is_an_error() {
    run(async {
        let (ended, taken) = with_adapter(Duration::from_secs(1), StreamElement::is_record).await;
        let error = ended.unwrap_err();
        assert!(
            error.contains("a barrier was dropped") && error.contains("filter_records"),
            "{error}"
        );
        assert_eq!(taken, 0);
    });
}

#[test] // K17
fn an_adapter_that_drops_a_later_barrier_is_an_error_too() {
    run(async {
        // The barrier of a checkpoint after the first one, or the one that ends the records.
        for interval in [Duration::from_secs(2), Duration::from_secs(1_000)] {
            let keeps_the_first = |element: &StreamElement<_>| match element {
                StreamElement::Barrier(barrier) => {
                    barrier.mode != BarrierMode::End && barrier.checkpoint.id() == CheckpointId(0)
                }
                _ => true,
            };
            let (ended, taken) = with_adapter(interval, keeps_the_first).await;
            assert!(ended.unwrap_err().contains("a barrier was dropped"));
            assert!(taken > 0);
        }
    });
}

#[test] // K6
fn a_foreign_checkpoint_is_refused() {
    run(async {
        let mut foreign = Checkpoint::new(CheckpointId(3));
        foreign.put("source", b"line 12").unwrap();
        let mut store = MemoryStore::new();
        store.save(foreign.id(), foreign.bytes().unwrap()).await.unwrap();
        let mut garbage = MemoryStore::new();
        garbage.save(CheckpointId(3), b"garbage").await.unwrap();
        for store in [store, garbage] {
            let (source, mut sink) = (MemorySource::new(1..=9), Sink::new());
            let ended =
                Pipeline::new(source, &mut sink, store).run(Tokio, |numbers, checkpoint| {
                    let stage = numbers.async_wait(AsyncWait::ordered(4), |n: &u32| ask(n));
                    stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
                });
            match ended.await.unwrap_err() {
                PipelineError::Foreign { id } => assert_eq!(id, CheckpointId(3)),
                PipelineError::Format(_) => {}
                other => panic!("{other}"),
            }
        }
    });
}

#[test] // K4: two stages, and an adapter between them
fn a_barrier_goes_through_all_stages() {
    run(async {
        let ((sender, source), mut sink, store) = (live(), Sink::new(), Watched::default());
        let stages = |numbers: pipeline::CheckpointedSource<Live>, checkpoint: &Recovery| {
            let first = numbers
                .async_wait(AsyncWait::unordered(4), |n: &u32| ask(n))
                .checkpointed("first", 1)
                .restore(checkpoint)
                .spawn(Tokio)?;
            let between = first.map_records(|done| done.result.unwrap_or(0));
            between
                .async_wait(AsyncWait::ordered(4), |n: &u32| ask(n))
                .checkpointed("second", 1)
                .restore(checkpoint)
                .spawn(Tokio)
        };
        {
            let pipeline = Pipeline::new(source, &mut sink, store.clone()).every_records(1);
            let running = pipeline.run(Tokio, stages);
            for n in [30, 2, 3] {
                sender.send(Ok(n)).unwrap();
            }
            assert!(tokio::time::timeout(32 * MS, running).await.is_err());
        }
        assert!(committed(&sink).is_empty());
        let (sender, source) = live();
        sender.send(Ok(4)).unwrap(); // the fourth record, as after a seek
        drop(sender);
        let ended = Pipeline::new(source, &mut sink, store).run(Tokio, stages).await;
        let mut done = committed(&sink);
        done.sort_unstable();
        assert_eq!((ended.unwrap(), done), (Ended::Finished, vec![20, 30, 40, 300]));
    });
}

fn is_send<T: Send>(_: &T) {}

#[test] // With a source, a sink and a store that are `Send`, a pipeline is `Send`.
fn a_pipeline_can_go_to_another_thread() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("input"), "1\n2\n").unwrap();
    let source = LineSource::open(path("input")).unwrap();
    let format = |done: Outcome<Line, usize, LineError>| match done.result {
        Ok(answer) => Ok(answer.to_string()),
        Err(failure) => Err(failure.to_string()),
    };
    let sink = LineSink::open(path("output"), format).unwrap();
    let store = inflight::FileStore::open(path("checkpoints")).unwrap();
    let running =
        Pipeline::new(source, sink, store).interval(MS).run(Tokio, |lines, checkpoint| {
            let stage = lines.async_wait(AsyncWait::ordered(4), |line: &Line| {
                let text = line.text().map(str::len);
                async move { text }
            });
            stage.checkpointed("stage", 1).restore(checkpoint).spawn(Tokio)
        });
    is_send(&running);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_time().build().unwrap();
    let ended = runtime.block_on(async { tokio::spawn(running).await.unwrap().unwrap() });
    assert_eq!(ended, Ended::Finished);
    assert_eq!(std::fs::read_to_string(path("output")).unwrap(), "1\n1\n");
}
