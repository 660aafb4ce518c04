//! The suite for all stores, over the back ends of `object_store` that need no network.

use std::path::Path as FilePath;
use std::sync::Arc;

use futures_lite::future::block_on;
use futures_util::TryStreamExt;
use inflight_store_conformance::{Capabilities, Check, Image, Medium, Owners, check};
use inflight_store_object::{ObjectCheckpointStore, ObjectStoreError};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use tempfile::TempDir;

/// A job on a back end. Puts are atomic there, so none can be torn.
struct Job {
    storage: Arc<dyn ObjectStore>,
    folder: Option<TempDir>,
}

impl Job {
    fn in_memory() -> Self {
        Self { storage: Arc::new(InMemory::new()), folder: None }
    }

    fn in_files() -> Self {
        let in_memory = FilePath::new("/dev/shm");
        let folder =
            if in_memory.is_dir() { tempfile::tempdir_in(in_memory) } else { tempfile::tempdir() };
        let folder = folder.unwrap();
        std::fs::create_dir(folder.path().join("root")).unwrap();
        let storage = LocalFileSystem::new_with_prefix(folder.path().join("root")).unwrap();
        let storage = Arc::new(storage.with_fsync(true));
        Self { storage, folder: Some(folder) }
    }

    fn path() -> Path {
        Path::from("checkpoints/job")
    }
}

impl Medium for Job {
    type Store = ObjectCheckpointStore<Arc<dyn ObjectStore>>;

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            keeps: 3,
            durable: true,
            largest: None,
            owners: Owners::FirstRefused,
            damages: true,
            survives_flips: true,
            tears: false,
            flips: true,
            fills: false,
            loads_when_full: false,
            vanishes: self.folder.is_some(),
        }
    }

    fn open(&mut self) -> Result<Self::Store, ObjectStoreError> {
        block_on(ObjectCheckpointStore::open(Arc::clone(&self.storage), Self::path(), 3))
    }

    /// The highest number of an intact checkpoint.
    fn damage_newest(&mut self) {
        let mut image = self.image();
        let intact = |(_, bytes): &&mut (String, Vec<u8>)| {
            inflight_core::envelope::open(bytes, *b"ifOB").is_ok_and(|(kind, _)| kind == 2)
        };
        *image.iter_mut().rfind(intact).unwrap().1.last_mut().unwrap() ^= 1;
        self.put_back(&image);
    }

    fn image(&mut self) -> Image {
        block_on(async {
            let objects: Vec<_> = self.storage.list(None).try_collect().await.unwrap();
            let mut image = Vec::new();
            for object in objects {
                let bytes = self.storage.get(&object.location).await.unwrap().bytes().await;
                image.push((object.location.to_string(), bytes.unwrap().to_vec()));
            }
            image.sort();
            image
        })
    }

    fn put_back(&mut self, image: &Image) {
        let before = self.image();
        block_on(async {
            for (path, _) in before {
                self.storage.delete(&Path::from(path)).await.unwrap();
            }
            for (path, bytes) in image {
                let path = Path::from(path.as_str());
                self.storage.put(&path, bytes.clone().into()).await.unwrap();
            }
        });
    }

    /// A file replaces the folder, so that it is not created again.
    fn take_away(&mut self) {
        let above = self.folder.as_ref().unwrap().path();
        std::fs::rename(above.join("root"), above.join("aside")).unwrap();
        std::fs::write(above.join("root"), "no folder").unwrap();
    }

    fn bring_back(&mut self) {
        let above = self.folder.as_ref().unwrap().path();
        std::fs::remove_file(above.join("root")).unwrap();
        std::fs::rename(above.join("aside"), above.join("root")).unwrap();
    }
}

// K9
#[test]
fn objects_in_memory() {
    let report = check(Job::in_memory).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [Check::Limit, Check::Torn, Check::Full, Check::Gone]);
}

