//! The programs in `examples/`, as processes.

use std::path::Path;

#[path = "../../../../tests/programs/mod.rs"]
mod processes;

#[test]
fn every_program_checks_itself() {
    let names = processes::in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    assert!(names.len() >= 5, "the folder has more programs than {names:?}");
    processes::check(&names);
}
