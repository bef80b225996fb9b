//! What `howdah status`, `events` and `operation` show. Field names are the stable JSON interface
//! (`proto/status.schema.json`).

use serde::{Deserialize, Serialize};

use super::map::Colocation;

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Number.
    pub id: u64,
    /// gRPC address, `host:port`.
    pub address: String,
    /// `leader` or `follower`.
    pub role: String,
    /// Raft term.
    pub term: u64,
    /// The leader hears from it.
    pub healthy: bool,
    /// Process id, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// One member.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Name.
    pub id: String,
    /// Host of its `PostgreSQL`.
    pub address: String,
    /// Port of its `PostgreSQL`.
    pub port: u16,
    /// `primary`, `standby` or `idle`.
    pub role: String,
    /// Agent's state, or `lost`.
    pub state: String,
    /// Reports, runs as decided, streams where it should.
    pub healthy: bool,
    /// Its promise.
    pub epoch: u64,
    /// Timeline; 0 if unknown.
    pub timeline: u32,
    /// Log position, `0/0` if unknown.
    pub lsn: String,
    /// Bytes of WAL behind the primary, where both are known.
    pub lag_bytes: Option<u64>,
    /// Its acknowledgement counts.
    pub synchronous: bool,
    /// Agent's process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Postmaster's process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postmaster_pid: Option<u32>,
    /// Data directory.
    pub data_dir: String,
    /// What is under way or wrong; empty if nothing.
    pub note: String,
    /// Its group; empty: none.
    pub group: String,
}

/// One group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Name.
    pub id: String,
    /// `query` or `shard`.
    pub kind: String,
    /// Newest epoch.
    pub epoch: u64,
    /// `forming`, `draining`, `recruiting`, `promoting` or `serving`.
    pub phase: String,
    /// Primary, where there is one.
    pub primary: Option<String>,
    /// Standbys whose acknowledgement counts.
    pub cohort: Vec<String>,
    /// How many acknowledgements a commit waits for.
    pub acks: u32,
    /// Why it is in this phase.
    pub reason: String,
    /// Maintenance: nothing but what people ask for changes its primary or its members.
    pub paused: bool,
    /// Standbys that it should have.
    pub replicas: u32,
    /// Members.
    pub members: Vec<MemberStatus>,
}

/// One router.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterStatus {
    /// Name.
    pub id: String,
    /// Host.
    pub address: String,
    /// SQL port.
    pub port: u16,
    /// Read-only port, 0 where it has none.
    pub read_only_port: u16,
    /// Revision of the topology it works by.
    pub map_version: u64,
    /// The leader hears from it.
    pub healthy: bool,
    /// Process id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

/// Placement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MapStatus {
    /// Revision of the last change.
    pub version: u64,
    /// Colocation groups.
    pub colocation_groups: Vec<Colocation>,
}

/// A distributed or reference table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableStatus {
    /// Database.
    pub database: String,
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `distributed` or `reference`.
    pub kind: String,
    /// Distribution column; empty for a reference table.
    pub distribution_column: String,
    /// Colocation group; 0 for a reference table.
    pub colocation_id: u32,
    /// Buckets; 1 for a reference table.
    pub bucket_count: u32,
    /// Shards that hold a part.
    pub shards: Vec<String>,
}

/// A long piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OperationStatus {
    /// Name.
    pub id: String,
    /// `add-shard`, `switchover`, `failover`, `pause`, `resume`, `remove-member` or `set-replicas`.
    pub kind: String,
    /// What it is about: a group, `all` of them, or `idle` for a container without a group.
    pub target: String,
    /// `running`, `done` or `failed`.
    pub state: String,
    /// Where it is, or why it failed.
    pub message: String,
}

/// Something that happened, newest last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Log index that decided it.
    pub revision: u64,
    /// Wall clock of the deciding leader, milliseconds since 1970.
    pub time_ms: u64,
    /// Group, or empty for the cluster.
    pub group: String,
    /// What: `epoch-opened`, `elected`, `serving`, `cohort`, `registered`, `group-created`, …
    pub kind: String,
    /// What and why, in one sentence.
    pub message: String,
}

/// The whole cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name.
    pub cluster: String,
    /// Coordinators.
    pub coordinators: Vec<CoordinatorStatus>,
    /// Groups.
    pub groups: Vec<GroupStatus>,
    /// Containers without a group.
    pub idle: Vec<MemberStatus>,
    /// Routers.
    pub routers: Vec<RouterStatus>,
    /// Placement.
    pub map: MapStatus,
    /// Distributed and reference tables, as last reported.
    pub tables: Vec<TableStatus>,
    /// Work in progress, and the last that ended.
    pub operations: Vec<OperationStatus>,
    /// What a person should know, each with what to do.
    pub warnings: Vec<String>,
}
