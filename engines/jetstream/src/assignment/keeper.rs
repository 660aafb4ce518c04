//! The task that keeps a worker alive, takes partitions and gives them back.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use inflight_partitions::Change;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::bucket::{Bucket, Entry, Key, News};
use super::view::View;
use crate::error::JetStreamError;
use crate::server::is_wrong_sequence;

/// What the job tells. A partition comes with the revision of the lease that the job knows of: the worker may have lost that one since,
/// and have another.
#[derive(Debug)]
pub(super) enum Order {
    Released(String, u64),
    Finished(String, u64),
    Leave(oneshot::Sender<()>),
}

/// What the job is told: a change and, if it assigns a partition, the revision of the lease.
pub(super) type Told = (Change<String>, Option<u64>);

type Tell = mpsc::UnboundedSender<Result<Told, JetStreamError>>;

pub(super) struct Keeper {
    bucket: Bucket,
    name: String,
    view: View,
    news: BoxStream<'static, Result<News, JetStreamError>>,
    session: Session,
    mine: BTreeMap<String, Lease>,
    leaves: bool,
    tell: Tell,
}

/// This worker as it is seen alive, from one loss of everything to the next.
struct Session {
    id: String,
    /// The revision of the worker's key; 0 if it was never written.
    revision: u64,
    /// The worker is seen alive for the time to live from here, at least.
    seen: Option<Instant>,
}

/// A partition of this worker.
#[derive(Clone, Copy, Debug)]
struct Lease {
    revision: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held,
    /// The job is to hand it over.
    Revoked,
    /// The job has handed it over; the lease is to be given back.
    Released,
    /// The lease is to become a note that nobody needs the partition any more.
    Finished,
}

impl Session {
    fn new() -> Self {
        Self { id: nuid::next().to_string(), revision: 0, seen: None }
    }
}

impl Keeper {
    /// Learns the state of the bucket, and makes this worker known.
    pub(super) async fn join(
        bucket: Bucket,
        name: String,
        partitions: Vec<String>,
        tell: Tell,
    ) -> Result<Self, JetStreamError> {
        let (known, news) = bucket.watch().await?;
        let (view, session) = (View::new(partitions), Session::new());
        let mine = BTreeMap::new();
        let mut keeper = Self { bucket, name, view, news, session, mine, leaves: false, tell };
        for _ in 0..known {
            let limit = tokio::time::timeout(keeper.bucket.ttl, keeper.news.next());
            match limit.await {
                Ok(Some(news)) => keeper.note(news?),
                // Some of the messages were replaced meanwhile, and their keys come later.
                Ok(None) | Err(_) => break,
            }
        }
        keeper.renew().await?;
        Ok(keeper)
    }

