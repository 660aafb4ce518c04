//! Mistakes of the first hour: the compiler's first error is at the mistake, and says the mend. The mistakes are modules of the
//! package in `tests/mistakes`; one call of cargo compiles them all.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// Each mistake, a part of the line at which the first error is, and a part of what this error says.
const MISTAKES: [(&str, &str, &str); 9] = [
    ("async_closure", "async |id", "`|x| { let x = x.clone(); async move { .. } }`"),
    ("async_move_closure", "async move |id", "`|x| { let x = x.clone(); async move { .. } }`"),
    ("async_move_owned", "async move |id", "let client = client.clone(); async move { .. } }`"),
    ("in_place_unpinned", "stage.next()", "box the source, `Box::pin(source).async_wait(..)`"),
    ("retry_twice", ".retry(NoRetry)", "has a retry strategy already: say `.retry(..)` once"),
    ("stage_in_struct", "stage: Stage<u64", "is `TokioStage<Input, Output, Error>`"),
    ("unstarted_collect", "stage.filter(", "start it with `.spawn(Tokio)?` or `.in_place(Tokio)?`"),
    ("unstarted_next", "stage.next()", "say `.spawn(Tokio)?` or `.in_place(Tokio)?` first"),
    ("unstarted_next_alone", "stage.next()", "say `.spawn(Tokio)?` or `.in_place(Tokio)?` first"),
];

/// An error of the compiler.
struct CompileError {
    /// The first line of the program that it points at.
    line: String,
    /// All that the compiler prints.
    text: String,
}

#[test]
fn the_first_error_is_at_the_mistake_and_says_the_mend() {
    let errors = first_errors();
    for (mistake, line, mend) in MISTAKES {
        let error = errors.get(mistake).unwrap_or_else(|| panic!("{mistake} has no error"));
        let text = &error.text;
        assert!(error.line.contains(line), "{mistake}: not at \"{line}\":\n{text}");
        assert!(text.contains(mend), "{mistake}: the mend is missing:\n{text}");
    }
    assert_eq!(errors.len(), MISTAKES.len(), "each mistake is in the list above");
}

/// The first error in each module of the package.
fn first_errors() -> BTreeMap<String, CompileError> {
    let check = ["check", "--quiet", "--offline", "--locked", "--package", "inflight-mistakes"];
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(check)
        .args(["--features", "mistakes", "--message-format", "json"])
        .output()
        .expect("cargo runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let mut errors = BTreeMap::new();
    for message in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let Some((module, error)) = error(&message["message"]) {
            errors.entry(module).or_insert(error);
        }
    }
    assert!(!errors.is_empty(), "no errors: {}", String::from_utf8_lossy(&output.stderr));
    errors
}

/// The module of an error, and the error; `None` for other messages.
fn error(message: &Value) -> Option<(String, CompileError)> {
    if message["level"] != "error" {
        return None;
    }
    let spans = message["spans"].as_array()?;
    let span = spans.iter().find(|span| span["is_primary"] == true)?;
    let module = Path::new(span["file_name"].as_str()?).file_stem()?.to_str()?.to_owned();
    let line = span["text"][0]["text"].as_str()?.to_owned();
    Some((module, CompileError { line, text: message["rendered"].as_str()?.to_owned() }))
}
