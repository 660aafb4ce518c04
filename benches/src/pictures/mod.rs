//! The pictures of the docs, drawn from runs of the library: `inflight-bench pictures`.
//!
//! Every one of them is the same each time, because the runs are in virtual time; only the costs come from a committed file.

mod commit;
mod cost;
mod crash;
mod orders;
mod rustdoc;
mod svg;
#[cfg(test)]
mod tests;
mod throughput;
mod trace;
mod window;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

/// Options of the pictures.
#[derive(Args, Debug)]
pub(crate) struct Options {
    /// The folder to draw into.
    #[arg(default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/pictures"))]
    folder: PathBuf,
}

/// A picture.
struct Picture {
    /// The name of its file, without an ending.
    name: &'static str,
    draw: fn() -> Result<String>,
}

const PICTURES: [Picture; 5] = [
    Picture { name: "orders", draw: orders::draw },
    Picture { name: "window", draw: window::draw },
    Picture { name: "commit", draw: commit::draw },
    Picture { name: "cost", draw: cost::draw },
    Picture { name: "throughput", draw: throughput::draw },
];

/// Draws all of them.
pub(crate) fn pictures(options: &Options) -> Result<()> {
    let rustdoc = options.folder.join("rustdoc");
    fs::create_dir_all(&rustdoc).with_context(|| format!("{}", rustdoc.display()))?;
    for Picture { name, draw } in PICTURES {
        let svg = draw().with_context(|| format!("the picture {name}"))?;
        fs::write(rustdoc.join(format!("{name}.md")), rustdoc::definition(name, &svg))?;
        fs::write(options.folder.join(format!("{name}.svg")), svg)?;
    }
    Ok(())
}
