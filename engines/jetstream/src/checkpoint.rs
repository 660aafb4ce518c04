//! The subject of a job's checkpoints: its last message is the checkpoint, and that message's sequence is the fence.

use std::time::Duration;

use async_nats::jetstream::stream::{
    DiscardPolicy, Info, LastRawMessageErrorKind, RetentionPolicy, Stream,
};
use async_nats::{HeaderMap, HeaderValue, header, jetstream};
use bytes::Bytes;
use inflight_core::{CheckpointId, Loaded};

use crate::batch::Message;
use crate::error::JetStreamError;
use crate::server;
use crate::subject;

const OWNER: &str = "Inflight-Owner";
const CHECKPOINT: &str = "Inflight-Checkpoint";

/// More bytes than the headers of a checkpoint ever have, so that its longest length does not depend on its id.
const HEADERS: usize = 512;

/// The stream of a job's outputs and checkpoints, as far as commits must know it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    stream: Stream<Info>,
    checkpoint: String,
    longest: usize,
}

/// The last message on the subject.
#[derive(Clone, Debug)]
pub(crate) struct Latest {
    pub(crate) sequence: u64,
    pub(crate) owner: String,
    /// The checkpoint, if there is one yet.
    pub(crate) checkpoint: Option<(CheckpointId, Bytes)>,
}

impl Latest {
    pub(crate) fn loaded(&self) -> Option<Loaded> {
        let (id, bytes) = self.checkpoint.as_ref()?;
        Some(Loaded { id: *id, bytes: bytes.to_vec(), damaged: 0 })
    }
}

impl Place {
    /// Asks the server about the stream, and refuses one that would lose checkpoints.
    pub(crate) async fn find(
        context: &jetstream::Context,
        name: &str,
        checkpoint: &str,
    ) -> Result<Self, JetStreamError> {
        server::require_version(context)?;
        let stream = server::stream(context, name).await?;
        if let Some(why) = unsuitable(stream.cached_info(), checkpoint) {
            return Err(JetStreamError::Unsuitable { stream: name.to_owned(), why });
        }
        let payload = context.client().max_payload();
        let of_stream = usize::try_from(stream.cached_info().config.max_message_size).unwrap_or(0);
        let longest = if of_stream == 0 { payload } else { payload.min(of_stream) };
        Ok(Self { stream, checkpoint: checkpoint.to_owned(), longest })
    }

    /// Reads the last message on the checkpoint's subject, from the stream's leader.
    pub(crate) async fn read(&self) -> Result<Option<Latest>, JetStreamError> {
        let message = match self.stream.get_last_raw_message_by_subject(&self.checkpoint).await {
            Ok(message) => message,
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => return Ok(None),
                LastRawMessageErrorKind::JetStream(error) => return Err(error.into()),
                _ => return Err(JetStreamError::request(error)),
            },
        };
        let (headers, sequence) = (&message.headers, message.sequence);
        let id = headers.get(CHECKPOINT).map(|id| id.as_str().parse().map(CheckpointId));
        match (headers.get(OWNER), id.transpose()) {
            (Some(owner), Ok(id)) => Ok(Some(Latest {
                sequence,
                owner: owner.as_str().to_owned(),
                checkpoint: id.map(|id| (id, message.payload)),
            })),
            _ => Err(JetStreamError::Unreadable { subject: self.checkpoint.clone(), sequence }),
        }
    }

    /// The message that makes a checkpoint the latest one, if the last one is that with the sequence `after`; 0 means that there is none.
    pub(crate) fn message(
        &self,
        after: u64,
        owner: &str,
        checkpoint: Option<(CheckpointId, Bytes)>,
    ) -> Message {
        let (mut headers, mut payload) = (HeaderMap::new(), Bytes::new());
        headers.insert(OWNER, owner);
        if let Some((id, bytes)) = checkpoint {
            headers.insert(CHECKPOINT, HeaderValue::from(id.0));
            payload = bytes;
        }
        headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, HeaderValue::from(after));
        // It replaces the earlier ones, and no limit of time deletes it.
        headers.insert(header::NATS_ROLLUP, "sub");
        if self.stream.cached_info().config.allow_message_ttl {
            headers.insert(header::NATS_MESSAGE_TTL, "never");
        }
        Message { subject: self.checkpoint.clone(), headers, payload }
    }

    /// Publishes messages together.
    pub(crate) async fn publish(
        &self,
        context: &jetstream::Context,
        limit: Duration,
        messages: Vec<Message>,
    ) -> Result<u64, JetStreamError> {
        for message in &messages {
            let bytes = match message.subject == self.checkpoint {
                true => message.payload.len() + HEADERS,
                false => message.len(),
            };
            if bytes > self.longest {
                let (subject, limit) = (message.subject.clone(), self.longest);
                return Err(JetStreamError::TooLarge { subject, bytes, limit });
            }
        }
        crate::batch::publish(&context.client(), limit, messages).await
    }

    /// Refuses an output that would go to another stream, or be taken for a checkpoint.
    pub(crate) fn check_output(&self, output: &Message) -> Result<(), JetStreamError> {
        let config = &self.stream.cached_info().config;
        let is_one = |pattern: &String| subject::matches(pattern, &output.subject);
        if output.subject != self.checkpoint
            && subject::is_valid(&output.subject)
            && config.subjects.iter().any(is_one)
        {
            return Ok(());
        }
        let (subject, stream) = (output.subject.clone(), config.name.clone());
        Err(JetStreamError::ForeignSubject { subject, stream })
    }

    pub(crate) fn fenced(&self) -> JetStreamError {
        JetStreamError::Fenced { subject: self.checkpoint.clone() }
    }

    pub(crate) fn behind(&self) -> JetStreamError {
        JetStreamError::Behind { subject: self.checkpoint.clone() }
    }
}

/// The first setting of the stream that would break a promise.
fn unsuitable(info: &Info, checkpoint: &str) -> Option<&'static str> {
    let config = &info.config;
    let is_bounded = config.max_messages > 0 || config.max_bytes > 0;
    let refused = [
        (!config.allow_atomic_publish, "its allow_atomic is off, so it takes no batches"),
        (
            !config.allow_rollup || config.deny_purge,
            "its allow_rollup_hdrs is off, so it would keep all checkpoints",
        ),
        (
            config.retention != RetentionPolicy::Limits,
            "its retention is not `limits`, so consumers would delete checkpoints",
        ),
        (
            is_bounded && config.discard == DiscardPolicy::Old,
            "its max_msgs or max_bytes would delete checkpoints; with discard `new` it would not",
        ),
        (
            !config.max_age.is_zero() && !config.allow_message_ttl,
            "its max_age would delete checkpoints; with allow_msg_ttl it would not",
        ),
        (config.no_ack, "its no_ack is on, so no commit would be known"),
        (config.sealed || config.mirror.is_some(), "it is sealed, or a mirror"),
        (
            config.subject_transform.is_some(),
            "it transforms subjects, so the checkpoint's might change",
        ),
        (
            !subject::is_valid(checkpoint),
            "the checkpoint's subject has a wildcard, a space or an empty token",
        ),
        (
            !config.subjects.iter().any(|pattern| subject::matches(pattern, checkpoint)),
            "the checkpoint's subject is not one of its subjects",
        ),
    ];
    refused.into_iter().find(|(is_refused, _)| *is_refused).map(|(_, why)| why)
}
