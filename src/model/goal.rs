//! What one container is told to be. Derived from the replicated state alone, so that any leader
//! gives the same; carries its epoch, may be repeated, and is refused below an agent's promise.

use serde::{Deserialize, Serialize};

use super::{
    group::{Cohort, Container, GroupKind},
    ids::{ClusterName, GroupId, MemberId},
    numbers::{Epoch, Millis, Revision, Timeline},
    policy::Reads,
};

/// The order itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "lowercase")]
pub enum Order {
    /// Make the group's first data directory (initdb) and start it fenced.
    Found,
    /// Promise `Goal::epoch`, durably; a standby cuts its WAL receiver and waits until replay stands
    /// still; a live primary keeps running; then report the position.
    Recruit,
    /// Be the primary of `Goal::epoch`. In recovery: promote on exactly this timeline. Then apply the
    /// cohort, then write the epoch row (waiting for its acknowledgements). Already primary on this
    /// timeline: the same without the promotion; primary on another: restart fenced, then promote. In
    /// recovery on this very timeline (it crashed in office): cannot be obeyed; stay fenced. A cohort
    /// older (`ordered_at`) than the one applied in the same epoch is ignored, after a restart of the
    /// agent as well.
    Reign {
        /// The timeline of this reign: a re-elected live primary's own, else one never used before.
        timeline: Timeline,
        /// The cohort to apply.
        cohort: Cohort,
    },
    /// Be a standby of `primary`: clone, rewind or just re-point, whichever is needed.
    Follow {
        /// Whom to follow.
        primary: MemberId,
        /// The timeline it writes.
        timeline: Timeline,
        /// False while the primary is not serving yet: re-point if that is enough, but neither
        /// rewind nor clone from it.
        serving: bool,
    },
    /// A planned stop of the reigning primary: shut down cleanly (fast), so that every standby gets
    /// all WAL; come back fenced.
    StandDown,
}

/// One container's goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goal {
    /// The cluster; an agent of another one refuses.
    pub cluster: ClusterName,
    /// Its group.
    pub group: GroupId,
    /// What the group is for.
    pub kind: GroupKind,
    /// The epoch the order belongs to.
    pub epoch: Epoch,
    /// State it was derived from; an agent ignores an older one than it has.
    pub revision: Revision,
    /// Revision at which this container joined the group: what a coordinator says of an earlier membership
    /// is void.
    #[serde(default)]
    pub joined: Revision,
    /// The order.
    pub order: Order,
    /// All members of the group, itself included: addresses, slots, access rules.
    pub members: Vec<Container>,
    /// The group's system identifier, once known: other data is refused.
    pub system_identifier: Option<u64>,
    /// Settings the cluster decides.
    pub settings: GoalSettings,
}

/// The part of the policy that an agent acts on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoalSettings {
    /// The database every group has.
    pub database: String,
    /// Its owner.
    pub owner: String,
    /// Time between reports.
    pub heartbeat: Millis,
    /// See `Policy::isolation_timeout`.
    pub isolation_timeout: Millis,
    /// See `Policy::reads`.
    pub reads: Reads,
    /// See `Policy::slot_wal_keep_mb`.
    pub slot_wal_keep_mb: u32,
}
