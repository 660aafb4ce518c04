use std::error::Error;
use std::fmt;

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode};

/// The error of a function that makes messages of outputs. Each error becomes one by `?`.
#[derive(Debug)]
pub struct WriteError(Box<dyn Error + Send + Sync>);

impl WriteError {
    /// Makes one from an error or from a text.
    pub fn new(reason: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(reason.into())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for WriteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The reason why a call of this crate failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum KafkaJobError {
    /// Another owner has claimed the partition since, or the broker has given up this one's transaction, so this owner must stop. It
    /// can never commit again.
    Fenced {
        /// The `transactional.id` of the partition.
        id: String,
        /// The client's error.
        source: ClientError,
    },
    /// The producer has failed for ever, for another reason than the fence. The next claim makes another one.
    ProducerEnded(ClientError),
    /// A commit came before the claim.
    NotClaimed,
    /// A later call has taken the place of this one, whose future was dropped. Nothing of it has taken place.
    Superseded,
    /// The checkpoint is too long for the metadata of a committed offset. Checkpoints with positions only are short:
    /// `Pipeline::run_positions_only`.
    CheckpointTooLarge {
        /// The length of the metadata with this checkpoint, in bytes.
        len: usize,
        /// The longest one, as the job's settings say.
        limit: usize,
    },
    /// The group's committed offset was not written by a pipeline: another program commits in this group, or an offset was reset by
    /// hand. To begin anew, delete the offsets of the group, or take another group.
    ForeignOffset {
        /// The partition.
        partition: i32,
        /// The offset that is committed.
        offset: i64,
    },
    /// The log does not have the position any more, or not yet: its front was deleted before it was read, or the topic is another one.
    OutOfRange {
        /// The partition.
        partition: i32,
        /// The offset of the next record, from the checkpoint.
        position: u64,
        /// The offset of the first record that is there.
        low: u64,
        /// The offset behind the last record that is committed.
        high: u64,
    },
    /// Another source of this process reads the partition.
    Busy {
        /// The partition.
        partition: i32,
    },
    /// The topic has more partitions than request ids have numbers for: 1,024.
    TooManyPartitions {
        /// The partition whose number is too high.
        partition: i32,
    },
    /// The function that makes messages of the outputs failed; the [`source`](Error::source). Nothing of this commit has taken place.
    Write(WriteError),
    /// The call was made outside of a tokio runtime, or that has shut down.
    NoRuntime,
    /// The client's thread has ended.
    ThreadEnded,
    /// The thread of the client could not be started.
    Thread(std::io::Error),
    /// The client returned an error; the [`source`](Error::source).
    Client(ClientError),
}

impl KafkaJobError {
    /// Sorts an error of a producer: is it the fence, or the end of the producer, or may it pass?
    pub(crate) fn of_producer(error: ClientError, id: &str) -> Self {
        let told = match &error {
            ClientError::Transaction(told) if told.is_fatal() => told,
            _ => return Self::Client(error),
        };
        match told.code() {
            RDKafkaErrorCode::Fenced
            | RDKafkaErrorCode::ProducerFenced
            | RDKafkaErrorCode::InvalidProducerEpoch => {
                Self::Fenced { id: id.to_owned(), source: error }
            }
            _ => Self::ProducerEnded(error),
        }
    }

    /// The producer never commits again.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Fenced { .. } | Self::ProducerEnded(_))
    }
}

impl fmt::Display for KafkaJobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fenced { id, .. } => write!(f, "{id} has a newer owner: stop this one"),
            Self::ProducerEnded(_) => f.write_str("the producer has failed for ever: claim again"),
            Self::NotClaimed => f.write_str("the partition was not claimed"),
            Self::Superseded => f.write_str("a later call has taken the place of this one"),
            Self::CheckpointTooLarge { len, limit } => write!(
                f,
                "the checkpoint would be {len} bytes of an offset's metadata, which takes {limit}: keep positions only"
            ),
            Self::ForeignOffset { partition, offset } => write!(
                f,
                "the offset {offset} of partition {partition} was not committed by a pipeline: delete it, or take another group"
            ),
            Self::OutOfRange { partition, position, low, high } => write!(
                f,
                "partition {partition} has no offset {position}: it has those from {low} to {high}"
            ),
            Self::Busy { partition } => {
                write!(f, "another source of this process reads partition {partition}")
            }
            Self::TooManyPartitions { partition } => {
                write!(f, "partition {partition}: a job has at most 1,024 partitions")
            }
            Self::Write(_) => f.write_str("the outputs could not be made messages"),
            Self::NoRuntime => f.write_str("there is no tokio runtime"),
            Self::ThreadEnded => f.write_str("the thread of the Kafka client has ended"),
            Self::Thread(_) => f.write_str("the thread of the Kafka client could not be started"),
            Self::Client(_) => f.write_str("the Kafka client returned an error"),
        }
    }
}

impl Error for KafkaJobError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Fenced { source, .. } | Self::ProducerEnded(source) | Self::Client(source) => {
                Some(source)
            }
            Self::Write(source) => Some(&*source.0),
            Self::Thread(source) => Some(source),
            _ => None,
        }
    }
}

impl From<ClientError> for KafkaJobError {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}
