//! Everything a decision rests on, as one value that a test can write down. Filled by the runner.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{
    goal::Goal,
    group::{Cohort, Storage},
    ids::{ClusterName, GroupId, MemberId},
    numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
    observed::{StandbySeen, TableSeen},
};

use super::{action::Action, history::Lineage};

/// A step on a data directory that was begun; written durably before the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unfinished {
    /// A clone is being fetched: what is there is not to be used.
    Cloning,
    /// `pg_rewind` is at work, or failed: what is there is a mixture.
    Rewinding,
    /// Cloned or rewound: usable once `PostgreSQL` has replayed it to consistency.
    Settling,
}

/// What the data directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Data {
    /// Nothing.
    Empty,
    /// A usable data directory.
    Ready {
        /// `PostgreSQL`'s system identifier.
        system_identifier: u64,
    },
    /// See [`Unfinished`].
    Unfinished(Unfinished),
}

/// `PostgreSQL` in recovery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standby {
    /// How far its log reaches.
    pub position: Position,
    /// What it has replayed.
    pub replayed: Lsn,
    /// A WAL receiver process exists.
    pub receiver: bool,
    /// The WAL receiver streams.
    pub streaming: bool,
    /// Whom it is pointed at.
    pub upstream: Option<MemberId>,
    /// No receiver, and `position` cannot grow without one: all there is has been replayed, or received.
    pub still: bool,
    /// Its physical replication slots.
    pub slots: BTreeSet<String>,
}

/// `PostgreSQL` out of recovery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Primary {
    /// Its timeline and the end of its flushed log.
    pub position: Position,
    /// Its WAL senders that carry a member's name.
    pub standbys: Vec<StandbySeen>,
    /// Its physical replication slots.
    pub slots: BTreeSet<String>,
    /// Distributed tables, where it is a query group's.
    pub tables: Vec<TableSeen>,
    /// Why its own trial write failed, if it did.
    pub trouble: Option<String>,
}

/// What `PostgreSQL` was doing when last looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Postgres {
    /// No postmaster.
    Down {
        /// Why it ended without being told to.
        crashed: Option<String>,
    },
    /// Does not answer yet.
    Starting,
    /// Does not answer any more.
    Hung,
    /// In recovery.
    Standby(Standby),
    /// Not in recovery.
    Primary(Primary),
}

/// What was learned from the primary that is to be followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ancestry {
    /// The timeline it is about.
    pub timeline: Timeline,
    /// Its history file.
    pub lineage: Lineage,
    /// The primary still has the WAL that comes after this member's position.
    pub has_our_wal: bool,
    /// When it was fetched.
    pub fetched: Millis,
}

/// An action that failed lately; the same one waits until `until`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub action: Action,
    /// Why, for people.
    pub message: String,
    /// How often in a row.
    pub times: u32,
    /// Not again before this.
    pub until: Millis,
}

/// The world as the agent knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// This cluster.
    pub cluster: ClusterName,
    /// This container.
    pub me: MemberId,
    /// Drawn when its directory was begun.
    pub birth: u64,
    /// What to do with data that belongs to a group no more.
    pub storage: Storage,
    /// The group its data belongs to, once it has had one.
    pub group: Option<GroupId>,
    /// Revision at which it joined that group.
    pub joined: Revision,
    /// That group has let go of it, at this revision.
    pub released: Option<Revision>,
    /// Monotonic time.
    pub now: Millis,
    /// Newest goal accepted in this incarnation.
    pub goal: Option<Goal>,
    /// Newest revision received in this incarnation.
    pub newest_revision: Revision,
    /// Durable: no epoch below this is served.
    pub promise: Epoch,
    /// What is on disk.
    pub data: Data,
    /// What `PostgreSQL` does.
    pub postgres: Postgres,
    /// The action that runs and excludes others.
    pub under_way: Option<Action>,
    /// The action that waits for standbys to acknowledge, beside the one above.
    pub awaiting: Option<Action>,
    /// The newest epoch row that was acknowledged to this agent.
    pub acknowledged: Epoch,
    /// The cohort that this `PostgreSQL`'s processes are certain to use.
    pub applied: Option<Cohort>,
    /// The receiver was cut for this epoch since `PostgreSQL` last started or was re-pointed.
    pub cut: Option<Epoch>,
    /// Roles, database and schema were made sure of in this epoch.
    pub objects: Epoch,
    /// What is known of the primary to follow.
    pub ancestry: Option<Ancestry>,
    /// Since when a standby that should stream does not.
    pub not_streaming_since: Option<Millis>,
    /// Since when `PostgreSQL` is starting.
    pub starting_since: Option<Millis>,
    /// When a coordinator last answered.
    pub coordinator_seen: Millis,
    /// When a line to a leader was last open.
    pub leader_seen: Millis,
    /// When the cohort was last seen streaming, on a primary.
    pub cohort_seen: Millis,
    /// The last failure.
    pub failure: Option<Failure>,
}
