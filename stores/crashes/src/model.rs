//! A model of a file system: the bytes and names on the medium, and those that the system has not written
//! there yet.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

pub(crate) enum Step {
    Write {
        name: PathBuf,
        offset: usize,
        bytes: Vec<u8>,
    },
    Cut {
        name: PathBuf,
        length: usize,
    },
    /// A sync of a file or of the folder.
    Sync {
        name: PathBuf,
    },
    Make {
        name: PathBuf,
    },
    MakeFolder {
        name: PathBuf,
    },
    Rename {
        name: PathBuf,
        to: PathBuf,
    },
    Link {
        name: PathBuf,
        to: PathBuf,
    },
    Remove {
        name: PathBuf,
    },
}

/// Leaves out the written bytes.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = |path: &Path| path.file_name().unwrap_or_default().to_owned();
        match self {
            Self::Write { name, offset, bytes } => {
                write!(f, "write {:?} {offset}+{}", last(name), bytes.len())
            }
            Self::Cut { name, length } => write!(f, "cut {:?} to {length}", last(name)),
            Self::Sync { name } => write!(f, "sync {:?}", last(name)),
            Self::MakeFolder { name } => write!(f, "make folder {:?}", last(name)),
            Self::Make { name } => write!(f, "make {:?}", last(name)),
            Self::Rename { name, to } => write!(f, "rename {:?} to {:?}", last(name), last(to)),
            Self::Link { name, to } => write!(f, "link {:?} as {:?}", last(name), last(to)),
            Self::Remove { name } => write!(f, "remove {:?}", last(name)),
        }
    }
}

/// A change to a file's content.
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Cut { length: usize },
}

/// The content of a file, or of a folder: then it is empty.
#[derive(Default)]
struct Content {
    is_folder: bool,
    durable: Vec<u8>,
    /// The changes since the last sync, in order.
    since: Vec<Change>,
}

/// How much of the unsynced bytes has reached the medium.
#[derive(Clone, Copy, Debug)]
enum Reached {
    Nothing,
    /// All but the second half of the last write.
    FrontOfLast,
    /// All but the first half of the last write, because media write in any order.
    BackOfLast,
    All,
}

pub(crate) struct Model {
    folder: PathBuf,
    contents: Vec<Content>,
    /// The index of the content behind each name.
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
}

impl Model {
    pub(crate) fn new(folder: &Path) -> Self {
        let (names, durable_names) = (BTreeMap::new(), BTreeMap::new());
        Self { folder: folder.into(), contents: Vec::new(), names, durable_names }
    }

    pub(crate) fn make(&mut self, step: &Step) {
        match step {
            Step::Write { name, offset, bytes } => {
                let write = Change::Write { offset: *offset, bytes: bytes.clone() };
                self.content(name).since.push(write);
            }
            Step::Cut { name, length } => {
                self.content(name).since.push(Change::Cut { length: *length });
            }
            Step::Sync { name } if self.is_folder(name) => self.sync_names(name),
            Step::Sync { name } => {
                let content = self.content(name);
                content.durable = content.after(Reached::All);
                content.since.clear();
            }
            Step::Make { name } | Step::MakeFolder { name } => {
                self.names.insert(name.clone(), self.contents.len());
                let is_folder = matches!(step, Step::MakeFolder { .. });
                self.contents.push(Content { is_folder, ..Content::default() });
            }
            Step::Rename { name, to } => {
                let content = self.names.remove(name).unwrap();
                self.names.insert(to.clone(), content);
            }
            Step::Link { name, to } => {
                self.names.insert(to.clone(), self.names[name]);
            }
            Step::Remove { name } => {
                self.names.remove(name).unwrap();
            }
        }
    }

    fn is_folder(&self, name: &Path) -> bool {
        name == self.folder || self.names.get(name).is_some_and(|at| self.contents[*at].is_folder)
    }

    /// Puts the names in a folder on the medium, and removes old names from it.
    fn sync_names(&mut self, folder: &Path) {
        let is_in = |name: &Path| name.parent() == Some(folder);
        self.durable_names.retain(|name, _| !is_in(name));
        let names = self.names.iter().filter(|(name, _)| is_in(name));
        self.durable_names.extend(names.map(|(name, content)| (name.clone(), *content)));
    }

    fn content(&mut self, name: &Path) -> &mut Content {
        &mut self.contents[self.names[name]]
    }

    /// The bytes that a program reads now.
    pub(crate) fn read(&self, name: &Path) -> Option<Vec<u8>> {
        self.names.get(name).map(|content| self.contents[*content].after(Reached::All))
    }

    /// The possible remains if the machine crashes now, without duplicates.
    pub(crate) fn crashes(&self) -> Vec<(String, BTreeMap<PathBuf, Vec<u8>>)> {
        let mut seen = BTreeSet::new();
        let mut crashes = Vec::new();
        for (names, of) in [("old", &self.durable_names), ("new", &self.names)] {
            for reached in
                [Reached::Nothing, Reached::FrontOfLast, Reached::BackOfLast, Reached::All]
            {
                let is_there = |name: &Path| {
                    let above = name.ancestors().skip(1).take_while(|above| *above != self.folder);
                    above.into_iter().all(|above| of.contains_key(above))
                };
                let files =
                    of.iter().filter(|(name, at)| !self.contents[**at].is_folder && is_there(name));
                let read = |(name, at): (&PathBuf, &usize)| {
                    (name.clone(), self.contents[*at].after(reached))
                };
                let left: BTreeMap<_, _> = files.map(read).collect();
                if seen.insert(left.clone()) {
                    crashes
                        .push((format!("{names} names, {reached:?} of what was not synced"), left));
                }
            }
        }
        crashes
    }
}

impl Content {
    fn after(&self, reached: Reached) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        if let Reached::Nothing = reached {
            return bytes;
        }
        for (index, change) in self.since.iter().enumerate() {
            let is_last = index + 1 == self.since.len();
            match change {
                Change::Cut { length } => bytes.resize(*length, 0),
                Change::Write { offset, bytes: written } => {
                    let half = written.len() / 2;
                    let part = match reached {
                        Reached::FrontOfLast if is_last => 0..half,
                        Reached::BackOfLast if is_last => half..written.len(),
                        _ => 0..written.len(),
                    };
                    let (from, end) = (offset + part.start, offset + part.end);
                    bytes.resize(bytes.len().max(end), 0);
                    bytes[from..end].copy_from_slice(&written[part]);
                }
            }
        }
        bytes
    }
}
