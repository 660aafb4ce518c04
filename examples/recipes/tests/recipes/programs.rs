//! The programs in `examples/`, as processes.

use std::path::Path;

#[path = "../../../../tests/programs/mod.rs"]
mod programs;

#[test]
fn every_program_checks_itself() {
    let names = programs::in_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples"));
    assert!(names.len() >= 5, "the folder has more programs than {names:?}");
    programs::check(&names);
}
