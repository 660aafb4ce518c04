//! What a subscriber gets to know of a stage.

use std::fmt::{Debug, Write as _};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::stream;
use inflight::Tokio;
use inflight::{
    AsyncWait, AsyncWaitExt, FixedDelay, Metrics, TimedOutCall, TimeoutAction, with_attempt,
    with_timeout_action,
};
use inflight::{TraceMetrics, trace_outcome, traced};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::{LookupSpan, Registry};

const MS: Duration = Duration::from_millis(1);

/// Writes down, a line each, every span that ends with its fields, and every event with its own and the span it is in.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).expect("a string takes everything");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        write!(self.0, " {}={value}", field.name()).expect("a string takes everything");
    }
}

impl<S> Layer<S> for Notes
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        context.span(id).expect("known").extensions_mut().insert(fields);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let span = context.span(id).expect("known");
        let mut extensions = span.extensions_mut();
        values.record(extensions.get_mut::<Fields>().expect("inserted"));
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let inside = context.event_span(event).map_or("", |span| span.name());
        let (level, name) = (event.metadata().level(), event.metadata().name());
        self.0.lock().unwrap().push(format!("{level} {name} in '{inside}':{}", fields.0));
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).expect("known");
        let extensions = span.extensions();
        let fields = &extensions.get::<Fields>().expect("inserted").0;
        self.0.lock().unwrap().push(format!("span {}:{fields}", span.name()));
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().expect("a runtime").block_on(test)
}

/// What is noted while `test` runs.
fn noted(test: impl Future<Output = ()>) -> Vec<String> {
    let notes = Notes::default();
    let subscriber = Registry::default().with(notes.clone());
    tracing::subscriber::with_default(subscriber, || run(test));
    std::mem::take(&mut *notes.0.lock().unwrap())
}

#[test]
fn a_span_an_attempt_with_its_outcome_and_an_event_a_retry() {
    let notes = noted(async {
        let ask = with_attempt(|n: &u32, attempt| {
            let n = *n;
            async move {
                sleep(MS).await;
                tracing::info!(name: "asked", n);
                if attempt.number < n { Err("busy") } else { Ok(n) }
            }
        });
        let policy = AsyncWait::ordered(1).retry(FixedDelay::new(MS).max_retries(5));
        let mut stage = stream::iter([1, 2])
            .async_wait_with(policy, traced("numbers", |n: &u32| format!("n{n}"), ask))
            .spawn(Tokio)
            .unwrap();
        while let Some(done) = stage.next().await {
            trace_outcome("numbers", done.input, &done);
        }
    });
    let mut ids = Vec::new();
    let notes: Vec<_> = notes.iter().map(|note| without_id(note, &mut ids)).collect();
    assert_eq!(
        notes,
        [
            "INFO asked in 'call': n=1",
            "span call: stage=numbers key=n1 attempt=1 outcome=ok",
            "DEBUG outcome in '': message=outcome stage=numbers key=1 outcome=ok attempts=1 elapsed=1ms",
            "INFO asked in 'call': n=2",
            "span call: stage=numbers key=n2 attempt=1 outcome=error",
            "DEBUG retry in 'call': message=retry retry=1",
            "INFO asked in 'call': n=2",
            "span call: stage=numbers key=n2 attempt=2 outcome=ok",
            "DEBUG outcome in '': message=outcome stage=numbers key=2 outcome=ok attempts=2 elapsed=3ms",
        ]
    );
    assert_eq!(ids[1], ids[2], "the attempts of a call share the request id");
    assert_ne!(ids[0], ids[1]);
}

/// Takes the request id out of a note, which is another one in each run.
fn without_id(note: &str, ids: &mut Vec<String>) -> String {
    let is_id = |word: &&str| word.starts_with("request_id=");
    ids.extend(note.split(' ').find(is_id).map(String::from));
    note.split(' ').filter(|word| !is_id(word)).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_call_that_times_out_is_cancelled_and_says_what_became_of_it() {
    let notes = noted(async {
        let forever = |_: &u32| std::future::pending::<Result<u32, ()>>();
        let action = |call: TimedOutCall<'_, u32, u32, ()>| match call.input {
            0 => TimeoutAction::Fail,
            1 => TimeoutAction::Output(7),
            _ => TimeoutAction::Drop,
        };
        let function = with_timeout_action(forever, action);
        let policy = AsyncWait::ordered(1).timeout(MS);
        let mut stage = stream::iter(0..3)
            .async_wait_with(policy, traced("numbers", |n: &u32| *n, function))
            .spawn(Tokio)
            .unwrap();
        while let Some(done) = stage.next().await {
            trace_outcome("numbers", done.input, &done);
        }
    });
    let notes: Vec<_> = notes.iter().map(|note| without_id(note, &mut Vec::new())).collect();
    let timeout = "WARN timeout in '': message=timeout stage=numbers";
    let outcome = "outcome in '': message=outcome stage=numbers";
    let expected = [
        "span call: stage=numbers key=0 attempt=1 outcome=cancelled".to_owned(),
        format!("{timeout} key=0 action=fail"),
        format!("WARN {outcome} key=0 outcome=timed_out attempts=1 elapsed=1ms"),
        "span call: stage=numbers key=1 attempt=1 outcome=cancelled".to_owned(),
        format!("{timeout} key=1 action=output"),
        format!("DEBUG {outcome} key=1 outcome=ok attempts=1 elapsed=1ms"),
        "span call: stage=numbers key=2 attempt=1 outcome=cancelled".to_owned(),
        format!("{timeout} key=2 action=drop"),
    ];
    let sorted = |mut notes: Vec<String>| {
        notes.sort_unstable(); // the stage's task may be ahead of its consumer
        notes
    };
    assert_eq!(sorted(notes), sorted(expected.into()));
}

#[test]
fn late_completions_are_told_once() {
    let notes = noted(async {
        let (mut watch, mut now) = (TraceMetrics::new("numbers"), Metrics::default());
        watch.look(&now);
        now.late_completions = 3;
        watch.look(&now);
        watch.look(&now);
        now.late_completions = 4;
        watch.look(&now);
    });
    let told = "INFO late_completions in '': message=late completions stage=numbers";
    assert_eq!(notes, [format!("{told} count=3"), format!("{told} count=1")]);
}
