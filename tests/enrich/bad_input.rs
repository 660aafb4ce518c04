//! Invalid input, a bad service, and standard input: nothing is lost.

use std::process::Stdio;

use serde_json::{Map, Value};

use crate::harness::{Job, Running, Said, enriched, flights};
use crate::service::{Service, airport};

/// Long timeouts for tests that count retries: no attempt may time out because the machine is busy.
const PATIENT: &[&str] = &["--attempt-timeout", "60s", "--hang-rate", "0"];

/// A line, and a part of the reason that its rejection must give if it is broken.
fn lines() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let good = flights(1).trim_end().to_owned();
    let but = |from: &str, to: &str| good.replace(from, to).into_bytes();
    vec![
        (good.clone().into(), None),
        (b"no JSON".to_vec(), Some("not JSON")),
        (b"".to_vec(), Some("empty")),
        (b"   ".to_vec(), Some("empty")),
        (but("\"time\":", "\"tim\":"), Some("missing field `time`")),
        (but("\"origin\":\"HNL\",", ""), Some("missing field `origin`")),
        (but("\"destination\":\"SFO\",", ""), Some("missing field `destination`")),
        (but("\"delay_minutes\":95,", ""), Some("missing field `delay_minutes`")),
        (but(",\"distance_miles\":2399", ""), Some("missing field `distance_miles`")),
        (but("\"HNL\"", "7"), Some("invalid type")),
        (but("HNL", "XQX"), Some("no airport \"XQX\"")),
        (but("HNL", "../SFO?"), Some("no airport \"../SFO?\"")),
        (but("2001-01-01T01:10:00Z", "yesterday"), Some("yesterday")),
        (but("}", ""), Some("not JSON")),
        (br#"["2001-01-01T01:10:00Z","HNL","SFO",95,2399]"#.to_vec(), Some("list")),
        (b"42".to_vec(), Some("JSON object")),
        (but("HNL", "\u{e9}"), Some("no airport")),
        (b"{\"time\":\"\xff\"}".to_vec(), Some("UTF-8")),
        (but("}", ",\"origin_airport\":null}"), Some("airports already")),
        (but("}", ",\"x\":[]}"), None),
        (but("}", ",\"origin_airport\":{}}"), Some("airports already")),
        (but("{", "  { \t"), None),
        (but("}", "} \t\r"), None),
        (but("95", "95e-1"), None),
        (vec![b'x'; 70_000], Some("longer than")),
        (good.into(), None),
    ]
}

#[test]
fn only_broken_lines_are_rejected() {
    let lines = lines();
    // The last line has no line feed.
    let input = lines.iter().map(|(line, _)| line.as_slice()).collect::<Vec<_>>().join(&b'\n');
    for order in ["ordered", "unordered"] {
        let job = Job::new(&input).with(&["--order", order]);
        let said = job.finish();
        assert!(said.stdout.contains("output.rejected.ndjson"), "{said:#?}");

        let broken = lines.iter().zip(1..).filter_map(|((line, why), n)| Some((n, line, (*why)?)));
        let (rejected, broken) = (job.rejected(), broken.collect::<Vec<_>>());
        assert_eq!(rejected.len(), broken.len(), "{rejected:#?}");
        for (number, line, reason) in broken {
            let found = rejected.iter().find(|found| found["number"] == number);
            check_rejected(
                found.unwrap_or_else(|| panic!("line {number} is not there")),
                line,
                reason,
            );
        }
        let good = lines.iter().filter(|(_, reason)| reason.is_none());
        let good = good.map(|(line, _)| str::from_utf8(line).unwrap()).collect::<Vec<_>>();
        let (mut found, mut expected) = (job.flights(), enriched(&good.join("\n")));
        if order == "ordered" {
            assert!(rejected.is_sorted_by_key(|line| line["number"].as_u64()), "{rejected:#?}");
        } else {
            for flights in [&mut found, &mut expected] {
                flights.sort_by_cached_key(|flight| Value::from(flight.clone()).to_string());
            }
        }
        assert_eq!(found, expected);

        let summary = job.summary();
        let [read, written, rejected] =
            ["read", "written", "rejected"].map(|name| summary[name].as_u64().unwrap());
        assert_eq!((read, written + rejected), (lines.len() as u64, read));
    }
}

fn check_rejected(found: &Map<String, Value>, line: &[u8], reason: &str) {
    assert!(found["reason"].as_str().unwrap().contains(reason), "{found:#?}");
    if line.len() > 65536 {
        assert_eq!(found["line_length"], line.len());
        assert!(line.starts_with(found["line_start"].as_str().unwrap().as_bytes()));
    } else if let Ok(text) = str::from_utf8(line) {
        assert_eq!(found["line"], text);
    } else {
        let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found["line_hex"], hex);
    }
}

#[test]
fn a_flight_keeps_its_fields_as_they_were_written() {
    let line = r#"{ "destination" : "SFO","distance_miles": 2.3990e3, "x": {"y": [1e400]},"time":"2001-01-01T01:10:00Z","origin":"HNL","delay_minutes":95 }"#;
    let job = Job::new(line);
    job.finish();
    let output = String::from_utf8(job.output()).unwrap();
    assert!(output.starts_with(line.trim_end_matches([' ', '}'])), "{output}");
}

#[test]
fn an_empty_input_is_done_at_once() {
    let job = Job::new("");
    job.finish();
    assert!(job.flights().is_empty() && job.rejected().is_empty());
    assert!(job.run(&[]).stdout.contains("finished already"));
}

