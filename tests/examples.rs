//! The examples, as processes: each checks itself.

use std::fs;
use std::path::Path;

#[allow(unreachable_pub)]
mod programs;

#[test]
fn every_example_checks_itself() {
    let mut names = programs::in_folder(&root().join("examples"));
    names.retain(|name| name != "enrich"); // it has a test of its own
    assert!(names.len() > 10, "the folder has more examples than {names:?}");
    programs::check(&names);
}

#[test]
fn the_first_program_of_the_readme_is_the_example_quickstart() {
    let readme = fs::read_to_string(root().join("README.md")).expect("it can be read");
    let first = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    let example =
        fs::read_to_string(root().join("examples/quickstart.rs")).expect("it can be read");
    assert_eq!(first, Some(&*example), "README.md, then examples/quickstart.rs");
    assert!(example.lines().count() <= 40, "it fits a screen");
}

#[test]
fn the_cookbook_names_every_program() {
    let cookbook =
        fs::read_to_string(root().join("docs/guide/cookbook.md")).expect("it can be read");
    for folder in ["examples", "examples/recipes/examples"] {
        for name in programs::in_folder(&root().join(folder)) {
            let path = format!("{folder}/{name}");
            assert!(cookbook.contains(&path), "docs/guide/cookbook.md does not name {path}");
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
