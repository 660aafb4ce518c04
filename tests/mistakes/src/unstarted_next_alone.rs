use futures::stream;
use inflight::prelude::*;

async fn look_up() {
    let policy = AsyncWait::ordered(4);
    let mut stage = stream::iter(1..9).async_wait_owned(policy, async |id: u64| Ok::<_, ()>(id));
    while let Some(_done) = stage.next().await {}
}
