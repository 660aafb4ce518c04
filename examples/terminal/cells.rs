//! A stage's window as a line: a cell for each record, or for several of them.

use inflight::{CellState, Metrics, Window};

use super::ink::{Ink, Line};
use super::numbers::{seconds, thousands};

/// The records in flight.
#[derive(Clone, Debug, Default)]
pub struct Cells {
    /// Oldest first.
    pub states: Vec<CellState>,
    /// The number of younger ones, whose state is not known.
    pub omitted: u64,
}

impl Cells {
    /// The window between brackets, the oldest record on the left; free places are blank. The line is never longer than `width`,
    /// if that is three or more. If there are more places than columns, a cell stands for several records, and shows the state that
    /// most needs attention.
    pub fn line(&self, stage: &Metrics, width: usize) -> Line {
        let each = self.records_a_cell(stage, width);
        let worst = |chunk: &[CellState]| chunk.iter().copied().max_by_key(|state| urgency(*state));
        let states: Vec<_> = self.states.chunks(each).filter_map(worst).collect();
        let mut line = Line::inked(Ink::Grey, "[");
        for run in states.chunk_by(|one, other| one == other) {
            let (ink, glyph) = look(run[0]);
            line = line.then(ink, glyph.repeat(run.len()));
        }
        let free = self.places(stage).div_ceil(each) - states.len();
        line.then(None, " ".repeat(free)).then(Ink::Grey, "]")
    }

    /// The age of the oldest record, the scale of the cells (if they need one), and the number of records without a cell.
    pub fn notes(&self, stage: &Metrics, width: usize) -> Vec<Line> {
        let each = self.records_a_cell(stage, width);
        // The age is published less often than the count.
        let oldest = stage.oldest.filter(|_| stage.in_flight > 0);
        let oldest = oldest.map(|age| format!("oldest {}", seconds(age)));
        let scale = (each > 1).then(|| format!("1 cell = {each} records"));
        let omitted = thousands(self.omitted);
        let omitted = (self.omitted > 0).then(|| format!("{omitted} younger not shown"));
        [oldest, scale, omitted].into_iter().flatten().map(Line::new).collect()
    }

    fn records_a_cell(&self, stage: &Metrics, width: usize) -> usize {
        let brackets = 2;
        self.places(stage).div_ceil(width.saturating_sub(brackets).max(1)).max(1)
    }

    /// Places that can never have a cell would only be blanks.
    fn places(&self, stage: &Metrics) -> usize {
        let capacity = usize::try_from(stage.capacity).unwrap_or(usize::MAX);
        self.states.len().max(capacity.min(Window::CELLS))
    }
}

impl From<Window> for Cells {
    fn from(window: Window) -> Self {
        let states = window.cells.iter().map(|cell| cell.state).collect();
        Self { states, omitted: window.omitted() }
    }
}

/// What the cells mean, with the number of records in each state.
pub fn legend(stage: &Metrics) -> [Line; 4] {
    let item = |state, count, name| {
        let (ink, glyph) = look(state);
        Line::inked(ink, glyph).then(None, format!(" {} {name}", thousands(count)))
    };
    [
        item(CellState::Running, stage.running, "running"),
        item(CellState::Backoff, stage.in_backoff, "in backoff"),
        item(CellState::Waiting, stage.waiting(), "waiting"),
        item(CellState::Done, stage.done, "done"),
    ]
}

/// The order in which states win a cell.
fn urgency(state: CellState) -> u8 {
    match state {
        CellState::Done => 0,
        CellState::Waiting => 1,
        CellState::Running => 2,
        CellState::Backoff => 3,
    }
}

/// The colour of a state, and its shape, which tells it apart without colour.
fn look(state: CellState) -> (Ink, &'static str) {
    match state {
        CellState::Waiting => (Ink::Grey, "·"),
        CellState::Running => (Ink::Blue, "█"),
        CellState::Backoff => (Ink::Orange, "▒"),
        CellState::Done => (Ink::Green, "▪"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::ink::Palette;
    use super::CellState::{Backoff, Done, Running, Waiting};
    use super::*;

    fn stage(capacity: u64) -> Metrics {
        let mut stage = Metrics::default();
        stage.capacity = capacity;
        stage
    }

    fn line(states: &[CellState], capacity: u64, width: usize) -> Line {
        Cells { states: states.to_vec(), omitted: 0 }.line(&stage(capacity), width)
    }

    fn drawn(states: &[CellState], capacity: u64, width: usize) -> String {
        line(states, capacity, width).draw(width, Palette::None)
    }

    #[test]
    fn a_record_has_a_cell_where_there_is_room() {
        let states = [Running, Backoff, Done, Done, Waiting];
        assert_eq!(drawn(&states, 8, 10), "[█▒▪▪·   ]");
        let coloured = line(&states[..2], 2, 10).draw(10, Palette::Many);
        assert!(coloured.contains("\x1b[94m█\x1b[0m\x1b[38;5;208m▒\x1b[0m"), "{coloured:?}");
        assert_eq!(drawn(&[], 0, 10), "[]");
    }

    // M2: nobody overlooks a record because its neighbours are well.
    #[test]
    fn in_a_cell_of_several_records_the_worst_state_wins() {
        let mut states = vec![Done; 100];
        (states[15], states[24], states[33], states[39]) = (Backoff, Waiting, Running, Waiting);
        (states[10], states[29]) = (Running, Waiting);
        assert_eq!(drawn(&states, 100, 12), "[▪▒·█▪▪▪▪▪▪]");
    }

    #[test]
    fn the_line_is_never_wider_than_the_terminal() {
        for count in [1, 2, 77, 78, 79, 1000, 1024] {
            for capacity in [1, 78, 79, 10_000] {
                for width in [3, 4, 40, 80, 200] {
                    let line = line(&vec![Running; count], capacity, width);
                    assert!(line.width() <= width, "{count} of {capacity} in {width}");
                }
            }
        }
    }

    #[test]
    fn the_notes_say_what_the_cells_do_not_show() {
        let mut stage = stage(10_000);
        (stage.in_flight, stage.oldest) = (10_000, Some(Duration::from_millis(2_100)));
        let cells = Cells { states: vec![Running; 1024], omitted: 8_976 };
        let notes = cells.notes(&stage, 80).into_iter();
        let said: Vec<_> = notes.map(|note| note.draw(80, Palette::None)).collect();
        assert_eq!(said, ["oldest 2.1 s", "1 cell = 14 records", "8,976 younger not shown"]);
        stage.in_flight = 0;
        assert!(Cells::default().notes(&stage, 1_200).is_empty());
    }
}
