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
            slot_wal_keep_mb: 4_096,
        }
    }
}
