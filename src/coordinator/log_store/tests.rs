//! What is written is read; what is damaged or another's is refused.

use tempfile::TempDir;

use super::*;
use crate::{
    coordinator::data_dir::{Identity, Origin, Wanted},
    model::{coordinator::Founder, ids::CoordinatorId},
};

fn wanted(cluster: &str, id: u64) -> Wanted {
    let cluster = cluster.parse().expect("a name");
    Wanted { cluster, founder: Some(CoordinatorId(id)), url: format!("http://c:{id}") }
}

fn take(dir: &TempDir, wanted: &Wanted) -> Result<(DataDir, Option<Identity>), DataDirError> {
    DataDir::take(&dir.path().join("c"), wanted)
}

pub fn open(dir: &TempDir) -> Result<(LogStore, Saved), OpenError> {
    let (directory, identity) = take(dir, &wanted("demo", 1))?;
    if identity.is_none() {
        let cluster = "demo".parse().expect("a name");
        let founder = Founder { url: "http://c:1".into(), directory: directory.number() };
        directory.settle(&cluster, CoordinatorId(1), Origin::Founders([(CoordinatorId(1), founder)].into()))?;
    }
    LogStore::open(directory)
}

/// Copies a directory, as a restore would.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a scratch directory");
    for file in fs::read_dir(from).expect("a directory") {
        let path = file.expect("a name").path();
        let target = to.join(path.file_name().expect("a name"));
        if path.is_dir() { copy(&path, &target) } else { assert!(fs::copy(&path, &target).is_ok()) }
    }
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
    for other in [wanted("other", 1), wanted("demo", 2)] {
        let error = take(&dir, &other).expect_err("it is another's");
        assert!(matches!(error, DataDirError::Other { .. }), "{error}");
    }
    let error = DataDir::take(dir.path(), &wanted("demo", 1)).expect_err("it holds something");
    assert!(matches!(error, DataDirError::Stranger { .. }), "{error}");
}

#[test]
fn a_number_stays_with_its_directory() {
    let dir = scratch();
    let number = |dir: &TempDir| take(dir, &wanted("demo", 1)).expect("ours").0.number();
    let first = number(&dir);
    assert_eq!(number(&dir), first, "an interrupted start keeps it");
    drop(open(&dir).expect("ours"));
    assert_eq!(number(&dir), first);
    assert_ne!(number(&scratch()), first);
}

#[test]
fn one_that_joined_is_known_by_its_address() {
    let dir = scratch();
    let joining = Wanted { founder: None, ..wanted("demo", 3) };
    let (directory, _) = take(&dir, &joining).expect("new");
    let origin = Origin::Joined { url: "http://c:3".into(), coordinators: [].into() };
    let settled = directory.settle(&joining.cluster, CoordinatorId(4), origin).expect("room on the disk");
    drop(directory);
    // Started by the settings of the founder whose place it took.
    assert_eq!(take(&dir, &wanted("demo", 3)).expect("ours").1, Some(settled));
    let error = take(&dir, &wanted("demo", 4)).expect_err("another address");
    assert!(matches!(error, DataDirError::Other { .. }), "{error}");
}

