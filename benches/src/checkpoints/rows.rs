//! The rows of `checkpoints --json`: one object a line. A figure that cannot be measured has no row.

use anyhow::Result;
use serde::Serialize;

use super::bytes::Mode;
use super::job::{Keeps, Stages};
use super::{barrier_full, bytes, costs, peak, slow_store};

/// Measures all cases and prints the row of each when it is done.
pub(super) fn print(samples: usize) -> Result<()> {
    for keeps in [Keeps::Records, Keeps::Positions] {
        for stages in [Stages::InPlace, Stages::OnTask, Stages::Chain] {
            row(barrier_full::measure(stages, keeps)?)?;
        }
    }
    for stages in [Stages::OnTask, Stages::InPlace] {
        row(slow_store::measure(stages)?)?;
    }
    for stages in [Stages::OnTask, Stages::InPlace] {
        row(peak::measure(stages)?)?;
    }
    for mode in Mode::ALL {
        row(bytes::measure(mode)?)?;
    }
    let (snapshot, restore) = costs::measure(samples)?;
    row(snapshot)?;
    row(restore)
}

fn row(figures: impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

/// A figure with two decimals.
pub(super) fn rounded(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}
