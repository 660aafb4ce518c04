use futures::{StreamExt, stream};
use inflight::prelude::*;

use crate::Client;

async fn look_up() -> Result<(), StartError> {
    let ids = stream::unfold(0, |n| async move { (n < 9).then_some((n, n + 1)) });
    let mut stage =
        ids.async_wait_owned(AsyncWait::ordered(4), |id| Client.get(id)).in_place(Tokio)?;
    while let Some(_done) = stage.next().await {}
    Ok(())
}
