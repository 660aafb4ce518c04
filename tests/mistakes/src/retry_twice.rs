use std::time::Duration;

use inflight::prelude::*;

fn policy() {
    let delay = FixedDelay::new(Duration::from_millis(5));
    let policy = AsyncWait::ordered(4).retry(delay).timeout(Duration::from_secs(1)).retry(NoRetry);
}