    /// Works until the worker leaves, or the bucket is gone.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut ticks = tokio::time::interval(self.bucket.ttl / 3);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut left = None;
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => self.tick().await,
                order = orders.recv() => match order {
                    Some(Order::Leave(done)) => {
                        left = Some(done);
                        break;
                    }
                    Some(order) => {
                        let left = self.leaves;
                        self.obey(order);
                        // At once, so that the others take what this worker gives back.
                        if self.leaves != left {
                            self.tick().await;
                        }
                    }
                    None => return,
                },
                news = self.news.next() => match news {
                    Some(Ok(news)) => self.note(news),
                    Some(Err(error)) => {
                        let _ = self.tell.send(Err(error));
                        return;
                    }
                    None => return,
                },
            }
            self.balance().await;
            if self.view.is_finished() && self.mine.is_empty() {
                break;
            }
        }
        self.leave().await;
        drop(left);
    }

    fn tell(&self, change: Change<String>) {
        // Nobody listens any more if the job was dropped: this task ends then.
        let _ = self.tell.send(Ok((change, None)));
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Released(name, revision) => {
                let Some(lease) = self.lease(&name, revision) else { return };
                let state = lease.state;
                // A job that has finished a partition releases it too, if it was revoked.
                if state != State::Finished {
                    lease.state = State::Released;
                }
                // Not asked for: the worker is about to leave.
                self.leaves |= state == State::Held;
            }
            Order::Finished(name, revision) => {
                if let Some(lease) = self.lease(&name, revision) {
                    lease.state = State::Finished;
                }
            }
            Order::Leave(_) => {}
        }
    }

    /// This lease, if the worker still has it.
    fn lease(&mut self, name: &str, revision: u64) -> Option<&mut Lease> {
        self.mine.get_mut(name).filter(|lease| lease.revision == revision)
    }

    /// Takes notice of a change in the bucket. A partition that another one has now is lost.
    fn note(&mut self, news: News) {
        let partition = match &news.key {
            Key::Partition(name) => Some((name.clone(), news.revision)),
            Key::Worker(_) => None,
        };
        if let Some(change) = self.view.note(news) {
            self.tell(change);
        }
        let Some((name, revision)) = partition else { return };
        let is_lost = self.mine.get(&name).is_some_and(|lease| {
            lease.revision < revision && self.view.is_of_another(&name, &self.session.id)
        });
        if is_lost {
            self.lose(&name);
        }
    }

    fn lose(&mut self, name: &str) {
        let Some(lease) = self.mine.remove(name) else { return };
        if matches!(lease.state, State::Held | State::Revoked) {
            self.tell(Change::Lost(name.to_owned()));
        }
    }

    /// Stays alive. If it was not seen alive for too long, begins again with nothing.
    async fn tick(&mut self) {
        if self.is_over() {
            self.begin_again();
        }
        match self.renew().await {
            Err(error) if is_wrong_sequence(&error) => self.begin_again(),
            _ if self.is_over() => self.begin_again(),
            _ => {}
        }
        self.look_after_the_silent().await;
    }

    /// Asks the server about workers of which nothing was heard for longer than they may be silent.
    async fn look_after_the_silent(&mut self) {
        for session in self.view.silent(self.bucket.ttl * 2) {
            // An error passes: there is another try with the next tick.
            if self.ask_about(session).await.is_err() {
                return;
            }
        }
    }

    /// Whether a session that has a lease lives. This worker may not have been told yet of one that has just joined, so it asks the server
    /// about those that it does not know.
    async fn lives(&mut self, session: &str) -> Result<bool, JetStreamError> {
        if !self.view.lives(session) {
            self.ask_about(session.to_owned()).await?;
        }
        Ok(self.view.lives(session))
    }

    /// Takes notice of a worker's key as it is now.
    async fn ask_about(&mut self, session: String) -> Result<(), JetStreamError> {
        let key = Key::Worker(session);
        let (revision, entry) = self.bucket.read(&key).await?;
        self.note(News { key, revision, entry });
        Ok(())
    }

    /// Whether others may believe that this worker is dead, by its own clock.
    fn is_over(&self) -> bool {
        self.session.seen.is_some_and(|seen| seen.elapsed() >= self.bucket.ttl)
    }

    /// Whether the worker's key is to be written, before anything else: each lease takes its time, and there may be many.
    fn is_due(&self) -> bool {
        self.session.seen.is_none_or(|seen| seen.elapsed() >= self.bucket.ttl / 3)
    }

    fn begin_again(&mut self) {
        let names: Vec<_> = self.mine.keys().cloned().collect();
        for name in names {
            self.lose(&name);
        }
        self.session = Session::new();
    }

    /// Writes the worker's key.
    async fn renew(&mut self) -> Result<(), JetStreamError> {
        let key = Key::Worker(self.session.id.clone());
        let entry = Entry::Worker { name: self.name.clone(), leaves: self.leaves };
        let sent = Instant::now();
        let revision = match self.bucket.write(&key, self.session.revision, Some(&entry)).await {
            Err(error) if is_wrong_sequence(&error) => {
                // An earlier write whose answer was lost.
                let (revision, entry) = self.bucket.read(&key).await?;
                if entry.is_none() || revision <= self.session.revision {
                    return Err(error);
                }
                self.session.revision = revision;
                return Ok(());
            }
            revision => revision?,
        };
        (self.session.revision, self.session.seen) = (revision, Some(sent));
        Ok(())
    }

    /// Takes and gives back what follows from the view.
    async fn balance(&mut self) {
        self.settle().await;
        if self.is_over() || self.session.seen.is_none() || !self.view.lives(&self.session.id) {
            return;
        }
        let held: Vec<_> =
            self.mine.iter().filter(|(_, lease)| lease.state == State::Held).collect();
        let (held, share) = (held.len(), self.view.share(&self.session.id));
        if self.leaves {
            return;
        }
        if held > share {
            let excess = self.mine.iter_mut().rev().filter(|(_, lease)| lease.state == State::Held);
            for (name, lease) in excess.take(held - share) {
                lease.state = State::Revoked;
                let _ = self.tell.send(Ok((Change::Revoked(name.clone()), None)));
            }
            return;
        }
        let mut wanted = share - held;
        for name in self.view.free(&self.session.id) {
            if wanted == 0 || self.is_due() {
                break;
            }
            // An error passes: there is another try with the next tick.
            if !self.mine.contains_key(&name) && self.take(&name).await.is_ok_and(|taken| taken) {
                wanted -= 1;
            }
        }
    }

    /// Takes a partition, if nobody living has it. Returns true if it was taken.
    async fn take(&mut self, name: &str) -> Result<bool, JetStreamError> {
        let key = Key::Partition(name.to_owned());
        let (revision, entry) = self.bucket.read(&key).await?;
        let is_free = match &entry {
            None | Some(Entry::Free) => true,
            // The answer to an earlier try was lost.
            Some(Entry::Lease { session, .. }) if *session == self.session.id => true,
            Some(Entry::Lease { session, .. }) => !self.lives(session).await?,
            Some(_) => false,
        };
        if !is_free {
            return Ok(false);
        }
        let (session, worker) = (self.session.id.clone(), self.name.clone());
        let lease = Entry::Lease { session, worker };
        match self.bucket.write(&key, revision, Some(&lease)).await {
            Ok(revision) => {
                self.mine.insert(name.to_owned(), Lease { revision, state: State::Held });
                let _ = self.tell.send(Ok((Change::Assigned(name.to_owned()), Some(revision))));
                Ok(true)
            }
            Err(error) if is_wrong_sequence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives back the leases of partitions that were handed over, and notes those that are finished.
    async fn settle(&mut self) {
        let is_due = |(name, lease): (&String, &Lease)| {
            let entry = match lease.state {
                State::Held | State::Revoked => return None,
                State::Released => Entry::Free,
                State::Finished => Entry::Finished,
            };
            Some((name.clone(), lease.revision, entry))
        };
        let due: Vec<_> = self.mine.iter().filter_map(is_due).collect();
        for (name, revision, entry) in due {
            if self.is_due() && !self.leaves {
                return;
            }
            let key = Key::Partition(name.clone());
            match self.bucket.write(&key, revision, Some(&entry)).await {
                Ok(_) => drop(self.mine.remove(&name)),
                // The answer to an earlier try was lost, or another worker has it.
                Err(error) if is_wrong_sequence(&error) => drop(self.mine.remove(&name)),
                Err(_) => return, // another try with the next tick
            }
        }
    }

    /// Gives back what is left, and only then stops being seen alive.
    async fn leave(&mut self) {
        self.leaves = true;
        for lease in self.mine.values_mut() {
            if lease.state != State::Finished {
                lease.state = State::Released;
            }
        }
        let start = Instant::now();
        while start.elapsed() < self.bucket.ttl {
            self.settle().await;
            if self.mine.is_empty() && self.vanish().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Deletes the worker's key. Returns true if it is gone.
    async fn vanish(&mut self) -> bool {
        let key = Key::Worker(self.session.id.clone());
        match self.bucket.write(&key, self.session.revision, None).await {
            Ok(_) => true,
            Err(error) => is_wrong_sequence(&error),
        }
    }
}
