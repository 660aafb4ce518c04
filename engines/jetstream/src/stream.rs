//! The settings of a stream of outputs.

use async_nats::jetstream::stream::Config;

/// The settings that a stream of outputs and checkpoints needs, for `context.create_stream(..)`: batches (`allow_atomic`), checkpoints
/// that replace each other (`allow_rollup_hdrs`) and that no age deletes (`allow_msg_ttl`). Change the rest as you like, within the
/// [assumptions](crate#assumptions); a real one has three `num_replicas`.
///
/// ```
/// use std::time::Duration;
///
/// let config = async_nats::jetstream::stream::Config {
///     num_replicas: 3,
///     max_age: Duration::from_secs(7 * 24 * 60 * 60), // of outputs
///     ..inflight_jetstream::output_stream("squares", ["squares.>"])
/// };
/// assert!(config.allow_atomic_publish);
/// ```
pub fn output_stream(
    name: impl Into<String>,
    subjects: impl IntoIterator<Item = impl Into<String>>,
) -> Config {
    Config {
        name: name.into(),
        subjects: subjects.into_iter().map(Into::into).collect(),
        allow_atomic_publish: true,
        allow_rollup: true,
        allow_message_ttl: true,
        ..Config::default()
    }
}
