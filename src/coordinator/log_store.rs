//! What a coordinator must not forget, on disk: Raft's vote and term, the entries, the snapshot. The
//! only file that knows sled. Called by `driver`, which sends nothing before it is durable here.
//!
//! `<data_dir>/identity.json` says whose directory it is, `lock` keeps a second process out, `log/` is
//! sled's, and `witness` says how many writes `log/` must at least contain: sled takes a damaged
//! record for the end of its log and would go on without what follows.
//!
//! sled 0.34's `flush` is `sync_file_range`, which survives a crash of the process but not of the
//! machine (sled #1351, #1452); so every flush is followed by `fdatasync` of its files.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    panic,
    path::{Path, PathBuf},
    time::Duration,
};

use protobuf::Message;
use raft::eraftpb::{Entry, HardState, Snapshot};

use super::{
    core::replica::{Persist, Saved},
    data_dir::{DataDir, DataDirError},
};

/// Memory for sled's cache: the log between two snapshots fits.
const CACHE_BYTES: u64 = 16 << 20;
/// A log that is in use is asked for this often, two seconds in all: a process that was killed is gone by then.
const LOCK_TRIES: u32 = 100;
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const HARD_STATE: &[u8] = b"hard-state";
const SNAPSHOT: &[u8] = b"snapshot";
const SEQUENCE: &[u8] = b"sequence";
const ENTRY: u8 = b'e';

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory is not this coordinator's.
    #[error(transparent)]
    Directory(#[from] DataDirError),
    /// It is, but its content is not what was written.
    #[error(
        "the log in {} is damaged: {what}. Keep it aside, start this coordinator with an empty directory, and run \
         `howdah coordinator-member replace` with its number; where it was the only one, restore the newest copy of \
         the directory", path.display()
    )]
    Damaged {
        /// Directory.
        path: PathBuf,
        /// How it shows.
        what: String,
    },
    /// The disk does not work.
    #[error("cannot read the log in {}: {source}", path.display())]
    Io {
        /// Directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What could not be made durable; the process must stop.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// sled's report.
    #[error("cannot write the log: {0}; free or repair the disk, then start again")]
    Sled(#[from] sled::Error),
    /// The operating system's report.
    #[error("cannot write the log to the disk: {0}; free or repair the disk, then start again")]
    Io(#[from] io::Error),
}

/// An open log.
pub struct LogStore {
    db: sled::Db,
    /// sled's own file, for `fdatasync`.
    db_file: File,
    log_dir: PathBuf,
    /// Blobs and sled's snapshots that are durable already.
    synced: BTreeSet<PathBuf>,
    witness: File,
    /// Number of the last write.
    sequence: u64,
    /// Indexes on disk: the first, and the one after the last.
    entries: std::ops::Range<u64>,
    /// Keeps the lock.
    directory: DataDir,
}

impl LogStore {
    /// Opens the log in a directory that is ours, and reads all of it.
    pub fn open(directory: DataDir) -> Result<(Self, Saved), OpenError> {
        let path = directory.path().to_owned();
        let io = |source| OpenError::Io { path: path.clone(), source };
        let damaged = |what: String| OpenError::Damaged { path: path.clone(), what };
        let witness = match directory.witness() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(damaged("its witness is missing".into()));
            }
            other => other.map_err(io)?,
        };
        let seen = read_witness(&witness).map_err(io)?.ok_or_else(|| damaged("its witness cannot be read".into()))?;
        let log_dir = path.join("log");
        let (db, saved, sequence) = open_and_read(&log_dir).map_err(damaged)?;
        if sequence < seen {
            return Err(damaged(format!("write {seen} was made, but only {sequence} are there")));
        }
        let db_file = File::options().read(true).write(true).open(log_dir.join("db")).map_err(io)?;
        sync_directory(&log_dir).and_then(|()| sync_directory(&path)).map_err(io)?;
        let after_snapshot = saved.snapshot.get_metadata().index + 1;
        let entries = after_snapshot..after_snapshot + saved.entries.len() as u64;
        let synced = BTreeSet::new();
        let store = Self { db, db_file, log_dir, synced, witness, sequence, entries, directory };
        Ok((store, saved))
    }

    /// This coordinator was removed: its directory is not to be started with again.
    pub fn retire(&self) -> io::Result<()> {
        self.directory.retire()
    }

    /// Makes a turn's changes durable, all or none.
    pub fn persist(&mut self, persist: &Persist) -> Result<(), WriteError> {
        let mut batch = sled::Batch::default();
        if let Some(hard_state) = &persist.hard_state {
            put(&mut batch, HARD_STATE, &encode(hard_state));
        }
        if let Some(snapshot) = &persist.snapshot {
            put(&mut batch, SNAPSHOT, &encode(snapshot));
            self.entries.clone().for_each(|index| batch.remove(&entry_key(index)));
            let next = snapshot.get_metadata().index + 1;
            self.entries = next..next;
        }
        if let Some(first) = persist.entries.first() {
            (first.index..self.entries.end).for_each(|index| batch.remove(&entry_key(index)));
            self.entries.end = first.index;
        }
        for entry in &persist.entries {
            assert_eq!(entry.index, self.entries.end, "raft leaves no gap");
            put(&mut batch, &entry_key(entry.index), &encode(entry));
            self.entries.end += 1;
        }
        self.write(batch)
    }

    /// Replaces the entries that our own snapshot contains by the snapshot.
    pub fn compact(&mut self, snapshot: &Snapshot) -> Result<(), WriteError> {
        let next = snapshot.get_metadata().index + 1;
        let mut batch = sled::Batch::default();
        put(&mut batch, SNAPSHOT, &encode(snapshot));
        (self.entries.start..next).for_each(|index| batch.remove(&entry_key(index)));
        self.entries.start = next;
        self.write(batch)
    }

    fn write(&mut self, mut batch: sled::Batch) -> Result<(), WriteError> {
        self.sequence += 1;
        put(&mut batch, SEQUENCE, &self.sequence.to_be_bytes());
        self.db.apply_batch(batch)?;
        self.db.flush()?;
        self.db_file.sync_data()?;
        self.sync_new_files()?;
        // Not synced: it may stay behind the log at a crash of the machine, never ahead of it.
        Ok(self.witness.write_all_at(&witness_bytes(self.sequence), 0)?)
    }

    /// Large values and sled's own snapshots are files of their own, written once.
    fn sync_new_files(&mut self) -> io::Result<()> {
        let mut new = Vec::new();
        for directory in [self.log_dir.clone(), self.log_dir.join("blobs")] {
            for file in fs::read_dir(&directory)? {
                let path = file?.path();
                let ours = path.parent().is_some_and(|parent| parent.ends_with("blobs"))
                    || path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("snap."));
                if ours && !self.synced.contains(&path) {
                    new.push(path);
                }
            }
        }
        for path in &new {
            match File::open(path).and_then(|file| file.sync_all()) {
                // sled removes what it no longer needs.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if !new.is_empty() {
            sync_directory(&self.log_dir)?;
            sync_directory(&self.log_dir.join("blobs"))?;
            // A bound, not a loss: files that are named again are synced again.
            self.synced.retain(|path| path.exists());
            self.synced.extend(new);
        }
        Ok(())
    }
}

