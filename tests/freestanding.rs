//! A sensor gateway runs without libc, std and an allocator: the test builds, links and runs a program that has none
//! of them, power cuts included. The controls show that each of them would be noticed.
//!
//! It needs the toolchain only, on x86-64 Linux.
#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// Builds the program with a feature ("" for none) and, if that works, runs it.
fn build_and_run(feature: &str) -> (Output, Option<Output>) {
    // One after the other: the builds share their sources and the path of the program.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = root.join("target/freestanding");
    let build = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--features", feature, "--target-dir"])
        .arg(&target)
        .current_dir(root.join("examples/firmware/freestanding"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .output()
        .expect("cargo runs");
    let program = target.join("x86_64-unknown-linux-gnu/release/freestanding");
    let run =
        build.status.success().then(|| Command::new(program).output().expect("the program starts"));
    (build, run)
}

#[track_caller]
fn assert_does_not_build(feature: &str, reason: &str) {
    let (build, run) = build_and_run(feature);
    assert!(run.is_none(), "with {feature} it should not even link");
    let said = String::from_utf8_lossy(&build.stderr);
    assert!(said.contains(reason), "it failed for another reason:\n{said}");
}

#[test]
fn a_gateway_runs_without_libc_std_and_allocator() {
    let (build, run) = build_and_run("");
    let run = run.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&build.stderr)));
    let said = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && said.ends_with("freestanding: PASS\n"), "{said}");
    // In both orders: a power cut while readings are under way, and one while a checkpoint is written.
    assert_eq!(said.matches("the power fails\n").count(), 2, "{said}");
    assert_eq!(said.matches("the power fails in the middle of a write\n").count(), 2, "{said}");
}

#[test]
fn control_a_wrong_value_is_noticed() {
    let (_, run) = build_and_run("wrong-value");
    let run = run.expect("it builds");
    assert_eq!(run.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&run.stdout).ends_with("freestanding: FAIL\n"));
}

#[test]
fn control_std_is_noticed() {
    assert_does_not_build("std-wanted", "panic_impl");
}

#[test]
fn control_an_allocator_is_noticed() {
    assert_does_not_build("allocator-wanted", "no global memory allocator found");
}
