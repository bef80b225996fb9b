//! What routers need to know: where each group's primary is, and the map. Built from the replicated
//! state by every coordinator alike; the newest revision wins.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    group::GroupKind,
    ids::{ClusterName, ColocationId, GroupId, MemberId},
    map::Colocation,
    numbers::{Epoch, Millis, Revision, Timeline},
};

/// A `PostgreSQL` that a router may connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Member.
    pub member: MemberId,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// Whether a router may begin work on a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Yes, here.
    Open {
        /// The primary of the epoch.
        primary: Endpoint,
    },
    /// New transactions wait; those in progress go on here (planned switchover).
    Draining {
        /// The primary until the switch.
        primary: Endpoint,
    },
    /// New transactions wait; those in progress have lost their primary.
    Held,
}

/// One group as routers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Group.
    pub id: GroupId,
    /// Kind.
    pub kind: GroupKind,
    /// Newest epoch opened. Server connections of an older epoch are closed.
    pub epoch: Epoch,
    /// The timeline of the reign that serves. A member that writes another one may be the primary to be, whose
    /// reign is not open yet: what it acknowledges could be lost. Routers ask each new connection.
    pub timeline: Timeline,
    /// May work begin?
    pub access: Access,
    /// Members that are not the primary.
    pub standbys: Vec<Endpoint>,
}

/// The whole picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// State it was derived from.
    pub revision: Revision,
    /// Cluster.
    pub cluster: ClusterName,
    /// Groups.
    pub groups: BTreeMap<GroupId, GroupView>,
    /// Placement.
    pub colocations: BTreeMap<ColocationId, Colocation>,
    /// See `Policy::failover_wait`.
    pub failover_wait: Millis,
    /// The database every group has.
    pub database: String,
    /// Buckets of a new colocation group.
    pub bucket_count: u32,
}

impl Topology {
    /// The query group, where one is formed.
    pub fn query_group(&self) -> Option<&GroupView> {
        self.groups.values().find(|group| group.kind == GroupKind::Query)
    }
}
