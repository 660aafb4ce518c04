//! inflight
