//! What is written is read; what is damaged or another's is refused.

use tempfile::TempDir;

use super::*;
use crate::{coordinator::data_dir::Identity, model::ids::CoordinatorId};

fn identity(cluster: &str, id: u64) -> Identity {
    let voters = [1, 2, 3].map(CoordinatorId).to_vec();
    Identity { format: 1, cluster: cluster.parse().expect("a name"), coordinator: CoordinatorId(id), voters }
}

pub fn open(dir: &TempDir) -> Result<(LogStore, Saved), OpenError> {
    LogStore::open(DataDir::take(&dir.path().join("c"), identity("demo", 1))?)
}

pub fn scratch() -> TempDir {
    TempDir::new().expect("a scratch directory")
}

pub fn entry(index: u64, term: u64) -> Entry {
    Entry { index, term, data: vec![b'x'; 100].into(), ..Entry::default() }
}

pub fn snapshot(index: u64, bytes: usize) -> Snapshot {
    let mut snapshot = Snapshot { data: vec![b's'; bytes].into(), ..Snapshot::default() };
    snapshot.mut_metadata().index = index;
    snapshot
}

pub fn persist(entries: Vec<Entry>) -> Persist {
    let hard_state = HardState { term: 3, vote: 2, ..HardState::default() };
    Persist { hard_state: Some(hard_state), snapshot: None, entries }
}

#[test]
fn entries_are_replaced_compacted_and_read_again() {
    let dir = scratch();
    let (mut store, saved) = open(&dir).expect("a new directory");
    assert_eq!(saved, Saved::default());
    store.persist(&persist((1..=9).map(|index| entry(index, 1)).collect())).expect("room on the disk");
    store.persist(&persist(vec![entry(6, 2), entry(7, 2)])).expect("room on the disk");
    // Larger than a sled segment: becomes a file of its own.
    store.compact(&snapshot(4, 2 << 20)).expect("room on the disk");
    drop(store);
    let (mut store, saved) = open(&dir).expect("our own directory");
    assert_eq!(saved.entries, [entry(5, 1), entry(6, 2), entry(7, 2)]);
    assert_eq!((saved.hard_state.term, saved.hard_state.vote), (3, 2));
    assert_eq!(saved.snapshot, snapshot(4, 2 << 20));
    let restore = Persist { snapshot: Some(snapshot(20, 10)), ..persist(vec![entry(21, 5)]) };
    store.persist(&restore).expect("room on the disk");
    drop(store);
    let (_store, saved) = open(&dir).expect("our own directory");
    assert_eq!((saved.entries, saved.snapshot), (vec![entry(21, 5)], snapshot(20, 10)));
}

#[test]
fn a_second_process_is_kept_out() {
    let dir = scratch();
    let _store = open(&dir).expect("a new directory");
    assert!(matches!(open(&dir), Err(OpenError::Directory(DataDirError::Locked { .. }))));
}

#[test]
fn directories_of_others_are_refused() {
    let dir = scratch();
    drop(open(&dir).expect("a new directory"));
    for other in [identity("other", 1), identity("demo", 2)] {
        let error = DataDir::take(&dir.path().join("c"), other).expect_err("it is another's");
        assert!(matches!(error, DataDirError::Other { .. }), "{error}");
    }
    let error = DataDir::take(dir.path(), identity("demo", 1)).expect_err("it holds something");
    assert!(matches!(error, DataDirError::Stranger { .. }), "{error}");
}

#[test]
fn no_damage_passes_for_a_shorter_log() {
    let dir = scratch();
    let (mut store, _) = open(&dir).expect("a new directory");
    for index in 1..=50 {
        store.persist(&persist(vec![entry(index, 1)])).expect("room on the disk");
    }
    drop(store);
    let (_, whole) = open(&dir).expect("our own directory");
    let path = dir.path().join("c/log/db");
    let bytes = fs::read(&path).expect("sled's file");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("it is not empty");
    let mut refused = 0;
    for position in (0..used).step_by(used / 40) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x55;
        fs::write(&path, damaged).expect("a writable file");
        let _ = fs::remove_dir_all(dir.path().join("c/log/blobs"));
        for file in fs::read_dir(dir.path().join("c/log")).expect("sled's directory") {
            let file = file.expect("a name").path();
            if file.to_string_lossy().contains("snap.") {
                fs::remove_file(file).expect("a removable file");
            }
        }
        match open(&dir) {
            Ok((_, saved)) => assert_eq!(saved, whole, "byte {position}"),
            Err(error) => {
                assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no position mattered");
}
