//! What the program `hedge` promises of a service that is slow altogether.

use std::time::Duration;

use self::program::{RECORDS, longest_call};
use crate::clock::simulated;

#[path = "../../examples/hedge.rs"]
#[allow(dead_code, reason = "it is a program")]
mod program;

#[test]
fn a_service_that_is_slow_altogether_gets_few_requests_more() {
    simulated(async {
        let (longest, requests) = longest_call(|_, _| Some(60)).await.expect("a stage");
        assert!(longest >= Duration::from_millis(60), "{longest:?}");
        assert!(requests < RECORDS * 11 / 10 + 10, "{requests} requests");
    });
}
