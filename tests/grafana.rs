//! The dashboard in `docs/grafana` shows the numbers that `StageMetrics` hands on, all of them and no others.

use std::collections::BTreeSet;

use inflight::{Metrics, StageMetrics};
use metrics_util::MetricKind;
use metrics_util::debugging::DebuggingRecorder;
use serde_json::Value;

fn dashboard() -> Value {
    serde_json::from_str(include_str!("../docs/grafana/inflight.json")).expect("it is JSON")
}

/// The names that a recorder is told, with their kinds.
fn published() -> Vec<(String, MetricKind)> {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        StageMetrics::new("numbers").record(&Metrics::default());
    });
    let keys = snapshotter.snapshot().into_vec().into_iter().map(|(key, ..)| key.into_parts());
    keys.map(|(kind, key)| (key.name().to_owned(), kind)).collect()
}

fn list<'v>(of: &'v Value, name: &str) -> &'v [Value] {
    of[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// All queries, each with the title of its panel.
fn queries(dashboard: &Value) -> Vec<(&str, &str)> {
    let panels = list(dashboard, "panels").iter();
    panels
        .flat_map(|panel| {
            let title = panel["title"].as_str().expect("a title");
            list(panel, "targets")
                .iter()
                .map(move |target| (title, target["expr"].as_str().expect("a query")))
        })
        .collect()
}

/// The places at which a query names a number: the text before it, and the name.
fn names(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.match_indices("inflight_").map(|(start, _)| {
        let rest = &query[start..];
        let end = rest.find(|letter: char| !letter.is_ascii_lowercase() && letter != '_');
        (&query[..start], &rest[..end.unwrap_or(rest.len())])
    })
}

#[test]
fn every_number_is_in_a_panel_and_every_panel_shows_numbers_that_exist() {
    let (dashboard, published) = (dashboard(), published());
    let mut shown = BTreeSet::new();
    for (title, query) in queries(&dashboard) {
        for (_, name) in names(query) {
            let name = name.strip_suffix("_bucket").unwrap_or(name); // the exporter's part of a histogram
            assert!(
                published.iter().any(|(known, _)| known == name),
                "{title}: there is no {name}"
            );
            shown.insert(name.to_owned());
        }
    }
    for (name, _) in published {
        assert!(shown.contains(&name), "{name} is in no panel");
    }
}

#[test]
fn counters_and_buckets_are_rates_and_all_other_numbers_are_not() {
    let (dashboard, published) = (dashboard(), published());
    for (title, query) in queries(&dashboard) {
        for (before, name) in names(query) {
            let is_counter = published.contains(&(name.to_owned(), MetricKind::Counter));
            let grows = is_counter || name.ends_with("_bucket");
            assert_eq!(before.ends_with("rate("), grows, "{title}: {name}");
        }
    }
}

#[test]
fn every_query_follows_the_variables_for_the_stage_and_the_data_source() {
    let dashboard = dashboard();
    let variables = list(&dashboard["templating"], "list").iter();
    let variables: Vec<_> =
        variables.map(|of| (of["name"].as_str(), of["type"].as_str())).collect();
    let expected = [("datasource", "datasource"), ("stage", "query")];
    assert_eq!(variables, expected.map(|(name, kind)| (Some(name), Some(kind))));
    for panel in list(&dashboard, "panels") {
        for asked in std::iter::once(panel).chain(list(panel, "targets")) {
            assert_eq!(asked["datasource"]["uid"], "${datasource}", "{}", panel["title"]);
        }
    }
    for (title, query) in queries(&dashboard) {
        let chosen = query.matches(r#"{stage=~"$stage""#).count();
        assert_eq!(chosen, names(query).count(), "{title}: {query}");
    }
}
