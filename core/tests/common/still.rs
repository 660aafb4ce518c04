//! A runtime whose time stands still: no deadline ever comes.

use std::pin::Pin;
use std::task::{Context, Poll};

use inflight_core::{Instant, NoRuntime, Runtime, Timer};

#[derive(Clone, Copy)]
pub(crate) struct Still;

impl Runtime for Still {
    type Timer = Self;

    fn timer(&self) -> Result<Self, NoRuntime> {
        Ok(Self)
    }
}

impl Timer for Still {
    fn now(&self) -> Instant {
        Instant::ZERO
    }

    fn arm(self: Pin<&mut Self>, _: Option<Instant>) {}

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
