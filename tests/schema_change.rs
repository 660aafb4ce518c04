//! The example `schema_change` checks itself with assertions.

#[path = "../examples/schema_change.rs"]
mod schema_change;

#[test] // K3, K7, K14
fn a_record_type_changes_between_two_versions() {
    schema_change::main();
}
