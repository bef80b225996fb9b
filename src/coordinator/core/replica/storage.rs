//! The log as raft-rs reads it: in memory, because between two snapshots it is small. What is durable
//! is the driver's business (`coordinator::log_store`). Called by `replica`.

use raft::{
    Error, GetEntriesContext, RaftState, Result, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
    util::limit_size,
};

/// Entries since the last compaction, and the newest snapshot.
#[derive(Debug)]
pub struct MemoryLog {
    hard_state: HardState,
    /// Who votes and who learns, after the newest entry applied.
    conf_state: ConfState,
    /// `conf_state` is newer than the snapshot.
    reconfigured: bool,
    snapshot: Snapshot,
    /// Index and term of the entry just before `entries`.
    before: (u64, u64),
    entries: Vec<Entry>,
}

impl MemoryLog {
    /// What was durable when the process began; `founders` vote until the first entry, or snapshot, says
    /// otherwise.
    pub fn new(founders: &[u64], mut hard_state: HardState, snapshot: Snapshot, entries: Vec<Entry>) -> Self {
        // A commit index alone is not made durable, so the one on disk may be from before the snapshot; but
        // what a snapshot contains was committed, and raft-rs does not start with a log that says otherwise.
        hard_state.commit = hard_state.commit.max(snapshot.get_metadata().index);
        let conf_state = if snapshot.get_metadata().index > 0 {
            snapshot.get_metadata().get_conf_state().clone()
        } else {
            ConfState { voters: founders.to_vec(), ..ConfState::default() }
        };
        let before = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        Self { hard_state, conf_state, reconfigured: false, snapshot, before, entries }
    }

    fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    /// Position of `index` in `entries`.
    fn slot(&self, index: u64) -> usize {
        usize::try_from(index - self.before.0 - 1).expect("the log is in memory")
    }

    /// Raft's vote, term and commit index.
    pub fn hard_state(&self) -> &HardState {
        &self.hard_state
    }

    /// Raft's membership as of the newest entry applied.
    pub fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// An entry that was just applied has changed it.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
        self.reconfigured = true;
    }

    /// The snapshot does not contain the newest change of membership. It soon must: a newcomer begins by a
    /// snapshot, and refuses one that does not name it.
    pub fn reconfigured(&self) -> bool {
        self.reconfigured
    }

    /// Changes them.
    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Appends; entries from the first new one on that differ are replaced.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.before.0, "raft overwrites only what is not compacted");
        assert!(first.index <= self.last() + 1, "raft leaves no gap");
        let keep = self.slot(first.index);
        self.entries.truncate(keep);
        self.entries.extend_from_slice(entries);
    }

    /// The leader's snapshot instead of what we had.
    pub fn restore(&mut self, snapshot: Snapshot) {
        self.before = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        self.entries.clear();
        self.conf_state = snapshot.get_metadata().get_conf_state().clone();
        self.reconfigured = false;
        self.snapshot = snapshot;
    }

    /// Our own snapshot of the state after `index`, with so many entries before it kept; gives it back for
    /// the disk.
    pub fn compact(&mut self, index: u64, state: Vec<u8>, trailing: usize) -> Result<Snapshot> {
        let term = self.term(index)?;
        let mut snapshot = Snapshot { data: state.into(), ..Snapshot::default() };
        let metadata = snapshot.mut_metadata();
        (metadata.index, metadata.term) = (index, term);
        metadata.set_conf_state(self.conf_state.clone());
        self.snapshot = snapshot.clone();
        // Behind a change of membership nothing is kept: whoever lacks these entries may be a newcomer that
        // began with no membership at all, and can only begin by the snapshot.
        let keep = if std::mem::take(&mut self.reconfigured) { 0 } else { trailing };
        let cut = (self.slot(index) + 1).saturating_sub(keep);
        if let Some(last) = self.entries.drain(..cut).next_back() {
            self.before = (last.index, last.term);
        }
        Ok(snapshot)
    }

    /// Index of the newest snapshot.
    pub fn snapshot_index(&self) -> u64 {
        self.snapshot.get_metadata().index
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.before.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "raft asks for what it was told is there");
        let mut entries = self.entries[self.slot(low)..self.slot(high)].to_vec();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        match index {
            _ if index == self.before.0 => Ok(self.before.1),
            _ if index < self.before.0 => Err(Error::Store(StorageError::Compacted)),
            _ if index > self.last() => Err(Error::Store(StorageError::Unavailable)),
            _ => Ok(self.entries[self.slot(index)].term),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.before.0 + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> Result<Snapshot> {
        if self.reconfigured || self.snapshot_index() < request_index.max(1) {
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(self.snapshot.clone())
    }
}