/// Makes new and removed names in a directory durable.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The bytes of a witness that has seen `sequence` writes.
pub fn witness_bytes(sequence: u64) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&sequence.to_be_bytes());
    bytes[8..].copy_from_slice(&crc32fast::hash(&sequence.to_be_bytes()).to_be_bytes());
    bytes
}

/// `None`: it is not one.
fn read_witness(file: &File) -> io::Result<Option<u64>> {
    let mut bytes = [0; 12];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let sequence = u64::from_be_bytes(bytes[..8].try_into().expect("8 of 12 bytes"));
    Ok((bytes == witness_bytes(sequence)).then_some(sequence))
}

fn entry_key(index: u64) -> [u8; 9] {
    let mut key = [ENTRY; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn encode(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().expect("encoding to memory cannot fail: proto3 has no required fields")
}

/// The checksum covers the key: a value found under another key is damage, too.
fn checksum(key: &[u8], value: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_be_bytes()
}

fn put(batch: &mut sled::Batch, key: &[u8], value: &[u8]) {
    batch.insert(key, [&checksum(key, value), value].concat());
}

/// Everything, checked; or what is wrong with it.
fn read(db: &sled::Db) -> Result<(Saved, u64), String> {
    let mut saved = Saved::default();
    let mut sequence = 0;
    for record in db.iter() {
        let (key, record) = record.map_err(|error| error.to_string())?;
        let name = String::from_utf8_lossy(&key);
        let (sum, value) = record.split_at_checked(4).ok_or_else(|| format!("{name:?} is cut short"))?;
        if sum != checksum(&key, value) {
            return Err(format!("the checksum of {name:?} is wrong"));
        }
        match &*key {
            HARD_STATE => saved.hard_state = decode::<HardState>(value)?,
            SNAPSHOT => saved.snapshot = decode::<Snapshot>(value)?,
            SEQUENCE => sequence = u64::from_be_bytes(value.try_into().map_err(|_| "its sequence is cut short")?),
            [ENTRY, index @ ..] => {
                let entry = decode::<Entry>(value)?;
                if index != entry.index.to_be_bytes() {
                    return Err(format!("entry {} is in the place of another", entry.index));
                }
                saved.entries.push(entry);
            }
            _ => return Err(format!("{name:?} does not belong there")),
        }
    }
    let mut next = saved.snapshot.get_metadata().index;
    for entry in &saved.entries {
        next += 1;
        if entry.index != next {
            return Err(format!("entry {next} is missing"));
        }
    }
    if saved.hard_state.commit > next {
        return Err(format!("entry {} was committed, but the last is {next}", saved.hard_state.commit));
    }
    Ok((saved, sequence))
}

/// Waits for whoever had it open before: a process that is just ending, or sled's own threads.
fn open_when_free(config: &sled::Config) -> Result<sled::Db, String> {
    let mut left = LOCK_TRIES;
    loop {
        match config.open().map_err(|error| error.to_string()) {
            Err(error) if error.contains("could not acquire lock") && left > 0 => left -= 1,
            Err(error) if error.contains("could not acquire lock") => {
                return Err(format!("another process has it open: end that one first ({error})"));
            }
            other => return other,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// sled asserts what a damaged file may break: its panic is damage like any other, told once and by us.
fn open_and_read(log_dir: &Path) -> Result<(sled::Db, Saved, u64), String> {
    let attempt = || {
        let config = sled::Config::new().path(log_dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = open_when_free(&config)?;
        let (saved, sequence) = read(&db)?;
        Ok((db, saved, sequence))
    };
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let opened = panic::catch_unwind(attempt);
    panic::set_hook(hook);
    opened.unwrap_or_else(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref().copied());
        Err(text.unwrap_or("sled cannot make sense of it").replace('\n', " "))
    })
}

fn decode<M: Message>(bytes: &[u8]) -> Result<M, String> {
    M::parse_from_bytes(bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