// R4, F1, F2
#[test]
fn a_flight_whose_retries_are_used_up_is_rejected() {
    let job = Job::new(flights(5)).with(&["--error-rate", "1", "--retries", "2"]).with(PATIENT);
    job.finish();
    assert_eq!((numbers_of_rejected(&job), job.flights().len()), (vec![1, 2, 3, 4, 5], 0));
    for rejected in job.rejected() {
        let reason = rejected["reason"].as_str().unwrap();
        assert!(reason.contains("503") && reason.contains("3 attempts"), "{reason}");
    }
    assert_eq!(job.summary()["retries"], 10);
}

// T1, T2, F2
#[test]
fn a_flight_that_is_never_answered_is_rejected() {
    let silent = Job::new(flights(5)).with(&["--hang-rate", "1", "--retries", "1"]);
    let job = silent.with(&["--attempt-timeout", "20ms"]);
    job.finish();
    assert_eq!((numbers_of_rejected(&job), job.flights().len()), (vec![1, 2, 3, 4, 5], 0));
    assert!(job.rejected().iter().all(|line| line["reason"].to_string().contains("timed out")));
    assert_eq!([&job.summary()["retries"], &job.summary()["timeouts"]], [5, 10]);

    let job = Job::new(flights(5)).with(&["--hang-rate", "1", "--timeout", "50ms"]);
    job.finish();
    assert_eq!((numbers_of_rejected(&job), job.flights().len()), (vec![1, 2, 3, 4, 5], 0));
    assert!(job.rejected().iter().all(|line| line["reason"].to_string().contains("timed out")));
    assert_eq!([&job.summary()["retries"], &job.summary()["timeouts"]], [0, 5]);
}

fn numbers_of_rejected(job: &Job) -> Vec<u64> {
    job.rejected().iter().map(|line| line["number"].as_u64().unwrap()).collect()
}

/// Runs the job over standard input.
fn pipe(job: &Job, input: &str, more: &[&str]) -> Said {
    let mut command = job.command(&[&["--input", "-"], more].concat());
    command.stdin(Stdio::piped());
    let mut running = Running::new(command);
    running.write(input.as_bytes());
    running.said()
}

#[test]
fn standard_input_has_no_checkpoints() {
    let job = Job::new("");
    let said = pipe(&job, &flights(300), &[]);
    assert!(said.status.success(), "{said:#?}");
    assert_eq!(said.stderr.matches("no checkpoints").count(), 1);
    assert!(!job.path("checkpoints").exists());
    job.assert_complete(&flights(300));
}

#[test]
fn standard_input_overwrites_no_job_unasked() {
    let job = Job::new(flights(300));
    job.finish();
    assert_eq!(pipe(&job, "", &[]).status.code(), Some(2));
    job.assert_complete(&flights(300));

    // After that, the job does not count as finished.
    assert!(pipe(&job, "", &["--fresh"]).status.success());
    job.finish();
    job.assert_complete(&flights(300));
}

#[test]
fn standard_input_leaves_the_checkpoints_of_another_output_alone() {
    let job = Job::new(flights(300));
    job.run(&["--crash-after", "150"]);
    let other = job.path("other").to_str().unwrap().to_owned();
    let said = pipe(&job, &flights(3), &["--fresh", "--output", &other]);
    assert!(said.status.success(), "{said:#?}");
    let said = job.finish();
    assert!(said.stderr.contains("resuming"), "{said:#?}");
    job.assert_complete(&flights(300));
}

#[test]
fn a_users_service_is_understood_or_the_reason_is_printed() {
    let service = Service::start(|code| {
        Some(match code {
            "GONE" => ("410 Gone", String::new()),
            "ODD" => ("200 OK", "{}".into()),
            "PAGE" => ("200 OK", "<html>Please log in</html>".into()),
            code => ("200 OK", airport(code)),
        })
    });
    let but = |code: &str| flights(1).replace("HNL", code);
    let input: String = ["YES", "GONE", "ODD", "PAGE"].into_iter().map(but).collect();
    let job = Job::new(&input).with(&["--service", &service.url(), "--retries", "1"]).with(PATIENT);
    job.finish();

    let flights = job.flights();
    assert_eq!(flights.len(), 1);
    let name = |end: &str| flights[0][end]["name"].as_str().unwrap().to_owned();
    assert_eq!([name("origin_airport"), name("destination_airport")], ["The YES", "The SFO"]);

    assert_eq!(numbers_of_rejected(&job), [2, 3, 4]);
    let reasons = job.rejected().into_iter().map(|line| line["reason"].to_string());
    let expected = ["410", "missing field `name`", "2 attempts"];
    for (reason, expected) in reasons.zip(expected) {
        assert!(reason.contains(expected), "{reason}");
    }
    assert_eq!(job.summary()["retries"], 1, "only a page that is no JSON is worth another attempt");
}

#[test]
fn without_a_service_every_flight_is_rejected() {
    // Nothing listens on port 1, and no outgoing connection gets it. A port that was free a moment ago might be in
    // use.
    let service = "http://127.0.0.1:1/{code}";
    let job = Job::new(flights(3)).with(&["--service", service, "--retries", "1"]);
    job.finish();
    assert_eq!((numbers_of_rejected(&job), job.flights().len()), (vec![1, 2, 3], 0));
    assert!(job.rejected().iter().all(|line| line["reason"].to_string().contains("refused")));
}
