//! Refusals: each message names the fault and the remedy, and nothing is changed.

use std::fs;
use std::path::Path;

use crate::harness::{Job, enriched, flights};

#[test]
fn invalid_options_are_refused() {
    let job = Job::new(flights(3));
    let cases: &[(&[&str], &[&str])] = &[
        (&["--capacity", "0"], &["--capacity", "from 1"]),
        (&["--capacity", "many"], &["--capacity", "from 1"]),
        (&["--error-rate=-0.1"], &["--error-rate", "from 0 to 1"]),
        (&["--hang-rate", "1.5"], &["--hang-rate", "from 0 to 1"]),
        (&["--hang-rate", "NaN"], &["--hang-rate"]),
        (&["--timeout", "0s"], &["--timeout", "longer than zero"]),
        (&["--attempt-timeout", "250"], &["--attempt-timeout", "250ms"]),
        (&["--checkpoint-interval", "0ms"], &["--checkpoint-interval"]),
        (&["--crash-after", "0"], &["--crash-after"]),
        (&["--order", "random"], &["--order", "ordered", "unordered"]),
        (&["--service", "https://example.org/{code}"], &["--service", "http only"]),
        (&["--service", "http://127.0.0.1/"], &["--service", "{code}"]),
        (&["--service", "{code}"], &["--service", "http://"]),
        (&["--sequential", "--capacity", "5"], &["--sequential", "--capacity"]),
        (&["--unknown"], &["--unknown"]),
    ];
    for (options, words) in cases {
        job.refuses(options, words);
        assert!(!job.path("output").exists());
    }
}

#[test]
fn unusable_files_are_refused() {
    let job = Job::new(flights(3));
    let name = |name: &str| job.path(name).to_str().unwrap().to_owned();
    fs::create_dir(job.path("folder")).unwrap();
    fs::write(job.path("file"), "somebody's").unwrap();

    job.refuses(&["--input", &name("missing")], &["missing", "--input"]);
    job.refuses(&["--input", &name("folder")], &["folder", "--input"]);
    job.refuses(&["--output", &name("nowhere/output")], &["nowhere/output", "--output"]);
    job.refuses(&["--output", &name("folder")], &["folder", "--output"]);
    job.refuses(&["--output", &name("input")], &["input", "--output"]);
    job.refuses(&["--output", &name("file")], &["file", "--fresh", "--output"]);
    job.refuses(&["--checkpoint-dir", &name("file")], &["file", "--checkpoint-dir"]);
    assert_eq!(fs::read_to_string(job.path("file")).unwrap(), "somebody's");

    // None of these files prevents the job itself.
    job.finish();
    job.assert_complete(&flights(3));
    job.refuses(&["--summary", &name("nowhere/summary")], &["nowhere/summary", "--summary"]);
}

#[test]
fn one_file_in_two_places_is_refused() {
    let job = Job::new(flights(3));
    let name = |name: &str| job.path(name).to_str().unwrap().to_owned();
    let summary = |file: &str, words: &[&str]| {
        job.refuses(&["--summary", &name(file)], &[words, &["--summary"]].concat());
    };
    summary("input", &["/input is the input"]);
    summary("output", &["/output is the output"]);
    summary("output.rejected.ndjson", &["is the file of rejected lines"]);
    #[cfg(unix)]
    {
        fs::hard_link(job.path("input"), job.path("link")).unwrap();
        summary("link", &["/link is the input"]);
        job.refuses(&["--fresh", "--output", &name("link")], &["/link is the input", "--output"]);
    }

    // The refusal comes before the work, not after it.
    summary("nowhere/summary", &["nowhere/summary"]);
    assert_eq!(fs::read_to_string(job.path("input")).unwrap(), flights(3));
    assert!(!job.path("output").exists() && !job.path("output.rejected.ndjson").exists());
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(job.path("output"), job.path("to-come")).unwrap();
        summary("to-come", &["/to-come is the output"]);
        assert!(job.path("to-come").is_symlink());
    }
    job.finish();
    summary("output", &["/output is the output"]);
    job.assert_complete(&flights(3));
}

