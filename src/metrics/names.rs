//! The name, unit, description and source of each number.

use ::metrics::Unit;
use inflight_core::{Histogram, Metrics};

pub(crate) struct Named<T> {
    pub(crate) name: &'static str,
    unit: Unit,
    description: &'static str,
    pub(crate) value: T,
}

const fn named<T>(name: &'static str, unit: Unit, description: &'static str, value: T) -> Named<T> {
    Named { name, unit, description, value }
}

pub(crate) const GAUGES: [Named<fn(&Metrics) -> f64>; 10] = [
    named("inflight_in_flight", Unit::Count, "records taken in and not handed on", |m| {
        m.in_flight as f64
    }),
    named("inflight_running", Unit::Count, "attempts running", |m| m.running as f64),
    named("inflight_in_backoff", Unit::Count, "records between two attempts", |m| {
        m.in_backoff as f64
    }),
    named(
        "inflight_waiting",
        Unit::Count,
        "records that wait for an attempt to start: for the previous record of their key, a running attempt, a permit, the rate, the end of a pause or more records of a batch",
        |m| m.waiting() as f64,
    ),
    named("inflight_done", Unit::Count, "records that are done and have not left", |m| {
        m.done as f64
    }),
    named("inflight_capacity", Unit::Count, "the most records in flight", |m| m.capacity as f64),
    named(
        "inflight_limit",
        Unit::Count,
        "the most attempts or batches that may run at once, pauses aside; 0 if there is no limit",
        |m| m.limit.unwrap_or_default() as f64,
    ),
    named(
        "inflight_paused",
        Unit::Count,
        "1 if no attempt starts because of a pause, else 0",
        |m| f64::from(u8::from(m.paused)),
    ),
    named(
        "inflight_next_start_seconds",
        Unit::Seconds,
        "until the next attempt may start that a rate, a failure's pause or a batch that fills holds up; 0 if they hold none up",
        |m| m.next_start.unwrap_or_default().as_secs_f64(),
    ),
    named(
        "inflight_oldest_seconds",
        Unit::Seconds,
        "age of the oldest record in flight; 0 if there is none",
        |m| m.oldest.unwrap_or_default().as_secs_f64(),
    ),
];

pub(crate) const COUNTERS: [Named<fn(&Metrics) -> u64>; 11] = [
    named("inflight_records_in_total", Unit::Count, "records taken in", |m| m.records_in),
    named("inflight_emitted_total", Unit::Count, "outcomes handed on", |m| m.emitted),
    named(
        "inflight_failed_total",
        Unit::Count,
        "calls that ended with a failure, timeouts included",
        |m| m.failed,
    ),
    named(
        "inflight_timed_out_total",
        Unit::Count,
        "calls that ended with a failure because time ran out",
        |m| m.timed_out,
    ),
    named(
        "inflight_dropped_total",
        Unit::Count,
        "records that left without an outcome: a timeout's handler let them go, or a failure has ended the job",
        |m| m.dropped,
    ),
    named("inflight_attempts_total", Unit::Count, "attempts started", |m| m.attempts),
    named(
        "inflight_requests_total",
        Unit::Count,
        "requests started: batches, or else attempts",
        |m| m.requests,
    ),
    named(
        "inflight_retried_total",
        Unit::Count,
        "attempts that were followed by another one",
        |m| m.retried,
    ),
    named(
        "inflight_late_completions_total",
        Unit::Count,
        "completions that came too late to have an effect",
        |m| m.late_completions,
    ),
    named(
        "inflight_slow_turns_total",
        Unit::Count,
        "turns of the stage that kept their thread for longer than 50 ms: a request may block it",
        |m| m.slow_turns,
    ),
    named(
        "inflight_blocked_milliseconds_total",
        Unit::Milliseconds,
        "time in which no further record had room",
        |m| u64::try_from(m.blocked.as_millis()).unwrap_or(u64::MAX),
    ),
];

pub(crate) const HISTOGRAMS: [Named<fn(&Metrics) -> &Histogram>; 2] = [
    named(
        "inflight_call_seconds",
        Unit::Seconds,
        "from a call's first invocation to its outcome",
        |m| &m.call_time,
    ),
    named(
        "inflight_ordering_delay_seconds",
        Unit::Seconds,
        "how long outcomes waited for records before them, or to be taken out",
        |m| &m.ordering_delay,
    ),
];

/// Gives the recorder each name's unit and description.
pub(crate) fn describe() {
    for Named { name, unit, description, .. } in GAUGES {
        ::metrics::describe_gauge!(name, unit, description);
    }
    for Named { name, unit, description, .. } in COUNTERS {
        ::metrics::describe_counter!(name, unit, description);
    }
    for Named { name, unit, description, .. } in HISTOGRAMS {
        ::metrics::describe_histogram!(name, unit, description);
    }
}
