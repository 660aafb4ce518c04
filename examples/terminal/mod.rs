//! Drawing on a terminal. The examples `enrich` and `gateway` compile this folder into themselves:
//!
//! * `ink`: coloured lines, cut to the width of the terminal.
//! * `cells`: a stage's window, a cell for each record.
//! * `numbers`: numbers as people read them.

pub mod cells;
pub mod ink;
pub mod numbers;
