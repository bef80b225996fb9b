//! A small model of `PostgreSQL`: a log of records on timelines, synchronous commit, promotion, crash.
//! The log is durable; everything else is lost with the postmaster.

use std::collections::{BTreeMap, BTreeSet};

use howdah::model::{
    group::Cohort,
    ids::MemberId,
    numbers::{Lsn, Position, Timeline},
};

/// One record of the log. Ids are never used twice, so two logs are the same history exactly as far as
/// their ids are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    pub timeline: u32,
    pub id: u64,
    /// The row of `howdah.epoch` it writes.
    pub row: Option<u64>,
}

/// A commit that waits for its acknowledgements.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    pub lsn: u64,
    pub id: u64,
    pub row: Option<u64>,
}

/// What it does.
#[derive(Debug, Clone)]
pub enum Running {
    Down {
        crashed: Option<String>,
    },
    /// Comes up fenced.
    Starting {
        until: u64,
    },
    Standby {
        upstream: Option<MemberId>,
        streaming: bool,
    },
    Promoting {
        until: u64,
        timeline: u32,
    },
    Primary(Primary),
}

/// A primary's memory.
#[derive(Debug, Clone)]
pub struct Primary {
    /// Number of this run, to tell sessions of different runs apart.
    pub run: u64,
    /// `None`: `ANY 1 (howdah_fenced)`, which nobody is.
    pub applied: Option<Cohort>,
    /// What each standby has flushed, and when it last said so.
    pub flushed: BTreeMap<MemberId, (u64, u64)>,
    pub waiting: Vec<Commit>,
    /// Since when it shuts down.
    pub stopping: Option<u64>,
}

/// One `PostgreSQL` with its data directory.
#[derive(Debug, Clone)]
pub struct Postgres {
    pub system_identifier: Option<u64>,
    /// A clone or rewind has not ended: the log is not to be relied on.
    pub unfinished: bool,
    pub wal: Vec<Record>,
    pub running: Running,
}

/// A standby whose last word is older than this is not counted as streaming by its primary.
pub const SENDER_TIMEOUT: u64 = 1_000;

impl Postgres {
    pub fn empty() -> Self {
        Self { system_identifier: None, unfinished: false, wal: Vec::new(), running: Running::Down { crashed: None } }
    }

    pub fn timeline(&self) -> u32 {
        self.wal.last().map_or(0, |record| record.timeline)
    }

    pub fn position(&self) -> Position {
        Position { timeline: Timeline(self.timeline()), lsn: Lsn(self.wal.len() as u64) }
    }

    pub fn start(&mut self, until: u64) {
        self.running = Running::Starting { until };
    }

    pub fn primary(&mut self) -> Option<&mut Primary> {
        if let Running::Primary(primary) = &mut self.running { Some(primary) } else { None }
    }

    /// Ends the run; a crash is noticed by the agent.
    pub fn stop(&mut self, crashed: Option<&str>) {
        self.running = Running::Down { crashed: crashed.map(str::to_owned) };
    }

    /// What time alone changes. True: it was just promoted.
    pub fn tick(&mut self, now: u64, next_id: &mut u64) -> bool {
        match self.running {
            Running::Starting { until } if now >= until => {
                self.running = Running::Standby { upstream: None, streaming: false };
            }
            Running::Promoting { until, timeline } if now >= until => {
                *next_id += 1;
                self.wal.push(Record { timeline, id: *next_id, row: None });
                let (flushed, waiting) = (BTreeMap::new(), Vec::new());
                let primary = Primary { run: *next_id, applied: None, flushed, waiting, stopping: None };
                self.running = Running::Primary(primary);
                return true;
            }
            _ => {}
        }
        false
    }

    /// Writes a record and waits; `None`: it is no primary, or shuts down.
    pub fn write(&mut self, id: u64, row: Option<u64>) -> Option<()> {
        let timeline = self.timeline();
        let lsn = self.wal.len() as u64 + 1;
        let primary = self.primary().filter(|primary| primary.stopping.is_none())?;
        primary.waiting.push(Commit { lsn, id, row });
        self.wal.push(Record { timeline, id, row });
        Some(())
    }

    /// Commits that have their acknowledgements now.
    pub fn acknowledged(&mut self) -> Vec<Commit> {
        let Some(primary) = self.primary() else { return Vec::new() };
        let Some(applied) = &primary.applied else { return Vec::new() };
        let flushed = &primary.flushed;
        let enough = |commit: &Commit| {
            let acks = applied.standbys.iter().filter(|id| flushed.get(*id).is_some_and(|f| f.0 >= commit.lsn));
            acks.count() >= applied.acks as usize
        };
        let (done, waiting) = primary.waiting.iter().partition(|commit| enough(commit));
        primary.waiting = waiting;
        done
    }

    /// Where this history leaves `timeline`: the number of records up to its end.
    fn end_of(&self, timeline: u32) -> Option<usize> {
        self.wal.iter().rposition(|record| record.timeline == timeline).map(|last| last + 1)
    }

    /// What the server of `upstream` checks when this standby asks to stream: by timeline and position,
    /// as `PostgreSQL` does, not by content.
    pub fn may_stream_from(&self, upstream: &Self) -> bool {
        upstream.end_of(self.timeline()).is_some_and(|end| self.wal.len() <= end)
    }

    pub fn has_all(&self, ids: &BTreeSet<u64>) -> Option<u64> {
        let mine: BTreeSet<u64> = self.wal.iter().map(|record| record.id).collect();
        ids.difference(&mine).next().copied()
    }
}
