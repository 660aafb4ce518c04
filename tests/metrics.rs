//! What a recorder gets to know of a stage.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use futures::stream;
use inflight::Tokio;
use inflight::{Aimd, AsyncWait, AsyncWaitExt, Failure, FixedDelay, Metrics, Rate, with_attempt};
use inflight::{StageHandle, StageMetrics};
use metrics::Unit;
use metrics_util::MetricKind;
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);

/// Name, what it is, unit, description and value of everything that is known, of one stage.
type Known = BTreeMap<String, (MetricKind, Option<Unit>, String, DebugValue)>;

fn known(snapshotter: &Snapshotter, stage: &str) -> Known {
    let all = snapshotter.snapshot().into_vec().into_iter();
    all.filter_map(|(key, unit, description, value)| {
        let (kind, key) = key.into_parts();
        let labels: Vec<_> = key.labels().map(|label| (label.key(), label.value())).collect();
        let description = description.unwrap_or_default().into_owned();
        (labels == [("stage", stage)])
            .then(|| (key.name().to_owned(), (kind, unit, description, value)))
    })
    .collect()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(test)
}

fn counter(known: &Known, name: &str) -> u64 {
    match known[name].3 {
        DebugValue::Counter(value) => value,
        ref other => panic!("{name} is {other:?}"),
    }
}

fn gauge(known: &Known, name: &str) -> f64 {
    match known[name].3 {
        DebugValue::Gauge(value) => value.0,
        ref other => panic!("{name} is {other:?}"),
    }
}

fn histogram(known: &Known, name: &str) -> Vec<f64> {
    match &known[name].3 {
        DebugValue::Histogram(values) => values.iter().map(|value| value.0).collect(),
        other => panic!("{name} is {other:?}"),
    }
}

#[test] // M1
fn a_recorder_gets_what_the_stage_counts() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        run(async {
            let policy =
                AsyncWait::ordered(4).timeout(50 * MS).retry(FixedDelay::new(MS).max_retries(1));
            // 0 answers, 1 is retried, 2 fails twice, 3 never answers.
            let ask = with_attempt(|n: &u32, attempt| {
                let n = *n;
                async move {
                    sleep(if n == 3 { 1000 * MS } else { 10 * MS }).await;
                    if n == 2 || n == 1 && attempt.number == 1 { Err("busy") } else { Ok(n) }
                }
            });
            let mut stage = stream::iter(0..4).async_wait_with(policy, ask).spawn(Tokio).unwrap();
            let (handle, mut reported) = (stage.handle(), StageMetrics::new("numbers"));
            reported.record(&handle.metrics());
            sleep(15 * MS).await;
            assert!(stage.next().await.is_some());
            reported.record(&handle.metrics());
            let meanwhile = known(&snapshotter, "numbers");
            assert_eq!(gauge(&meanwhile, "inflight_capacity"), 4.0);
            assert_eq!(gauge(&meanwhile, "inflight_in_flight"), 3.0);
            assert_eq!(counter(&meanwhile, "inflight_attempts_total"), 6);

            while stage.next().await.is_some() {}
            let last = handle.metrics();
            reported.record(&last);
            reported.record(&last); // the same again changes nothing
        });
    });
    let after = known(&snapshotter, "numbers");
    let counters = [
        ("inflight_records_in_total", 4),
        ("inflight_emitted_total", 4),
        ("inflight_failed_total", 2),
        ("inflight_timed_out_total", 1),
        ("inflight_dropped_total", 0),
        ("inflight_attempts_total", 6),
        ("inflight_retried_total", 2),
        ("inflight_late_completions_total", 0),
        ("inflight_slow_turns_total", 0),
    ];
    for (name, expected) in counters {
        assert_eq!(counter(&after, name), expected, "{name}");
    }
    assert!(counter(&after, "inflight_blocked_milliseconds_total") >= 10);
    assert_eq!(gauge(&after, "inflight_in_flight"), 0.0);
    assert_eq!(gauge(&after, "inflight_oldest_seconds"), 0.0);
}

#[test]
fn a_histogram_gets_each_call_once_and_never_less_than_it_took() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let (mut reported, mut now) = (StageMetrics::new("numbers"), Metrics::default());
        now.call_time.record(3 * MS);
        now.call_time.record(3 * MS);
        reported.record(&now);
        now.call_time.record(1000 * MS);
        now.ordering_delay.record(Duration::ZERO);
        reported.record(&now);
        reported.record(&now);
    });
    // The recorder forgets what it has told, so this is the sum of all three.
    let known = known(&snapshotter, "numbers");
    let calls = histogram(&known, "inflight_call_seconds");
    let bound = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64();
    assert_eq!(calls, [bound(1 << 22), bound(1 << 22), bound(1 << 30)]);
    assert_eq!(histogram(&known, "inflight_ordering_delay_seconds"), [bound(1 << 10)]);
}

