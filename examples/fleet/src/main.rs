//! Workers that share the partitions of a log on NATS JetStream.
fn main() {}
