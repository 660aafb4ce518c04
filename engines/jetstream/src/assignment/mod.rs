//! Who has which partition: leases in a key-value bucket.

mod bucket;
mod keeper;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::task::{Context as Task, Poll};
use std::time::Duration;

use async_nats::jetstream::Context;
use inflight_partitions::{Assignment, Change};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::error::JetStreamError;
use bucket::Bucket;
use keeper::{Keeper, Order, Told};

/// The partitions of a job and the bucket in which its workers keep their leases.
///
/// A worker has a key in the bucket, which the server deletes when the worker has not written it for the [time to live](Self::ttl), and so
/// has each partition that a worker has. Every worker watches the bucket, knows from it which workers live, and so how many
/// partitions are its share: all workers have the same number of them, or one more. A worker takes partitions that nobody living has,
/// by the server's compare-and-set, and gives back those above its share.
pub struct JetStreamLeases {
    context: Context,
    bucket: String,
    worker: String,
    partitions: Vec<String>,
    ttl: Duration,
    replicas: usize,
}

impl JetStreamLeases {
    /// The leases of a job over `partitions`, for a worker with this name. All workers of the job name the same bucket and the same partitions
    /// in the same order: request ids contain a partition's place in it (K17), so a job that goes on never takes one out, and adds new ones
    /// at the end. Workers with the same name are told apart.
    pub fn new(
        context: Context,
        bucket: impl Into<String>,
        worker: impl Into<String>,
        partitions: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        Self {
            context,
            bucket: bucket.into(),
            worker: worker.into(),
            partitions: partitions.into_iter().map(Into::into).collect(),
            ttl: Duration::from_secs(5),
            replicas: 1,
        }
    }

    /// The time for which a worker is believed to live after it was last seen; 5 seconds without this call, at least one. A worker writes its
    /// key three times in it. After a crash its partitions go to others that much later, and about a second more. A worker that could not
    /// write its key for that long, by its own clock, loses its partitions.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl.max(Duration::from_secs(1));
        self
    }

    /// The number of servers that keep the bucket, if it is created; one without this call.
    #[must_use]
    pub fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// Joins the job's workers: creates the bucket if it is missing, and starts the task that keeps this worker alive. Where servers do not
    /// answer, because they choose a leader just now for instance, it tries again for 30 seconds.
    ///
    /// The task runs on the runtime of this call. So take one with several threads if something in the job keeps a thread busy for a third of
    /// the time to live; on a single thread the worker would be believed dead.
    ///
    /// # Errors
    ///
    /// [`Partitions`](JetStreamError::Partitions), [`TooOld`](JetStreamError::TooOld), [`Unsuitable`](JetStreamError::Unsuitable),
    /// [`NoRuntime`](JetStreamError::NoRuntime), [`Server`](JetStreamError::Server), [`Request`](JetStreamError::Request),
    /// [`NotConnected`](JetStreamError::NotConnected).
    pub async fn join(self) -> Result<JetStreamAssignment, JetStreamError> {
        let unique: BTreeSet<_> = self.partitions.iter().collect();
        let is_one = |name: &String| bucket::is_key(name);
        if unique.len() != self.partitions.len()
            || !(1..=1024).contains(&unique.len())
            || !self.partitions.iter().all(is_one)
        {
            return Err(JetStreamError::Partitions);
        }
        let tasks = tokio::runtime::Handle::try_current().map_err(|_| JetStreamError::NoRuntime)?;
        let (orders, received) = mpsc::unbounded_channel();
        let (keeper, changes) = self.keeper().await?;
        let task = tasks.spawn(keeper.run(received));
        let leases = BTreeMap::new();
        Ok(JetStreamAssignment { partitions: self.partitions, leases, changes, orders, task })
    }

    /// The worker's key is in the bucket, and what happens from then on is in the changes.
    async fn keeper(&self) -> Result<(Keeper, Changes), JetStreamError> {
        const PATIENCE: Duration = Duration::from_secs(30);
        const PAUSE: Duration = Duration::from_millis(250);
        let end = Instant::now() + PATIENCE;
        loop {
            match self.try_keeper().await {
                Err(error) if error.passes() && Instant::now() < end => sleep(PAUSE).await,
                result => return result,
            }
        }
    }

    async fn try_keeper(&self) -> Result<(Keeper, Changes), JetStreamError> {
        let Self { context, bucket, worker, partitions, ttl, replicas } = self;
        let bucket = Bucket::open(context.clone(), bucket.clone(), *ttl, *replicas).await?;
        let (tell, changes) = mpsc::unbounded_channel();
        let keeper = Keeper::join(bucket, worker.clone(), partitions.clone(), tell).await?;
        Ok((keeper, changes))
    }
}

impl fmt::Debug for JetStreamLeases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("JetStreamLeases");
        shown.field("bucket", &self.bucket).field("worker", &self.worker);
        shown.field("partitions", &self.partitions).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

/// A worker's part in the job: see [`JetStreamLeases`]. If it is dropped without [`leave`](Assignment::leave), the worker is believed to
/// live for its time to live, as after a crash.
pub struct JetStreamAssignment {
    partitions: Vec<String>,
    /// The lease of each partition that the job has been told of last.
    leases: BTreeMap<String, u64>,
    changes: Changes,
    orders: mpsc::UnboundedSender<Order>,
    task: JoinHandle<()>,
}

type Changes = mpsc::UnboundedReceiver<Result<Told, JetStreamError>>;

impl Assignment for JetStreamAssignment {
    type Partition = String;
    type Error = JetStreamError;

    fn poll_change(
        &mut self,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Change<String>, JetStreamError>>> {
        self.changes.poll_recv(cx).map_ok(|(change, lease)| {
            if let (Change::Assigned(partition), Some(lease)) = (&change, lease) {
                self.leases.insert(partition.clone(), lease);
            }
            change
        })
    }

    fn number(&self, partition: &String) -> u16 {
        let number = self.partitions.iter().position(|name| name == partition);
        number.and_then(|number| u16::try_from(number).ok()).unwrap_or(u16::MAX)
    }

    fn released(&mut self, partition: &String) {
        if let Some(lease) = self.leases.get(partition) {
            let _ = self.orders.send(Order::Released(partition.clone(), *lease));
        }
    }

    fn finished(&mut self, partition: &String) {
        if let Some(lease) = self.leases.get(partition) {
            let _ = self.orders.send(Order::Finished(partition.clone(), *lease));
        }
    }

    /// Gives back the leases that are left, and then deletes the worker's key. It takes at most the time to live: after that all of them are gone anyway.
    ///
    /// # Errors
    ///
    /// None.
    async fn leave(&mut self) -> Result<(), JetStreamError> {
        let (done, is_done) = oneshot::channel();
        if self.orders.send(Order::Leave(done)).is_ok() {
            let _ = is_done.await;
        }
        Ok(())
    }
}

impl Drop for JetStreamAssignment {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for JetStreamAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetStreamAssignment")
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}
