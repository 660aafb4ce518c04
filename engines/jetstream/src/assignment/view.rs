//! What a worker knows of the bucket, and the share that follows from it.

use std::collections::BTreeMap;
use std::time::Duration;

use inflight_partitions::Change;
use tokio::time::Instant;

use super::bucket::{Entry, Key, News};

/// The keys of a job, as far as this worker has been told.
#[derive(Debug)]
pub(super) struct View {
    /// All partitions, in the job's order.
    partitions: Vec<String>,
    /// The workers that live, by session.
    workers: BTreeMap<String, Worker>,
    leases: BTreeMap<String, Lease>,
}

/// A worker that lives.
#[derive(Clone, Copy, Debug)]
struct Worker {
    leaves: bool,
    /// When its key was last written, as far as this worker has been told.
    heard: Instant,
}

/// The state of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Lease {
    Of { session: String, worker: String },
    Finished,
}

impl View {
    pub(super) fn new(partitions: Vec<String>) -> Self {
        Self { partitions, workers: BTreeMap::new(), leases: BTreeMap::new() }
    }

    /// Takes notice of a change. Returns what there is to tell about a partition's owner.
    pub(super) fn note(&mut self, news: News) -> Option<Change<String>> {
        match (news.key, news.entry) {
            (Key::Worker(session), Some(Entry::Worker { leaves, .. })) => {
                self.workers.insert(session, Worker { leaves, heard: Instant::now() });
                None
            }
            (Key::Worker(session), _) => {
                self.workers.remove(&session);
                None
            }
            (Key::Partition(name), entry) => self.note_lease(name, entry),
        }
    }

    fn note_lease(&mut self, partition: String, entry: Option<Entry>) -> Option<Change<String>> {
        let before = self.owner(&partition).map(str::to_owned);
        match entry {
            Some(Entry::Lease { session, worker }) => {
                self.leases.insert(partition.clone(), Lease::Of { session, worker })
            }
            Some(Entry::Finished) => self.leases.insert(partition.clone(), Lease::Finished),
            Some(Entry::Free | Entry::Worker { .. }) | None => self.leases.remove(&partition),
        };
        let worker = self.owner(&partition).map(str::to_owned);
        (worker != before).then_some(Change::Owner { partition, worker })
    }

    fn owner(&self, partition: &str) -> Option<&str> {
        match self.leases.get(partition)? {
            Lease::Of { worker, .. } => Some(worker),
            Lease::Finished => None,
        }
    }

    /// Whether the partition's lease is that of another session.
    pub(super) fn is_of_another(&self, partition: &str, mine: &str) -> bool {
        match self.leases.get(partition) {
            Some(Lease::Of { session, .. }) => session != mine,
            Some(Lease::Finished) => true,
            None => false,
        }
    }

    /// The number of partitions that this worker should have. All workers compute it from the same list, so that the sum is right.
    pub(super) fn share(&self, mine: &str) -> usize {
        let staying =
            self.workers.iter().filter(|(session, worker)| !worker.leaves || *session == mine);
        let mut sessions: Vec<_> = staying.map(|(session, _)| &**session).collect();
        if let Err(place) = sessions.binary_search(&mine) {
            sessions.insert(place, mine);
        }
        let rank = sessions.iter().position(|session| *session == mine).unwrap_or(0);
        let open = self.open().count();
        open / sessions.len() + usize::from(rank < open % sessions.len())
    }

    /// The partitions that nobody else living has, beginning somewhere else for each worker, so that two rarely want the same one.
    pub(super) fn free(&self, mine: &str) -> Vec<String> {
        let before = self.workers.keys().filter(|session| session.as_str() < mine).count();
        let start = before * self.partitions.len() / self.workers.len().max(1);
        let (front, back) = self.partitions.split_at(start.min(self.partitions.len()));
        let is_free = |name: &&String| match self.leases.get(*name) {
            None => true,
            // Also one of this worker's: if the answer to its try was lost, nobody else takes it.
            Some(Lease::Of { session, .. }) => {
                session == mine || !self.workers.contains_key(session)
            }
            Some(Lease::Finished) => false,
        };
        back.iter().chain(front).filter(is_free).cloned().collect()
    }

    /// Whether a lease of this session holds: whether another worker would leave it alone.
    pub(super) fn lives(&self, session: &str) -> bool {
        self.workers.contains_key(session)
    }

    /// The workers that were not heard of for so long. The server deletes their keys, and what it tells about that is deleted too after a
    /// while, so this worker may have missed it.
    pub(super) fn silent(&self, since: Duration) -> Vec<String> {
        let silent = self.workers.iter().filter(|(_, worker)| worker.heard.elapsed() > since);
        silent.map(|(session, _)| session.clone()).collect()
    }

    /// Whether there is no partition that anybody has to work on.
    pub(super) fn is_finished(&self) -> bool {
        self.open().next().is_none()
    }

    fn open(&self) -> impl Iterator<Item = &String> {
        let is_open = |name: &&String| self.leases.get(*name) != Some(&Lease::Finished);
        self.partitions.iter().filter(is_open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // P4: a worker may have a lease and not know of it, because the answer of its try was lost. All others leave it alone.
    #[test]
    fn a_lease_of_the_worker_itself_can_be_taken_by_it() {
        let mut view = View::new(vec!["a".to_owned(), "b".to_owned()]);
        for (revision, session) in [(1, "mine"), (2, "other")] {
            let (name, session) = (session.to_owned(), session.to_owned());
            let key = Key::Worker(session);
            view.note(News { key, revision, entry: Some(Entry::Worker { name, leaves: false }) });
        }
        let lease = Entry::Lease { session: "mine".to_owned(), worker: "mine".to_owned() };
        let key = Key::Partition("a".to_owned());
        view.note(News { key, revision: 3, entry: Some(lease) });
        assert!(view.free("mine").contains(&"a".to_owned()));
        assert_eq!(view.free("other"), ["b"]);
    }
}
