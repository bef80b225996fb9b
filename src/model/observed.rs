//! What agents and routers report. May be stale, is never replicated; decisions that need certainty
//! compare epochs and revisions in it.

use serde::{Deserialize, Serialize};

use super::{
    group::{Cohort, Container},
    ids::{ClusterName, GroupId, MemberId, RouterId},
    numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
};

/// An agent's first words on its stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The cluster it belongs to; a coordinator of another one refuses.
    pub cluster: ClusterName,
    /// Its container.
    pub container: Container,
    /// Chosen when the agent process began; a new one means it was restarted.
    pub incarnation: u64,
}

/// What an agent's data directory holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataState {
    /// Nothing.
    Empty,
    /// A usable data directory of this cluster.
    Ready {
        /// Its system identifier.
        system_identifier: u64,
    },
    /// A clone or rewind is under way, or was interrupted: it cannot be elected.
    Unfinished,
}

/// A standby as its primary sees it (`pg_stat_replication`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbySeen {
    /// Its `application_name`.
    pub member: MemberId,
    /// True in state `streaming`.
    pub streaming: bool,
    /// What it has flushed.
    pub flushed: Lsn,
    /// Its WAL sender counts it (`sync_priority > 0`).
    pub synchronous: bool,
}

/// A distributed or reference table, as the query group's primary has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSeen {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `distributed` or `reference`.
    pub kind: String,
    /// Distribution column; empty for a reference table.
    pub key: String,
    /// Colocation group; 0 for a reference table.
    pub colocation: u32,
}

/// What `PostgreSQL` is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "running", rename_all = "lowercase")]
pub enum PostgresSeen {
    /// No postmaster.
    Down {
        /// It ended without being told to; the reason it gave, for people.
        crashed: Option<String>,
    },
    /// A postmaster that does not answer queries yet (recovery, start).
    Starting,
    /// In recovery.
    Standby {
        /// How far its log reaches: the larger of received and replayed.
        position: Position,
        /// What is replayed.
        replayed: Lsn,
        /// The WAL receiver streams.
        streaming: bool,
        /// Whom it is pointed at; `None` is fenced.
        upstream: Option<MemberId>,
    },
    /// Not in recovery.
    Primary {
        /// Its timeline and the end of its log.
        position: Position,
        /// The newest row of `howdah.epoch` that was *acknowledged* to this agent.
        epoch: Epoch,
        /// The cohort its WAL senders are known to use; `ordered_at` as in the order.
        applied: Cohort,
        /// Standbys connected to it.
        standbys: Vec<StandbySeen>,
        /// Distributed tables (query group only).
        tables: Vec<TableSeen>,
    },
}

/// An agent's promise kept and its answer to `Order::Recruit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recruited {
    /// The epoch it was recruited for; its promise is durable.
    pub epoch: Epoch,
    /// How far its log reaches, standing still (a live primary: at least this far).
    pub position: Position,
    /// It is a live primary in good health: may be elected again without a restart.
    pub live_primary: bool,
}

/// One report of an agent, several a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who.
    pub member: MemberId,
    /// Chosen when the agent process began; a new one means it was restarted.
    pub incarnation: u64,
    /// Grows with every report of an incarnation.
    pub sequence: u64,
    /// It will serve no epoch below this (durable).
    pub promise: Epoch,
    /// Newest goal it has received.
    pub goal_revision: Revision,
    /// Its data directory.
    pub data: DataState,
    /// Its `PostgreSQL`.
    pub postgres: PostgresSeen,
    /// Answer to a recruitment; `None` while not recruited for the promised epoch.
    pub recruited: Option<Recruited>,
    /// Name of the agent's state, for people (`agent::core::states`).
    pub state: String,
    /// Nothing is wrong and nothing is under way.
    pub healthy: bool,
    /// What is wrong or under way, in one sentence; empty if nothing.
    pub note: String,
    /// Agent's process id, for people on the same machine.
    pub pid: u32,
    /// Postmaster's process id, where one runs.
    pub postmaster_pid: Option<u32>,
    /// Router's process id, where one runs.
    pub router_pid: Option<u32>,
    /// Data directory, for people.
    pub data_dir: String,
    /// Signs of what may come.
    pub signs: Signs,
}

/// What an agent notices beside the state of its `PostgreSQL`: nothing here says what it *is*, everything
/// how far it can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Signs {
    /// Times in a row that `PostgreSQL` ended without being told to, each soon after its start.
    pub crashes: u32,
    /// Room on the disk under the data directory.
    pub disk: Option<Disk>,
    /// A standby that streams: how long ago its primary last sent anything.
    pub stream_silence: Option<Millis>,
}

/// Room on a disk, in bytes, as an unprivileged user has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Left.
    pub free: u64,
    /// In all.
    pub total: u64,
}

impl Disk {
    /// Below this little can still be written: three segments of WAL.
    pub const FULL: u64 = 48 << 20;
    /// People are told below this share of the whole, in per cent, or below [`Disk::LOW`] bytes.
    const LOW_PER_CENT: u64 = 10;
    /// On a large disk a tenth is plenty.
    const LOW: u64 = 10 << 30;

    /// No room: writes fail, or are about to.
    pub fn is_full(self) -> bool {
        self.free < Self::FULL
    }

    /// Somebody should make room.
    pub fn is_low(self) -> bool {
        self.free < Self::LOW.min(self.total / 100 * Self::LOW_PER_CENT)
    }
}

impl Report {
    /// Where its log ends, if `PostgreSQL` answers.
    pub fn position(&self) -> Option<Position> {
        match &self.postgres {
            PostgresSeen::Standby { position, .. } | PostgresSeen::Primary { position, .. } => Some(*position),
            PostgresSeen::Down { .. } | PostgresSeen::Starting => None,
        }
    }

    /// The timeline of its log, if `PostgreSQL` answers.
    pub fn timeline(&self) -> Option<Timeline> {
        self.position().map(|position| position.timeline)
    }
}

/// One report of a router, several a second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterReport {
    /// Who.
    pub router: RouterId,
    /// Where clients reach it.
    pub host: String,
    /// SQL port.
    pub port: u16,
    /// Read-only SQL port; 0 where it has none.
    pub read_only_port: u16,
    /// Topology it works by.
    pub topology: Revision,
    /// Client sessions.
    pub sessions: u32,
    /// Transactions in progress on each group's primary, groups with none left out.
    pub open_transactions: Vec<(GroupId, u32)>,
    /// Process id.
    pub pid: u32,
}

/// Where a router's clients reach it, for the other routers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RouterAddress {
    /// Who.
    pub router: RouterId,
    /// Host.
    pub host: String,
    /// SQL port.
    pub port: u16,
}
