//! Ids of attempts that no operator under test has started.

use std::sync::OnceLock;

use inflight_core::{AsyncWait, AttemptId, FixedDelay, Instant, StreamElement};

/// They come from several attempts of an operator of another size.
pub(crate) fn names() -> &'static [AttemptId] {
    static NAMES: OnceLock<Vec<AttemptId>> = OnceLock::new();
    NAMES.get_or_init(|| {
        let policy = AsyncWait::unordered(32).retry(FixedDelay::new(core::time::Duration::ZERO));
        let mut operator = policy.build_core::<u32, u32, ()>().expect("the settings make sense");
        for number in 0..32 {
            operator.push(Instant::ZERO, StreamElement::value(number)).expect("there is room");
        }
        let mut names = Vec::new();
        for _ in 0..4 {
            let first = names.len();
            while let Some(call) = operator.poll_attempt(Instant::ZERO) {
                names.push(call.id);
            }
            for id in &names[first..] {
                let _ = operator.handle_completion(Instant::ZERO, *id, Err(().into()));
            }
            assert_eq!(operator.handle_deadline(Instant::ZERO), None);
        }
        names
    })
}
