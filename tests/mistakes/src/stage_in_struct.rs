use super::Busy;
use inflight::prelude::*;

struct Enricher {
    stage: Stage<u64, u64, Busy>,
}
