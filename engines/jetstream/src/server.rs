//! What a server must be able to do, and its answers.

use async_nats::Client;
use async_nats::connection::State;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::response::Response;
use async_nats::jetstream::stream::{Info, Stream};
use async_nats::jetstream::{Context, ErrorCode};
use serde::de::DeserializeOwned;

use crate::error::JetStreamError;

/// Refuses servers before 2.12, which ignore the headers and the settings of atomic batches without an error.
pub(crate) fn require_version(context: &Context) -> Result<(), JetStreamError> {
    let client = context.client();
    let Some(info) = client.try_server_info() else { return Err(JetStreamError::NotConnected) };
    match client.is_server_compatible(2, 12, 0) {
        true => Ok(()),
        false => Err(JetStreamError::TooOld { version: info.version }),
    }
}

/// Refuses to send anything while the connection is down: the client would keep it and send it later, when nobody waits for it any more.
pub(crate) fn require_connection(client: &Client) -> Result<(), JetStreamError> {
    match client.connection_state() {
        State::Connected => Ok(()),
        State::Pending | State::Disconnected => Err(JetStreamError::NotConnected),
    }
}

/// A handle of the stream, with its state and settings as they are now.
pub(crate) async fn stream(context: &Context, name: &str) -> Result<Stream<Info>, JetStreamError> {
    context.get_stream(name).await.map_err(|error| match error.kind() {
        GetStreamErrorKind::JetStream(error) => JetStreamError::Server(error),
        _ => JetStreamError::request(error),
    })
}

/// Reads an answer of JetStream's.
pub(crate) fn answer<T: DeserializeOwned>(payload: &[u8]) -> Result<T, JetStreamError> {
    match serde_json::from_slice(payload).map_err(JetStreamError::request)? {
        Response::Ok(answer) => Ok(answer),
        Response::Err { error } => Err(error.into()),
    }
}

/// Whether the error says that a comparison with the last sequence has failed, or cannot be made because another one is under way.
pub(crate) fn is_wrong_sequence(error: &JetStreamError) -> bool {
    let JetStreamError::Server(error) = error else { return false };
    let code = error.error_code();
    code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE
        || code == ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT
}