#[test] // M1
fn what_waits_is_a_number_of_its_own() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        let mut now = Metrics::default();
        (now.in_flight, now.running, now.in_backoff, now.done) = (64, 8, 4, 2);
        StageMetrics::new("numbers").record(&now);
    });
    assert_eq!(gauge(&known(&snapshotter, "numbers"), "inflight_waiting"), 50.0);
}

/// What a stage says about its limit, its pause and its next start, and what the recorder gets to know of it.
fn held_up(
    handle: &StageHandle,
    snapshotter: &Snapshotter,
) -> (Option<u64>, bool, Option<Duration>) {
    let now = handle.metrics();
    StageMetrics::new("numbers").record(&now);
    let known = known(snapshotter, "numbers");
    assert_eq!(gauge(&known, "inflight_limit"), now.limit.unwrap_or(0) as f64);
    assert_eq!(gauge(&known, "inflight_paused"), f64::from(u8::from(now.paused)));
    let seconds = now.next_start.unwrap_or_default().as_secs_f64();
    assert_eq!(gauge(&known, "inflight_next_start_seconds"), seconds);
    (now.limit, now.paused, now.next_start)
}

/// Runs a test with a recorder of its own.
fn recorded<F: Future<Output = ()>>(test: impl FnOnce(Snapshotter) -> F) {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || run(test(snapshotter)));
}

#[test] // M1, A2
fn a_stage_that_sleeps_in_a_pause_says_so() {
    recorded(async |snapshotter| {
        let ask = |n: &u32| std::future::ready(Ok::<_, ()>(*n));
        let policy = AsyncWait::ordered(4).max_running(3);
        let mut stage = stream::iter(0..9).async_wait(policy, ask).spawn(Tokio).unwrap();
        let handle = stage.handle();
        sleep(MS).await;
        assert_eq!(held_up(&handle, &snapshotter), (Some(3), false, None));
        handle.pause();
        sleep(MS).await;
        assert_eq!(held_up(&handle, &snapshotter), (Some(3), true, None));
        for _ in 0..4 {
            assert!(stage.next().await.is_some());
        }
        sleep(60_000 * MS).await;
        assert_eq!(held_up(&handle, &snapshotter), (Some(3), true, None));
        assert_eq!(handle.metrics().waiting(), 4);
        handle.set_max_running(2).unwrap();
        handle.resume();
        sleep(MS).await;
        assert_eq!(held_up(&handle, &snapshotter), (Some(2), false, None));
        while stage.next().await.is_some() {}
    });
}

#[test] // M1, A1, A2
fn a_stage_that_sleeps_says_when_the_next_attempt_may_start() {
    recorded(async |snapshotter| {
        // 0 is refused for half a minute, at once.
        let ask = |n: &u32| std::future::ready(if *n == 0 { Err(30_000 * MS) } else { Ok(*n) });
        let policy = AsyncWait::ordered(8)
            .limit(Aimd::between(1, 8).start(4))
            .rate(Rate::per(10_000 * MS, 2).burst(1))
            .pause_on(|failure: &Failure<Duration>| failure.error().copied());
        let mut stage = stream::iter(0..3).async_wait(policy, ask).spawn(Tokio).unwrap();
        let handle = stage.handle();
        sleep(MS).await;
        assert_eq!(held_up(&handle, &snapshotter), (Some(2), true, Some(30_000 * MS)));
        sleep(29_998 * MS).await; // the stage sleeps, and its numbers with it
        assert_eq!(held_up(&handle, &snapshotter), (Some(2), true, Some(30_000 * MS)));
        sleep(2 * MS).await; // 1 has started, and 2 is next
        assert_eq!(held_up(&handle, &snapshotter), (Some(2), false, Some(5_000 * MS)));
        sleep(5_000 * MS).await;
        assert_eq!(held_up(&handle, &snapshotter), (Some(3), false, None));
        while stage.next().await.is_some() {}
    });
}

#[test]
fn stages_are_told_apart_by_their_label() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        for (name, records_in) in [("a", 1), ("b", 2)] {
            let mut now = Metrics::default();
            now.records_in = records_in;
            StageMetrics::new(name).record(&now);
        }
    });
    let counted = snapshotter.snapshot().into_vec().into_iter().filter_map(|(key, _, _, value)| {
        (key.key().name() == "inflight_records_in_total").then_some(value)
    });
    assert!(counted.eq([DebugValue::Counter(1), DebugValue::Counter(2)]));
}

#[test]
fn the_table_in_the_docs_says_what_the_recorder_is_told() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        StageMetrics::new("numbers").record(&Metrics::default())
    });
    let told = known(&snapshotter, "numbers").into_iter().map(|(name, (kind, unit, what, _))| {
        let kind = format!("{kind:?}").to_lowercase();
        let unit = unit.map_or("", |unit| unit.as_str());
        format!("| `{name}` | {kind} | {unit} | {what} |")
    });
    let told: Vec<_> = told.collect();
    let rows =
        include_str!("../src/metrics/mod.rs").lines().filter_map(|line| line.strip_prefix("/// "));
    let mut rows: Vec<_> = rows.filter(|row| row.starts_with("| `")).collect();
    rows.sort_unstable();
    assert_eq!(rows, told);
}
