//! The shards of a stream, and which of them may begin.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fmt;

/// The number of partitions that request ids can tell apart.
const NUMBERS: u64 = 1_024;

/// A shard, as Kinesis lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    pub id: String,
    /// The shard that was split, or the two that were merged.
    pub parents: Vec<String>,
    /// An earlier life of the job has finished it.
    pub is_finished: bool,
}

/// The shards of a stream and how far they are. A shard begins when its parents are finished, because they have the earlier records of
/// its keys.
#[derive(Debug, Default)]
pub struct Graph {
    shards: BTreeMap<String, (Vec<String>, State)>,
    /// Lets shards begin at once, so that the check can show that it finds that.
    is_disordered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Begun,
    Finished,
}

impl Graph {
    /// A graph in which children begin beside their parents: a control that has to fail.
    pub fn children_first() -> Self {
        Self { is_disordered: true, ..Self::default() }
    }

    /// Takes note of all shards that the stream has now. Kinesis lists a closed shard until its last record is deleted.
    ///
    /// # Errors
    ///
    /// [`ShardError`]. The graph can no longer be used.
    pub fn update(&mut self, listed: Vec<Shard>) -> Result<(), ShardError> {
        let ids: BTreeSet<_> = listed.iter().map(|shard| shard.id.clone()).collect();
        self.shards.retain(|id, (_, state)| *state == State::Begun || ids.contains(id));
        for Shard { id, parents, is_finished } in listed {
            let state = if is_finished { State::Finished } else { State::Waiting };
            self.shards.entry(id).or_insert((parents, state));
        }
        let mut numbers = BTreeMap::new();
        for (id, _) in self.shards.iter().filter(|(_, (_, state))| *state != State::Finished) {
            let number = number(id).ok_or_else(|| ShardError::Name(id.clone()))?;
            if let Some(other) = numbers.insert(number, id) {
                return Err(ShardError::TooMany(other.clone(), id.clone()));
            }
        }
        Ok(())
    }

    /// The names of the shards that it knows.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.shards.keys()
    }

    /// A shard that may begin; it has begun then.
    pub fn begin(&mut self) -> Option<String> {
        let is_ready = |parents: &[String]| {
            // Of a parent that is not listed any more no record is left.
            let is_open = |parent: &String| {
                self.shards.get(parent).is_some_and(|(_, state)| *state != State::Finished)
            };
            self.is_disordered || !parents.iter().any(is_open)
        };
        let mut waiting = self.shards.iter().filter(|(_, (_, state))| *state == State::Waiting);
        let (id, _) = waiting.find(|(_, (parents, _))| is_ready(parents))?;
        let id = id.clone();
        self.shards.get_mut(&id)?.1 = State::Begun;
        Some(id)
    }

    pub fn finish(&mut self, id: &str) {
        if let Some((_, state)) = self.shards.get_mut(id) {
            *state = State::Finished;
        }
    }
}

/// The number of a shard in the job: Kinesis counts the shards of a stream from 0. After 1,024 shards the numbers come again.
pub fn number(id: &str) -> Option<u16> {
    let count: u64 = id.strip_prefix("shardId-")?.parse().ok()?;
    u16::try_from(count % NUMBERS).ok()
}

/// The shards are such that request ids cannot tell them apart.
#[derive(Debug, PartialEq, Eq)]
pub enum ShardError {
    /// A name without a number.
    Name(String),
    /// Two shards of one number that are not finished.
    TooMany(String, String),
}

impl fmt::Display for ShardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(id) => write!(f, "{id:?} is not the name of a shard"),
            Self::TooMany(one, other) => write!(
                f,
                "{one} and {other} are both unfinished, and more than {NUMBERS} shards apart"
            ),
        }
    }
}

impl Error for ShardError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> String {
        format!("shardId-{number:012}")
    }

    fn shard(number: u64, parents: &[u64]) -> Shard {
        let parents = parents.iter().copied().map(id).collect();
        Shard { id: id(number), parents, is_finished: false }
    }

    fn finished(number: u64, parents: &[u64]) -> Shard {
        Shard { is_finished: true, ..shard(number, parents) }
    }

    fn begun(graph: &mut Graph) -> Vec<u64> {
        std::iter::from_fn(|| graph.begin()).map(|id| u64::from(number(&id).unwrap())).collect()
    }

    /// 0 is split into 2 and 3; 1 and 3 are merged into 4.
    fn resharded() -> Vec<Shard> {
        vec![shard(0, &[]), shard(1, &[]), shard(2, &[0]), shard(3, &[0]), shard(4, &[1, 3])]
    }

    // O3
    #[test]
    fn a_child_begins_when_all_its_parents_are_finished() {
        let mut graph = Graph::default();
        graph.update(resharded()).unwrap();
        assert_eq!(begun(&mut graph), [0, 1]);
        assert!(begun(&mut graph).is_empty(), "each begins once");
        graph.finish(&id(1));
        assert!(begun(&mut graph).is_empty(), "3 has not even begun");
        graph.finish(&id(0));
        assert_eq!(begun(&mut graph), [2, 3]);
        graph.finish(&id(3));
        assert_eq!(begun(&mut graph), [4]);
        graph.update(resharded()).unwrap();
        assert!(begun(&mut graph).is_empty(), "a later list changes nothing");
    }

    #[test]
    fn an_earlier_life_has_finished_parents() {
        let mut graph = Graph::default();
        let later = [shard(2, &[0]), shard(3, &[0])];
        graph.update([vec![finished(0, &[]), shard(1, &[])], later.to_vec()].concat()).unwrap();
        assert_eq!(begun(&mut graph), [1, 2, 3]);
    }

    #[test]
    fn a_parent_that_kinesis_has_forgotten_holds_up_nothing() {
        let mut graph = Graph::default();
        graph.update(vec![shard(2, &[0]), shard(4, &[1, 3])]).unwrap();
        assert_eq!(begun(&mut graph), [2, 4]);
    }

    #[test]
    fn a_shard_that_has_begun_holds_up_its_children_when_it_is_forgotten() {
        let mut graph = Graph::default();
        graph.update(vec![shard(0, &[])]).unwrap();
        assert_eq!(begun(&mut graph), [0]);
        graph.update(vec![shard(2, &[0])]).unwrap();
        assert!(begun(&mut graph).is_empty());
        graph.finish(&id(0));
        assert_eq!(begun(&mut graph), [2]);
    }

    #[test]
    fn the_control_begins_all_at_once() {
        let mut graph = Graph::children_first();
        graph.update(resharded()).unwrap();
        assert_eq!(begun(&mut graph), [0, 1, 2, 3, 4]);
    }

    // K17
    #[test]
    fn no_two_unfinished_shards_have_one_number() {
        assert_eq!(number(&id(7)), Some(7));
        assert_eq!(number(&id(1_031)), Some(7));
        let error = Graph::default().update(vec![shard(7, &[]), shard(1_031, &[])]);
        assert_eq!(error, Err(ShardError::TooMany(id(7), id(1_031))));
        Graph::default().update(vec![finished(7, &[]), shard(1_031, &[])]).unwrap();
        let unknown = Shard { id: "seven".into(), parents: Vec::new(), is_finished: false };
        assert_eq!(Graph::default().update(vec![unknown]), Err(ShardError::Name("seven".into())));
    }
}
