//! The steps of a checkpoint, and where a crash after each of them leads.

use anyhow::{Result, ensure};

use super::crash::resumes_from_this;
use super::svg::{Anchor, Svg, WIDTH};

/// A step of a checkpoint, in the order in which the pipeline takes them.
struct Step {
    name: &'static str,
    /// Line by line: who does what.
    work: &'static [&'static str],
    /// What a new life does after a crash right after this step, line by line.
    after: &'static [&'static str],
}

/// In the words of `docs/checkpoints.md`. Where a new life resumes from comes from crashes of a pipeline.
const STEPS: [Step; 5] = [
    Step {
        name: "barrier",
        work: &["from the source", "to the sink"],
        after: &["output since then", "is undone, and", "written again"],
    },
    Step {
        name: "1 pre-commit",
        work: &["the sink makes", "its output safe"],
        after: &["that output is", "undone, and", "written again"],
    },
    Step {
        name: "2 save",
        work: &["the store saves", "the checkpoint"],
        after: &["the sink commits", "what the check-", "point describes"],
    },
    Step {
        name: "3 commit",
        work: &["the sink makes", "it final"],
        after: &["the sink commits", "again, which", "changes nothing"],
    },
    Step {
        name: "4 acknowledge",
        work: &["the source may", "forget records"],
        after: &["nothing is left", "to repeat"],
    },
];

const LEFT: f64 = 24.0;
const BOX: (f64, f64) = (120.0, 74.0);
const GAP: f64 = 18.0;
const TOP: f64 = 60.0;

pub(super) fn draw() -> Result<String> {
    let mut svg = Svg::new(
        318.0,
        "A checkpoint, step by step, and a crash after each step",
        "A barrier goes from the source to the sink; the sink pre-commits; the store saves the checkpoint; the sink commits; the source is told. \
         After a crash before the save has ended, the job resumes from the checkpoint before; after a later crash, from this checkpoint.",
    );
    for (number, step) in STEPS.iter().enumerate() {
        draw_step(&mut svg, number, step);
    }
    draw_halves(&mut svg, before()?);
    Ok(svg.finish())
}

/// The number of steps after which a new life resumes from the checkpoint before, as crashes of a pipeline show.
fn before() -> Result<usize> {
    let resumes = (0..STEPS.len()).map(resumes_from_this).collect::<Result<Vec<_>>>()?;
    ensure!(resumes.is_sorted(), "the save is the one step that decides: {resumes:?}");
    Ok(resumes.iter().filter(|is_this| !**is_this).count())
}

fn draw_step(svg: &mut Svg, number: usize, step: &Step) {
    let left = LEFT + number as f64 * (BOX.0 + GAP);
    svg.rect("running tint", (left, TOP), BOX, 6.0);
    let centre = left + BOX.0 / 2.0;
    svg.text("bold", Anchor::Middle, (centre, TOP + 22.0), step.name);
    svg.lines("small", Anchor::Middle, (centre, TOP + 43.0), step.work);
    let middle = TOP + BOX.1 / 2.0;
    if number + 1 < STEPS.len() {
        svg.arrow((left + BOX.0 + 2.0, middle), (left + BOX.0 + GAP - 2.0, middle));
    }
    // The crash is after the step, so its way down begins at the step's right edge.
    let crash = left + BOX.0 - 8.0;
    svg.line("axis", &[(crash, TOP + BOX.1), (crash, 158.0)]);
    svg.line("failed line", &[(crash - 5.0, 159.0), (crash + 5.0, 169.0)]);
    svg.line("failed line", &[(crash - 5.0, 169.0), (crash + 5.0, 159.0)]);
    svg.text("small", Anchor::End, (crash - 12.0, 168.0), "crash here");
    svg.arrow((crash, 170.0), (crash, 192.0));
    svg.lines("small", Anchor::Start, (left + 6.0, 252.0), step.after);
}

/// The two checkpoints from which a job resumes.
fn draw_halves(svg: &mut Svg, before: usize) {
    let split = LEFT + before as f64 * (BOX.0 + GAP) - GAP / 2.0;
    let halves = [
        ("backoff tint", LEFT, split - 4.0, "back to the checkpoint before"),
        ("done tint", split + 4.0, WIDTH - LEFT, "on from this checkpoint"),
    ];
    for (class, left, right, text) in halves {
        svg.rect(class, (left, 196.0), (right - left, 32.0), 6.0);
        svg.text("bold", Anchor::Middle, ((left + right) / 2.0, 217.0), text);
    }
}
