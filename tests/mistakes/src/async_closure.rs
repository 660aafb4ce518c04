use futures::stream;
use inflight::prelude::*;

use crate::Client;

async fn look_up(client: Client) -> Result<(), StartError> {
    let policy = AsyncWait::ordered(4);
    let ask = stream::iter(1..9).async_wait(policy, async |id: &u64| client.get(*id).await);
    let mut stage = ask.spawn(Tokio)?;
    while let Some(_done) = stage.next().await {}
    Ok(())
}
