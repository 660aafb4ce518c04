//! Calls of the client that block, on tokio's threads for such calls.

use tokio::runtime::Handle;

use crate::error::KafkaJobError;

/// Makes a call on another thread. If the future is dropped, the call goes on.
pub(crate) async fn call<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, KafkaJobError> + Send + 'static,
) -> Result<T, KafkaJobError> {
    let runtime = Handle::try_current().map_err(|_| KafkaJobError::NoRuntime)?;
    runtime.spawn_blocking(call).await.map_err(|_| KafkaJobError::NoRuntime)?
}
