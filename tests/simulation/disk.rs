//! A coordinator's disk as `log_store` uses it: one write at a time, durable when it has ended. What was not
//! synced may vanish in a crash, wholly or in part; what was synced never does.

use howdah::coordinator::core::replica::{Persist, Saved};
use raft::eraftpb::Snapshot;

use super::random::Random;

#[derive(Clone)]
pub enum Write {
    Turn(Box<Persist>),
    Compaction(Box<Snapshot>),
}

#[derive(Default)]
pub struct Disk {
    pub synced: Saved,
    /// Under way.
    writing: Option<Write>,
    /// Every write takes at least this long.
    pub latency: u64,
    /// Writes that a crash left in part.
    pub torn: u64,
}

impl Disk {
    pub fn begin(&mut self, write: Write) {
        assert!(self.writing.replace(write).is_none(), "the driver writes one thing after another");
    }

    /// The write is durable.
    pub fn end(&mut self) {
        if let Some(write) = self.writing.take() {
            self.write(write);
        }
    }

    fn write(&mut self, write: Write) {
        let saved = &mut self.synced;
        match write {
            Write::Compaction(snapshot) => {
                let index = snapshot.get_metadata().index;
                saved.entries.retain(|entry| entry.index > index);
                saved.snapshot = *snapshot;
            }
            Write::Turn(persist) => {
                if let Some(hard_state) = persist.hard_state {
                    saved.hard_state = hard_state;
                }
                if let Some(snapshot) = persist.snapshot {
                    saved.entries.clear();
                    saved.snapshot = snapshot;
                }
                if let Some(first) = persist.entries.first() {
                    let first = first.index;
                    saved.entries.retain(|entry| entry.index < first);
                }
                saved.entries.extend(persist.entries);
            }
        }
    }

    /// What was under way is there, or is not, or in part: a store that keeps less than the whole of a turn
    /// must not harm anyone, because nobody was told of it.
    pub fn crash(&mut self, random: &mut Random) {
        let Some(write) = self.writing.take() else { return };
        match write {
            _ if random.chance(40) => {}
            Write::Turn(mut persist) if persist.snapshot.is_none() && random.chance(60) => {
                self.torn += 1;
                let kept = random.index(persist.entries.len() + 1);
                persist.entries.truncate(kept);
                if let Some(hard_state) = &mut persist.hard_state {
                    // It is about entries that may be missing now.
                    hard_state.commit = self.synced.hard_state.commit;
                }
                self.write(Write::Turn(persist));
            }
            whole => self.write(whole),
        }
    }

    pub fn last(&self) -> u64 {
        self.synced.entries.last().map_or(self.synced.snapshot.get_metadata().index, |entry| entry.index)
    }

    /// Whether the entry is on it, itself or in a snapshot.
    pub fn has(&self, index: u64, data: &[u8]) -> bool {
        let in_snapshot = self.synced.snapshot.get_metadata().index >= index;
        in_snapshot || self.synced.entries.iter().rev().any(|entry| entry.index == index && entry.data == data)
    }

    /// A disk that lies: what it said was durable is not.
    pub fn forget(&mut self) {
        self.synced.entries.pop();
        let last = self.last();
        self.synced.hard_state.commit = self.synced.hard_state.commit.min(last);
    }
}
