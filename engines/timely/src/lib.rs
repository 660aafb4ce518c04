//! `async_wait` as an operator of timely dataflow.
#![forbid(unsafe_code)]

mod activation;
mod event_time;
mod operator;
mod records;
mod throttle;

pub use event_time::EventTime;
pub use operator::AsyncWaitOperator;
pub use records::Records;
pub use throttle::Throttle;
