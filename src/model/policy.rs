//! What people want of a cluster: sizes, durability, time limits. Replicated by the coordinators.

use serde::{Deserialize, Serialize};

use super::numbers::Millis;

/// What a group does when the standbys it needs for an acknowledgement are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// Writes wait: `acks` never shrinks on its own.
    Strict,
    /// Writes go on with fewer acknowledgements, down to none, after `degrade_after`.
    Available,
}

/// Which standbys' acknowledgements count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AckZones {
    /// Every standby's.
    Any,
    /// Those of standbys in another zone than the primary's: a commit survives the loss of a zone. Members
    /// without a zone are all in the same one. Where no such standby is there, `strict` waits for one and
    /// `available` goes on with fewer acknowledgements.
    Other,
}

/// What a client may read for a moment when a primary is replaced that cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reads {
    /// A client that is cut off together with the old primary may read what was there before, until that
    /// primary fences itself (`isolation_timeout`). The next reign does not wait for it.
    Available,
    /// The next reign opens only once the old primary answers no reads any more ([`Policy::fenced_after`]).
    Strict,
}

/// `wal_sender_timeout` of every member: how long a primary takes a standby that it no longer hears for
/// one that streams.
pub const WAL_SENDER_TIMEOUT: Millis = Millis(5_000);

/// From the end of an agent's time limit to the end of the last session: a look at `PostgreSQL` takes up
/// to 1 s, sessions end when the postmaster is told to stop. Includes what two monotonic clocks may
/// differ by meanwhile: a twentieth, which is a hundred times what NTP may slew.
const FENCING: Millis = Millis(1_500);

/// The wanted cluster. Defaults are `howdah dev`'s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Shard groups to form by themselves out of idle members when the cluster begins.
    pub shards: u32,
    /// Standbys of each shard.
    pub replicas: u32,
    /// Members of the query group, primary included.
    pub query_members: u32,
    /// Standby acknowledgements a commit waits for, where that many standbys are there.
    pub acks: u32,
    /// See [`Durability`].
    pub durability: Durability,
    /// Buckets of a new colocation group.
    pub bucket_count: u32,
    /// The database every group has from the start.
    pub database: String,
    /// The role that owns it; its SCRAM verifier is the same on every member.
    pub owner: String,
    /// Time between an agent's reports.
    pub heartbeat: Millis,
    /// Silence after which a member is suspected.
    pub suspect_after: Millis,
    /// Absence of a cohort standby after which `available` goes on without it.
    pub degrade_after: Millis,
    /// After this long without any coordinator *and* without its cohort a primary fences itself.
    pub isolation_timeout: Millis,
    /// How long a router holds new work for a group without a primary.
    pub failover_wait: Millis,
    /// How long a planned switchover waits for transactions in progress.
    pub drain_timeout: Millis,
    /// See [`AckZones`].
    pub ack_zones: AckZones,
    /// See [`Reads`].
    pub reads: Reads,
    /// Silence after which a member is replaced by a container that has no group.
    pub replace_after: Millis,
    /// `max_slot_wal_keep_size` in MB: bounds what a lost standby can keep on the primary's disk.
    pub slot_wal_keep_mb: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            shards: 2,
            replicas: 1,
            query_members: 2,
            acks: 1,
            durability: Durability::Available,
            bucket_count: 32,
            database: "howdah".to_owned(),
            owner: "howdah".to_owned(),
            heartbeat: Millis(100),
            suspect_after: Millis(600),
            degrade_after: Millis(1_000),
            isolation_timeout: Millis(3_000),
            failover_wait: Millis(15_000),
            drain_timeout: Millis(5_000),
            ack_zones: AckZones::Any,
            reads: Reads::Available,
            replace_after: Millis(600_000),
            slot_wal_keep_mb: 4_096,
        }
    }
}

impl Policy {
    /// How long after its standbys were cut off, and the last leader it attended has lost its office, an
    /// unreachable primary answers no reads any more. Its agent counts `isolation_timeout` from the moment
    /// when it last saw its cohort stream (at most [`WAL_SENDER_TIMEOUT`] after the cut) and last attended a
    /// leader (dead lines and deposed leaders are noticed sooner than that), then stops it.
    ///
    /// What this assumes: monotonic clocks of two machines differ by less than a twentieth over ten seconds;
    /// the agent runs when its `PostgreSQL` does (it is PID 1 of their container). An agent that was stopped
    /// for longer and goes on ends its `PostgreSQL` at its first turn; until then, some milliseconds, a
    /// session of that machine can still read.
    pub fn fenced_after(&self) -> Millis {
        self.isolation_timeout.plus(WAL_SENDER_TIMEOUT).plus(FENCING)
    }
}
