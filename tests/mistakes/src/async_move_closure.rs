use futures::stream;
use inflight::prelude::*;

use crate::Client;

fn look_up(client: Client) {
    let policy = AsyncWait::ordered(4);
    let ask = stream::iter(1..9).async_wait(policy, async move |id| client.get(*id).await);
}
