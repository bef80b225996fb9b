//! Whatever is done to the files of a log: all that was acknowledged is read back, or the coordinator refuses
//! to start. Never less, silently.

use proptest::prelude::*;

use super::{
    tests::{entry, open, persist, scratch, snapshot},
    *,
};

/// What the driver writes.
#[derive(Debug, Clone)]
enum Act {
    Append(u64),
    Overwrite(u64),
    Compact,
    Restore,
}

/// What happens to a file while nobody uses it.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index),
    CutOff(prop::sample::Index),
    Zero(prop::sample::Index, prop::sample::Index),
    Remove,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1_u64..5).prop_map(Act::Append),
        2 => (1_u64..4).prop_map(Act::Overwrite),
        1 => Just(Act::Compact),
        1 => Just(Act::Restore),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Damage::Flip),
        any::<prop::sample::Index>().prop_map(Damage::CutOff),
        (any::<prop::sample::Index>(), any::<prop::sample::Index>()).prop_map(|(a, b)| Damage::Zero(a, b)),
        Just(Damage::Remove),
    ]
}

/// Carries out `acts`; afterwards everything in them is acknowledged.
fn write(store: &mut LogStore, acts: &[Act]) {
    let (mut snapshot_at, mut last, mut term) = (0, 0, 1);
    for act in acts {
        match act {
            Act::Append(count) => {
                store.persist(&persist((1..=*count).map(|n| entry(last + n, term)).collect())).expect("room");
                last += count;
            }
            Act::Overwrite(count) => {
                term += 1;
                let first = (last + 1).saturating_sub(*count).max(snapshot_at + 1);
                store.persist(&persist(vec![entry(first, term)])).expect("room");
                last = first;
            }
            Act::Compact if last > snapshot_at => {
                snapshot_at = last;
                store.compact(&snapshot(last, 3_000)).expect("room");
            }
            Act::Compact => {}
            Act::Restore => {
                last += 10;
                snapshot_at = last;
                let restored = Persist { snapshot: Some(snapshot(last, 3_000)), ..persist(Vec::new()) };
                store.persist(&restored).expect("room");
            }
        }
    }
}

/// Every file below the coordinator's directory that holds what must not be lost.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for file in fs::read_dir(directory).expect("our directory").flatten() {
        let path = file.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.file_name().is_none_or(|name| name != "lock") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn spoil(path: &Path, damage: &Damage) {
    let mut bytes = fs::read(path).expect("a readable file");
    if bytes.is_empty() || matches!(damage, Damage::Remove) {
        return fs::remove_file(path).expect("a removable file");
    }
    match damage {
        Damage::Flip(at) => {
            let at = at.index(bytes.len());
            bytes[at] ^= 0x41;
        }
        Damage::CutOff(at) => bytes.truncate(at.index(bytes.len())),
        Damage::Zero(a, b) => {
            let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
            bytes[a.min(b)..a.max(b)].fill(0);
        }
        Damage::Remove => {}
    }
    fs::write(path, bytes).expect("a writable file");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_loses_silently(
        acts in prop::collection::vec(act(), 1..25),
        file in any::<prop::sample::Index>(),
        damage in damage(),
    ) {
        let dir = scratch();
        let (mut store, _) = open(&dir).expect("a new directory");
        write(&mut store, &acts);
        drop(store);
        let (store, whole) = open(&dir).expect("our own directory");
        drop(store);
        let files = files(&dir.path().join("c"));
        let path = &files[file.index(files.len())];
        spoil(path, &damage);
        match open(&dir) {
            Ok((_, saved)) => prop_assert_eq!(saved, whole, "{:?} of {}", damage, path.display()),
            // A clear error, and nothing was started.
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