// K9
#[test]
fn objects_in_files() {
    let report = check(Job::in_files).unwrap_or_else(|violation| panic!("{violation}"));
    assert_eq!(report.skipped, [Check::Limit, Check::Torn, Check::Full]);
}

// K9: an owner that slept until everything it knew was deleted is refused too.
#[test]
fn a_stale_owner_is_refused_after_the_claim_is_gone() {
    use inflight_core::{CheckpointId, CheckpointStore};
    let mut job = Job::in_memory();
    block_on(async {
        let mut stale = job.open().unwrap();
        stale.save(CheckpointId(1), b"one").await.unwrap();
        let mut owner = job.open().unwrap();
        for id in 2..20 {
            owner.save(CheckpointId(id), b"of the owner").await.unwrap();
        }
        // The number that it would append next is free again.
        let kept = job.image();
        assert_eq!(kept.len(), 3);
        for _ in 0..2 {
            let refused = stale.save(CheckpointId(30), b"stale").await.unwrap_err();
            assert!(matches!(refused, ObjectStoreError::Fenced { .. }), "{refused:?}");
        }
        assert_eq!(owner.load_latest().await.unwrap().unwrap().bytes, b"of the owner");
        owner.save(CheckpointId(20), b"after").await.unwrap();
        assert_eq!(job.image().len(), 3, "what the stale one left is deleted");
    });
}

// K9: a reader of a job does not fence its owner, and writes nothing.
#[test]
fn a_reader_sees_the_latest_checkpoint_and_fences_nobody() {
    use inflight_core::{CheckpointId, CheckpointStore};
    let mut job = Job::in_memory();
    let read = |job: &Job| {
        block_on(ObjectCheckpointStore::read_latest(Arc::clone(&job.storage), Job::path()))
    };
    assert_eq!(read(&job).unwrap(), None);
    assert_eq!(job.image(), []);
    let mut owner = job.open().unwrap();
    assert_eq!(read(&job).unwrap(), None, "a claim is no checkpoint");
    for id in 1..=5 {
        block_on(owner.save(CheckpointId(id), &[id as u8; 10])).unwrap();
        let image = job.image();
        let found = read(&job).unwrap().unwrap();
        assert_eq!(
            (found.id, found.bytes, found.damaged),
            (CheckpointId(id), vec![id as u8; 10], 0)
        );
        assert_eq!(job.image(), image);
    }
    job.damage_newest();
    let found = read(&job).unwrap().unwrap();
    assert_eq!((found.id, found.damaged), (CheckpointId(4), 1));
    job.damage_newest();
    job.damage_newest();
    let refused = read(&job).unwrap_err();
    assert!(matches!(&refused, ObjectStoreError::AllDamaged { objects } if objects.len() == 3));
    block_on(owner.save(CheckpointId(6), b"of the owner")).unwrap();
    assert_eq!(read(&job).unwrap().unwrap().bytes, b"of the owner");
}

// K9: what a reader has listed may be deleted before it is read, because the owner has saved newer checkpoints.
#[test]
fn a_reader_beside_a_busy_owner_always_finds_a_checkpoint() {
    use inflight_core::{CheckpointId, CheckpointStore};
    let storage = Arc::new(InMemory::new());
    let open = ObjectCheckpointStore::open(Arc::clone(&storage), Job::path(), 1);
    let mut owner = block_on(open).unwrap();
    block_on(owner.save(CheckpointId(1), b"1")).unwrap();
    let saves = std::thread::spawn(move || {
        for id in 2..2000 {
            block_on(owner.save(CheckpointId(id), id.to_string().as_bytes())).unwrap();
        }
    });
    let mut latest = 1;
    while !saves.is_finished() {
        let read = ObjectCheckpointStore::read_latest(Arc::clone(&storage), Job::path());
        let found = block_on(read).unwrap().expect("there always is one");
        assert_eq!(found.bytes, found.id.0.to_string().as_bytes());
        assert!(found.id.0 >= latest, "{} after {latest}", found.id);
        latest = found.id.0;
    }
    saves.join().unwrap();
}