#[test]
fn a_checkpoint_of_another_job_is_refused() {
    let job = Job::new(flights(600));
    job.run(&["--crash-after", "300"]);
    let (output, traces) = (job.output(), job.traces());
    fs::write(job.path("other"), flights(500)).unwrap();
    let other = job.path("other").to_str().unwrap().to_owned();

    job.refuses(&["--order", "unordered"], &["--order: was ordered, is unordered", "--fresh"]);
    job.refuses(&["--timeout", "7s"], &["--timeout: was 1m, is 7s"]);
    job.refuses(&["--retries", "3"], &["--retries: was 20, is 3"]);
    job.refuses(&["--seed", "7"], &["--seed: was 2001, is 7"]);
    job.refuses(&["--service", "http://127.0.0.1:1/{code}"], &["--service: was not given"]);
    job.refuses(
        &["--input", &other],
        &["--input: was", "/input, is", "/other", "length of --input"],
    );
    job.refuses(&["--output", &other], &["--output: was", "/output, is", "/other"]);
    assert_eq!((job.output(), job.traces()), (output, traces));

    // These options may change.
    let said = job.run(&["--sequential", "--checkpoint-interval", "1s"]);
    assert!(said.status.success(), "{said:#?}");
    job.assert_complete(&flights(600));
}

#[test]
fn another_input_under_the_same_name_is_refused() {
    let job = Job::new(flights(600));
    job.run(&["--crash-after", "300"]);
    fs::write(job.path("input"), flights(600).replacen("HNL", "LAX", 1)).unwrap();
    job.refuses(&[], &["beginning of --input: was checksum", "--fresh"]);
    fs::write(job.path("input"), flights(601)).unwrap();
    job.refuses(&[], &["length of --input: was", "--fresh"]);
    fs::write(job.path("input"), flights(600)).unwrap();
    job.finish();
    job.assert_complete(&flights(600));
}

#[test]
fn an_input_that_has_changed_far_behind_its_beginning_is_refused() {
    let padding = format!("{}\n", "-".repeat(70_000));
    let job = Job::new(padding.clone() + &flights(600));
    job.run(&["--crash-after", "300"]);
    let output = job.output();
    fs::write(job.path("input"), padding.clone() + &flights(600).replacen("HNL", "LAX", 1))
        .unwrap();
    job.refuses(&[], &["/input has changed", "--fresh"]);
    assert_eq!(job.output(), output);

    fs::write(job.path("input"), padding + &flights(600)).unwrap();
    job.finish();
    assert_eq!(job.rejected().len(), 1);
    assert_eq!(job.rejected()[0]["line_length"], 70_000);
    assert_eq!(job.flights(), enriched(&flights(600)));
}

#[test]
fn an_output_that_has_shrunk_is_refused() {
    let job = Job::new(flights(600));
    job.run(&["--crash-after", "300"]);
    let output = job.output();
    fs::remove_file(job.path("output")).unwrap();
    job.refuses(&[], &["output", "--fresh"]);
    assert!(!job.path("output").exists());
    fs::write(job.path("output"), &output).unwrap();
    job.finish();
    job.assert_complete(&flights(600));

    fs::write(job.path("output"), "").unwrap();
    job.refuses(&[], &["output", "--fresh"]);
}

#[test]
fn two_runs_at_once_are_refused() {
    let job = Job::new(flights(1500)).with(&["--latency", "20ms", "--capacity", "10"]);
    let mut first = job.start(&[]);
    assert!(first.wait_until(|| job.traces().0 > 0));
    job.refuses(&[], &["checkpoints", "another", "--checkpoint-dir"]);
    // Nor may another job have the output, not even to start over.
    let elsewhere = job.path("elsewhere");
    let another = ["--fresh", "--checkpoint-dir", elsewhere.to_str().unwrap()];
    job.refuses(&another, &["output", "another job has"]);
    assert!(first.said().status.success());
    job.assert_complete(&flights(1500));
}

// K10: a run whose files are changed under it does not report success.
#[test]
fn a_run_whose_files_are_changed_reports_it() {
    let cut = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(9).unwrap();
    let delete = |path: &Path| fs::remove_file(path).unwrap();
    let changes: [(&str, &dyn Fn(&Path), &str); 3] = [
        ("output", &cut, "it was cut"),
        ("output", &delete, "deleted"),
        ("input", &cut, "was cut while it was read"),
    ];
    for (name, change, said) in changes {
        // More than the source reads ahead.
        let input = flights(5000);
        let job = Job::new(input).with(&["--latency", "5ms", "--capacity", "10"]);
        let mut run = job.start(&[]);
        let written = || fs::metadata(job.path("output")).is_ok_and(|data| data.len() > 9);
        assert!(run.wait_until(written));
        change(&job.path(name));
        let run = run.said();
        assert_eq!(run.status.code(), Some(2), "{run:#?}");
        assert!(run.stderr.contains(said) && run.stderr.contains(name), "{run:#?}");
    }
}
