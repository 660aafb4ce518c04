//! A Kinesis that refuses, on a clock that the tests set: what the emulator never does.

mod ends;
mod fake;
mod shards;
