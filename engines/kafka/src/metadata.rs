//! A checkpoint as the metadata of a committed offset: `inflight1 ID BASE64`, the id in 16 hexadecimal digits.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use inflight_core::pipeline;
use inflight_core::{Checkpoint, CheckpointId, Loaded};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use crate::error::KafkaJobError;

const FORMAT: &str = "inflight1";

/// An offset to be committed, with the checkpoint in its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: CheckpointId,
    /// The offset of the next record, for programs that watch the group: a pipeline reads the checkpoint.
    offset: i64,
    metadata: String,
}

impl Commit {
    pub(crate) fn new(
        id: CheckpointId,
        checkpoint: &[u8],
        limit: usize,
    ) -> Result<Self, KafkaJobError> {
        let metadata = format!("{FORMAT} {:016x} {}", id.0, STANDARD_NO_PAD.encode(checkpoint));
        if metadata.len() > limit {
            return Err(KafkaJobError::CheckpointTooLarge { len: metadata.len(), limit });
        }
        // Another source may have another kind of position.
        let position = Checkpoint::from_bytes(checkpoint)
            .ok()
            .and_then(|checkpoint| pipeline::position::<u64>(&checkpoint));
        let offset = position.and_then(|position| i64::try_from(position).ok()).unwrap_or(0);
        Ok(Self { id, offset, metadata })
    }

    pub(crate) fn list(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<TopicPartitionList, KafkaJobError> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(self.offset))?;
        element.set_metadata(&self.metadata);
        Ok(list)
    }
}

/// The checkpoint in a committed offset; `None` if none is committed.
pub(crate) fn read(element: &TopicPartitionListElem<'_>) -> Result<Option<Loaded>, KafkaJobError> {
    element.error()?;
    match element.offset() {
        Offset::Offset(offset) => {
            let foreign =
                || KafkaJobError::ForeignOffset { partition: element.partition(), offset };
            parse(element.metadata()).ok_or_else(foreign).map(Some)
        }
        _ => Ok(None),
    }
}

fn parse(metadata: &str) -> Option<Loaded> {
    let (id, bytes) = metadata.strip_prefix(FORMAT)?.strip_prefix(' ')?.split_once(' ')?;
    let (id, bytes) = (u64::from_str_radix(id, 16).ok()?, STANDARD_NO_PAD.decode(bytes).ok()?);
    Some(Loaded { id: CheckpointId(id), bytes, damaged: 0 })
}
