use std::error::Error;
use std::fmt;

use async_nats::jetstream;

/// An error of the client.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The error of a function that makes messages of outputs. Each error becomes one by `?`.
// A type of its own, because the future of a job with a boxed error in the function's type cannot be spawned: the compiler finds
// the lifetime of the box too general.
#[derive(Debug)]
pub struct WriteError(BoxError);

impl WriteError {
    /// Makes one from an error or from a text.
    pub fn new(reason: impl Into<BoxError>) -> Self {
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

/// The reason why something of this crate failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum JetStreamError {
    /// The server is older than 2.12. It would ignore what makes a batch atomic, without an error.
    TooOld {
        /// The server's version.
        version: String,
    },
    /// There is no connection to the server, and nothing was sent. It passes.
    NotConnected,
    /// The settings of the stream, or of the bucket, would break a promise.
    Unsuitable {
        /// The stream's name.
        stream: String,
        /// The setting, and the reason.
        why: &'static str,
    },
    /// Another owner has claimed the checkpoint's subject since, so this owner must stop. It can never commit again.
    Fenced {
        /// The checkpoint's subject.
        subject: String,
    },
    /// A commit came before the claim.
    NotClaimed,
    /// A commit has more outputs than a batch can have. The pipeline ends at once, because the next commit would have more still; the next
    /// run begins at the last checkpoint.
    TooManyOutputs {
        /// The number of outputs.
        outputs: usize,
        /// The highest number of outputs.
        limit: usize,
    },
    /// A message is longer than the server, or the stream, takes it.
    TooLarge {
        /// The message's subject: the checkpoint's, or an output's.
        subject: String,
        /// The length with headers, in bytes.
        bytes: usize,
        /// The longest message that is taken, in bytes.
        limit: usize,
    },
    /// An output has a subject that is not one of the stream's, or that the checkpoint has.
    ForeignSubject {
        /// The output's subject.
        subject: String,
        /// The stream's name.
        stream: String,
    },
    /// The function that makes a message of an output failed; the [`source`](Error::source). Nothing of this commit has taken place.
    Write(WriteError),
    /// The last message on the checkpoint's subject is not one of this crate.
    Unreadable {
        /// The checkpoint's subject.
        subject: String,
        /// The message's sequence.
        sequence: u64,
    },
    /// The last message on the checkpoint's subject is older than this owner's last one. A server that is behind answered, and it passes; or
    /// the stream was purged, or replaced by an older copy, and it does not.
    Behind {
        /// The checkpoint's subject.
        subject: String,
    },
    /// The source's position is no longer in the stream: messages behind it may have been deleted before they were read.
    Deleted {
        /// The position: the next sequence to be read.
        position: u64,
        /// The first sequence in the stream.
        first: u64,
    },
    /// The source's position lies behind the end of the stream, so this is not the stream from which the position came.
    Ahead {
        /// The position: the next sequence to be read.
        position: u64,
        /// The last sequence in the stream.
        last: u64,
    },
    /// There are no partitions, or more than 1,024, or one comes twice, or a name cannot be a key.
    Partitions,
    /// The call was made outside of a tokio runtime.
    NoRuntime,
    /// JetStream returned an error; the [`source`](Error::source).
    Server(jetstream::Error),
    /// The request failed: the connection is down, or there was no answer in time; the [`source`](Error::source). It may have taken effect.
    Request(BoxError),
}

impl JetStreamError {
    /// Whether the same call may succeed a little later.
    pub(crate) fn passes(&self) -> bool {
        matches!(self, Self::NotConnected | Self::Request(_) | Self::Server(_))
    }

    /// Wraps an error of the client.
    pub(crate) fn request(error: impl Into<BoxError>) -> Self {
        Self::Request(error.into())
    }
}

impl fmt::Display for JetStreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld { version } => write!(
                f,
                "the NATS server has version {version:?}, and atomic batches need 2.12 or later"
            ),
            Self::NotConnected => f.write_str("there is no connection to the NATS server"),
            Self::Unsuitable { stream, why } => {
                write!(f, "the stream {stream:?} cannot be used: {why}")
            }
            Self::Fenced { subject } => {
                write!(f, "the checkpoint {subject:?} has a newer owner: stop this one")
            }
            Self::NotClaimed => f.write_str("the checkpoint's subject was not claimed"),
            Self::TooManyOutputs { outputs, limit } => write!(
                f,
                "{outputs} outputs wait for one commit, and a batch can have {limit}: make the sink full earlier"
            ),
            Self::TooLarge { subject, bytes, limit } => {
                write!(f, "a message for {subject:?} has {bytes} bytes, and {limit} are possible")
            }
            Self::ForeignSubject { subject, stream } => {
                write!(f, "an output cannot have the subject {subject:?} in the stream {stream:?}")
            }
            Self::Write(_) => f.write_str("an output could not be made a message"),
            Self::Unreadable { subject, sequence } => {
                write!(f, "message {sequence} on {subject:?} is not a checkpoint")
            }
            Self::Behind { subject } => {
                write!(f, "the latest checkpoint on {subject:?} is not in the stream")
            }
            Self::Deleted { position, first } => write!(
                f,
                "the source is at sequence {position}, and the stream has deleted everything before {first}"
            ),
            Self::Ahead { position, last } => {
                write!(f, "the source is at sequence {position}, and the stream ends at {last}")
            }
            Self::Partitions => f.write_str(
                "partitions need names that can be keys, each once, and there can be 1 to 1,024 of them",
            ),
            Self::NoRuntime => f.write_str("there is no tokio runtime"),
            Self::Server(_) => f.write_str("JetStream returned an error"),
            Self::Request(_) => f.write_str("a request to the NATS server failed"),
        }
    }
}

impl Error for JetStreamError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Server(source) => Some(source),
            Self::Write(WriteError(source)) | Self::Request(source) => Some(&**source),
            _ => None,
        }
    }
}

impl From<jetstream::Error> for JetStreamError {
    fn from(error: jetstream::Error) -> Self {
        Self::Server(error)
    }
}
