//! The state of something that the program depends on.

/// The state of a server, or of anything else that is either well or not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lamp {
    /// It works.
    Up,
    /// It does not, with a note that says why.
    Down(String),
    /// Nobody has tried yet.
    Unknown,
}
