//! Each rule of the contract is named by a source file that carries it and by a test that checks it, and nobody names a rule
//! that does not exist.
//!
//! A comment names a rule by its letter and number, as a word of its own: `// T4`, `/// (L5, T6)`, `// O1-O4: ...`. A word in
//! backticks names none. Test modules inside source files, and the conformance suite, count as tests.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn each_rule_is_named_by_a_source_file_and_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = fs::read_to_string(root.join("docs/contract.md")).expect("it can be read");
    let rules = rules_of(&contract);
    assert!(rules.len() > 50, "the contract has more rules than these: {rules:?}");

    let letters = rules.iter().map(|rule| rule.0).collect();
    let mut named = Named::default();
    for file in rust_files(root) {
        let text = fs::read_to_string(&file).expect("it can be read");
        named.by_file(file.strip_prefix(root).expect("it is inside"), &text, &letters);
    }

    let mut wrong = Vec::new();
    for rule in &rules {
        for (kind, files) in [("source file", &named.in_sources), ("test", &named.in_tests)] {
            if !files.contains_key(rule) {
                wrong.push(format!("no {kind} names {}{}", rule.0, rule.1));
            }
        }
    }
    for (rule, file) in named.in_sources.iter().chain(&named.in_tests) {
        if !rules.contains(rule) {
            wrong.push(format!(
                "{} names {}{}, and there is no such rule",
                file.display(),
                rule.0,
                rule.1
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A letter and a number.
type Rule = (char, u32);

/// The rules that stand in the contract: `**T4**` at the beginning of an item.
fn rules_of(contract: &str) -> BTreeSet<Rule> {
    let items = contract.lines().filter_map(|line| line.strip_prefix("- **"));
    items.filter_map(|item| rule(item.split("**").next()?)).collect()
}

fn rule(word: &str) -> Option<Rule> {
    let letter = word.chars().next().filter(char::is_ascii_uppercase)?;
    let number = &word[1..];
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| number.parse().ok()).flatten().map(|number| (letter, number))
}

/// Rules, each with a file that names it.
#[derive(Default)]
struct Named {
    in_sources: BTreeMap<Rule, PathBuf>,
    in_tests: BTreeMap<Rule, PathBuf>,
}

impl Named {
    fn by_file(&mut self, file: &Path, text: &str, letters: &BTreeSet<char>) {
        let is_test = is_test(file);
        let (source, tests) = match is_test {
            true => ("", text),
            false => text.split_at(
                text.find("#[cfg(test)]\nmod")
                    .or(text.find("#[cfg(all(test"))
                    .unwrap_or(text.len()),
            ),
        };
        for (named, part) in [(&mut self.in_sources, source), (&mut self.in_tests, tests)] {
            for rule in rules_named(part).filter(|rule| letters.contains(&rule.0)) {
                named.entry(rule).or_insert_with(|| file.to_owned());
            }
        }
    }
}

fn is_test(file: &Path) -> bool {
    let parts: Vec<_> = file.iter().filter_map(|part| part.to_str()).collect();
    let suites = ["tests", "conformance", "pipeline-conformance", "crashes"];
    let is_suite = parts.iter().any(|part| suites.contains(part));
    is_suite || parts.last().is_some_and(|name| name.ends_with("tests.rs"))
}

/// The rules that comments name: alone, in a list, or as a range.
fn rules_named(text: &str) -> impl Iterator<Item = Rule> {
    let comments = text.lines().filter_map(|line| Some(line.split_once("//")?.1));
    comments.flat_map(|comment| {
        // What stands between backticks is code.
        let prose: Vec<_> = comment.split('`').step_by(2).collect();
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let words = prose.iter().flat_map(|prose| prose.split(|c| !is_part(c)));
        words.flat_map(named_by_word).collect::<Vec<_>>()
    })
}

fn named_by_word(word: &str) -> Vec<Rule> {
    let Some((first, last)) = word.split_once('-') else { return rule(word).into_iter().collect() };
    match (rule(first), rule(last)) {
        (Some(first), Some(last)) if first.0 == last.0 => {
            (first.1..=last.1).map(|number| (first.0, number)).collect()
        }
        _ => Vec::new(),
    }
}

/// All Rust files of the workspace.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("it can be read") {
        let path = entry.expect("it can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

// The negative controls of the test above.

#[test]
fn words_that_name_rules_are_told_from_others() {
    let named = |text: &str| rules_named(text).collect::<Vec<_>>();
    assert_eq!(named("#[test] // T4"), [('T', 4)]);
    assert_eq!(named("/// Bounded (L5, T6): more."), [('L', 5), ('T', 6)]);
    assert_eq!(named("// O1-O3, K10"), [('O', 1), ('O', 2), ('O', 3), ('K', 10)]);
    assert_eq!(named("// `F14`, T4a, MT4, T456, UTF-8, x86"), []);
    assert_eq!(named("let t = \"(T4)\";"), [], "no comment");
}

#[test]
fn a_source_file_is_told_from_its_tests() {
    let mut named = Named::default();
    let letters = BTreeSet::from(['T', 'L']);
    let text =
        "/// T4\nfn f() {}\n#[cfg(test)]\nmod tests {\n    #[test] // L5\n    fn g() {}\n}\n";
    named.by_file(Path::new("core/src/time.rs"), text, &letters);
    named.by_file(Path::new("core/tests/time.rs"), "// T8\n// K1 is no rule here", &letters);
    assert!(named.in_sources.into_keys().eq([('T', 4)]));
    assert!(named.in_tests.into_keys().eq([('L', 5), ('T', 8)]));
    assert_eq!(rules_of("- **T4** A call\n- T5 no\ntext **T6**"), BTreeSet::from([('T', 4)]));
}
