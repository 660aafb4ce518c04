//! A transaction without the fence: each owner has a transactional id of its own. A negative control.

use std::process;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use inflight_core::pipeline::{Output, Transaction};
use inflight_core::{CheckpointId, Loaded};
use inflight_kafka::{KafkaClient, KafkaJobError};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::owner::{Done, message};
use crate::topic::PATIENCE;

pub(crate) struct Unfenced {
    client: KafkaClient,
    job: String,
    producer: BaseProducer,
    group: BaseConsumer,
    has_begun: bool,
}

impl Unfenced {
    pub(crate) fn new(config: &ClientConfig, client: &KafkaClient, job: &str) -> Self {
        let (mut of_producer, mut of_group) = (config.clone(), config.clone());
        of_producer.set("transactional.id", format!("{job}-{}", process::id()));
        of_group.set("group.id", job);
        Self {
            client: client.clone(),
            job: job.to_owned(),
            producer: of_producer.create().unwrap(),
            group: of_group.create().unwrap(),
            has_begun: false,
        }
    }
}

impl Transaction<Done> for Unfenced {
    type Error = KafkaJobError;

    async fn claim(&mut self) -> Result<Option<Loaded>, KafkaJobError> {
        if !std::mem::replace(&mut self.has_begun, true) {
            self.producer.init_transactions(PATIENCE)?;
        }
        self.client.read_latest(0).await
    }

    /// It blocks its thread, which has nothing else to do.
    async fn commit(
        &mut self,
        id: CheckpointId,
        checkpoint: &[u8],
        outputs: &[Output<Done>],
    ) -> Result<(), KafkaJobError> {
        self.producer.begin_transaction()?;
        let topic = format!("{}-out", self.job);
        for output in outputs {
            let message = message(&topic, 0, output);
            let (key, value) = (message.key.unwrap(), message.value.unwrap());
            let record = BaseRecord::to(&topic).partition(0).key(&key).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error)?;
        }
        self.producer.flush(PATIENCE)?;
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.job, 0);
        element.set_offset(Offset::Offset(0))?;
        let text = format!("inflight1 {:016x} {}", id.0, STANDARD_NO_PAD.encode(checkpoint));
        element.set_metadata(text);
        let group = self.group.group_metadata().unwrap();
        self.producer.send_offsets_to_transaction(&list, &group, PATIENCE)?;
        Ok(self.producer.commit_transaction(PATIENCE)?)
    }

    async fn is_committed(&mut self, _: CheckpointId) -> Result<bool, KafkaJobError> {
        Ok(false)
    }

    fn is_final(&self, _: &KafkaJobError) -> bool {
        false
    }
}