#[test]
fn the_first_version_s_directory_is_read_and_a_later_one_s_refused() {
    let dir = scratch();
    drop(open(&dir).expect("a new directory"));
    let path = dir.path().join("c/identity.json");
    fs::write(&path, r#"{"format":1,"cluster":"demo","coordinator":1,"voters":[1,2,3]}"#).expect("a writable file");
    fs::remove_file(dir.path().join("c/number")).expect("it is there");
    let (directory, identity) = take(&dir, &wanted("demo", 1)).expect("the first version's");
    assert_eq!(directory.number(), crate::model::coordinator::UNNUMBERED);
    let voters = [1, 2, 3].map(CoordinatorId).to_vec();
    assert_eq!(identity.map(|it| it.origin), Some(Origin::Voters(voters)));
    drop(directory);
    fs::write(&path, r#"{"format":3,"cluster":"demo","coordinator":"one"}"#).expect("a writable file");
    let error = take(&dir, &wanted("demo", 1)).expect_err("a later version's");
    assert!(matches!(error, DataDirError::Newer { found: 3, .. }) && error.to_string().contains("upgrade"), "{error}");
    fs::write(&path, r#"{"format":2,"clu"#).expect("a writable file");
    let error = take(&dir, &wanted("demo", 1)).expect_err("cut short");
    assert!(matches!(error, DataDirError::Damaged { .. }) && error.to_string().contains("replace"), "{error}");
}

#[test]
fn a_retired_directory_is_not_started_with_again() {
    let dir = scratch();
    let (store, _) = open(&dir).expect("a new directory");
    store.retire().expect("room on the disk");
    drop(store);
    let error = take(&dir, &wanted("demo", 1)).expect_err("it was removed");
    assert!(matches!(error, DataDirError::Retired { coordinator: CoordinatorId(1), .. }), "{error}");
}

/// Something done to a coordinator's directory.
type Harm = fn(&Path);

#[test]
fn a_log_without_its_parts_is_damaged() {
    let whole = scratch();
    let (mut store, _) = open(&whole).expect("a new directory");
    for index in 1..=50 {
        store.persist(&persist(vec![entry(index, 1)])).expect("room on the disk");
    }
    drop(store);
    let harms: [(&str, Harm); 6] = [
        ("cut short", |dir| {
            let file = File::options().write(true).open(dir.join("log/db")).expect("sled's file");
            file.set_len(file.metadata().expect("it is there").len() / 3).expect("a writable file");
        }),
        ("emptied", |dir| fs::write(dir.join("log/db"), b"").expect("a writable file")),
        ("no log", |dir| fs::remove_dir_all(dir.join("log")).expect("it is there")),
        ("no witness", |dir| fs::remove_file(dir.join("witness")).expect("it is there")),
        ("half a witness", |dir| fs::write(dir.join("witness"), b"half").expect("a writable file")),
        ("nonsense", |dir| fs::write(dir.join("log/db"), vec![0x5a; 4096]).expect("a writable file")),
    ];
    for (name, harm) in harms {
        let dir = scratch();
        copy(&whole.path().join("c"), &dir.path().join("c"));
        harm(&dir.path().join("c"));
        let error = open(&dir).err().unwrap_or_else(|| panic!("{name}: taken for whole"));
        assert!(matches!(error, OpenError::Damaged { .. }) && error.to_string().contains("replace"), "{name}: {error}");
    }
}

/// Entries, vote and snapshot as the log has them, damaged below sled's own checksums.
#[test]
fn damage_to_a_record_is_named() {
    for key in [HARD_STATE.to_vec(), entry_key(7).to_vec(), SNAPSHOT.to_vec(), SEQUENCE.to_vec()] {
        let dir = scratch();
        let (mut store, _) = open(&dir).expect("a new directory");
        store.persist(&persist((1..=9).map(|index| entry(index, 1)).collect())).expect("room on the disk");
        store.compact(&snapshot(4, 100)).expect("room on the disk");
        let mut record = store.db.get(&key).expect("readable").expect("it is there").to_vec();
        *record.last_mut().expect("not empty") ^= 1;
        store.db.insert(&key, record).expect("room on the disk");
        store.db.flush().expect("room on the disk");
        drop(store);
        let error = open(&dir).err().expect("damaged").to_string();
        assert!(error.contains("the checksum of") && error.contains("Keep it aside"), "{error}");
    }
    let dir = scratch();
    let (mut store, _) = open(&dir).expect("a new directory");
    store.persist(&persist((1..=9).map(|index| entry(index, 1)).collect())).expect("room on the disk");
    store.db.remove(entry_key(5)).expect("room on the disk");
    store.db.flush().expect("room on the disk");
    drop(store);
    let error = open(&dir).err().expect("damaged").to_string();
    assert!(error.contains("entry 5 is missing"), "{error}");
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
