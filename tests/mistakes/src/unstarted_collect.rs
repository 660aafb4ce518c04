use futures::{StreamExt, stream};
use inflight::prelude::*;

async fn look_up() -> Vec<Outcome<u64, u64, ()>> {
    let policy = AsyncWait::ordered(4);
    let stage = stream::iter(1..9).async_wait_owned(policy, async |id: u64| Ok(id));
    stage.filter(|done| std::future::ready(done.result.is_ok())).collect().await
}
