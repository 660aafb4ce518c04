//! The rules of a job over partitions, one by one, on a paused clock, with an engine that says what the test tells it to.

mod engine;
mod handing_over;
mod restarts;
mod seen;
mod worker;
