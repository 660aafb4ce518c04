//! Tells the bench which compiler and which versions of its peers it was built with.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const NAMED: [&str; 7] = [
    "inflight",
    "tokio",
    "futures",
    "futures-buffered",
    "async-executor",
    "async-io",
    "atomic-waker",
];

fn main() {
    let rustc = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().map(|output| output.stdout);
    let version = String::from_utf8(version.unwrap_or_default()).unwrap_or_default();
    println!("cargo::rustc-env=BENCH_RUSTC={}", version.trim());

    let versions = find_lock().map(|lock| {
        println!("cargo::rerun-if-changed={}", lock.display());
        versions(&fs::read_to_string(lock).unwrap_or_default())
    });
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("versions.txt");
    fs::write(out, versions.unwrap_or_default()).expect("the build folder can be written");
}

/// The lock file is in this folder or in one above.
fn find_lock() -> Option<PathBuf> {
    let here = env::var_os("CARGO_MANIFEST_DIR")?;
    Path::new(&here).ancestors().map(|folder| folder.join("Cargo.lock")).find(|lock| lock.exists())
}

fn versions(lock: &str) -> String {
    let mut named = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        let name = line.strip_prefix("name = ").map(|name| name.trim_matches('"'));
        if let Some(name) = name.filter(|name| NAMED.contains(name)) {
            let version = lines.next().unwrap_or_default().trim_start_matches("version = ");
            named.push(format!("{name} {}", version.trim_matches('"')));
        }
    }
    named.join(", ")
}
