//! A group as decided: who belongs to it, who reigns, whose acknowledgement counts. Replicated by
//! Raft, read by the coordinator's planner, turned into goals and topology.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    ids::{GroupId, MemberId},
    numbers::{Epoch, Revision, Timeline},
};

/// What a group, or a container, is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// Catalog, local tables, merging; its containers run routers.
    Query,
    /// Rows of distributed tables.
    Shard,
}

/// Priority of a container that was given none: in the middle, as in other clusters of this kind.
pub const USUAL_PRIORITY: u32 = 50;
/// The highest.
pub const HIGHEST_PRIORITY: u32 = 100;

fn usual_priority() -> u32 {
    USUAL_PRIORITY
}

/// Where a container can be reached, and what it offers. Registered by its agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name, unique in the cluster and the same after a restart.
    pub id: MemberId,
    /// Host name or IP address of its `PostgreSQL` for other members and for routers.
    pub host: String,
    /// Port of its `PostgreSQL`.
    pub port: u16,
    /// Which groups it can serve in.
    pub kind: GroupKind,
    /// Failure zone, or empty.
    pub zone: String,
    /// The group it would like to be in, where it has no group yet; `None`: any of its kind.
    pub wish: Option<GroupId>,
    /// 0 to [`HIGHEST_PRIORITY`]. Of members whose logs reach equally far the one with the higher priority
    /// is elected. 0: not elected while another recruit is known to have every acknowledged commit, and
    /// never chosen for a switchover that names nobody.
    #[serde(default = "usual_priority")]
    pub priority: u32,
    /// Drawn when its agent's directory was made. Another one under the same name is another container that
    /// has promised nothing: a goal for the one before is not for it. 0: not known, of an older release.
    #[serde(default)]
    pub birth: u64,
}

/// What an agent does with data that belongs to a group which has let go of it. Its own setting: it is
/// not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// Keeps it, untouched, until a person has moved it away; only then it may serve another group.
    Persistent,
    /// Sets it aside (the newest such directory is kept until a clone or a new group has replaced it) and is
    /// free for another group.
    Ephemeral,
}

/// The standbys whose acknowledgement counts, and how many of them a commit waits for:
/// `synchronous_standby_names = 'ANY acks (standbys)'`. `acks` 0 waits for nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cohort {
    /// Standbys that count.
    pub standbys: BTreeSet<MemberId>,
    /// How many must acknowledge; never more than `standbys`.
    pub acks: u32,
    /// Revision of the decision that ordered exactly this; a primary reports it back once applied,
    /// so that an old report is never taken for a new one.
    pub ordered_at: Revision,
}

impl Cohort {
    /// The same standbys and acks, whenever they were ordered.
    pub fn same(&self, other: &Self) -> bool {
        self.standbys == other.standbys && self.acks == other.acks
    }
}

/// One primary's time in office.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reign {
    /// Its number.
    pub epoch: Epoch,
    /// Who reigns.
    pub primary: MemberId,
    /// The timeline it writes.
    pub timeline: Timeline,
    /// *Recorded*: what an election must assume the primary commits with.
    pub recorded: Cohort,
    /// *Ordered*: what the primary is told to apply. Differs from `recorded` only between the two
    /// halves of a change (failover.md, "Changing the cohort while the primary lives").
    pub ordered: Cohort,
}

/// What a group is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "lowercase")]
pub enum Phase {
    /// New: this member makes the group's first data directory.
    Forming {
        /// Who runs initdb.
        founder: MemberId,
    },
    /// Planned switchover: routers hold new work and finish what is in progress.
    Draining {
        /// Who should reign next; `None`: the best standby.
        target: Option<MemberId>,
    },
    /// Planned switchover, second step: nothing is in progress any more; the primary shuts down cleanly,
    /// so that every standby that streams has all of its WAL.
    StandingDown {
        /// Who should reign next; `None`: the best standby.
        target: Option<MemberId>,
    },
    /// The epoch is open: members promise, stand still and report positions.
    Recruiting {
        /// Who should win if its log reaches as far as anyone's; set by a switchover.
        target: Option<MemberId>,
        /// A person accepted that acknowledged commits may be lost.
        accept_data_loss: bool,
    },
    /// Decided: this reign begins once its primary has its epoch row acknowledged.
    Promoting {
        /// The reign to be.
        next: Reign,
    },
    /// `Group::reign` is open for business.
    Serving,
}

/// A group, as replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Its name.
    pub id: GroupId,
    /// What it is for.
    pub kind: GroupKind,
    /// Its containers, primary and standbys.
    pub members: BTreeMap<MemberId, Container>,
    /// The newest epoch opened; orders of an older one are void.
    pub epoch: Epoch,
    /// What it is doing.
    pub phase: Phase,
    /// The last reign that served: elections take their quorum from it. `None` before the first.
    pub reign: Option<Reign>,
    /// The highest timeline any attempt was ever told to use.
    pub last_timeline: Timeline,
    /// Standbys wanted; `None`, in a state of an older release: as many as there are.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// Members that are to go: they join no cohort, and belong to the group until they have left those that
    /// are recorded and ordered.
    #[serde(default)]
    pub leaving: BTreeSet<MemberId>,
    /// Maintenance: nothing but what people ask for changes its primary or its members.
    #[serde(default)]
    pub paused: bool,
    /// Reigns in a row that were ended on suspicion alone soon after they began (`core::flapping`).
    #[serde(default)]
    pub hasty: u32,
    /// `PostgreSQL`'s system identifier, known once the founder has reported it.
    pub system_identifier: Option<u64>,
    /// Log index of the last change; a plan made on another one is refused.
    pub revision: Revision,
    /// Why it is in this phase, in one sentence.
    pub reason: String,
}

impl Phase {
    /// Its name, as `howdah status` shows it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Forming { .. } => "forming",
            Self::Draining { .. } | Self::StandingDown { .. } => "draining",
            Self::Recruiting { .. } => "recruiting",
            Self::Promoting { .. } => "promoting",
            Self::Serving => "serving",
        }
    }
}

impl Group {
    /// Writes down how many standbys it has as the number that is wanted, where none is known: before its
    /// members change.
    pub fn settle_replicas(&mut self) {
        let now = u32::try_from(self.wanted_standbys()).unwrap_or(u32::MAX);
        self.replicas.get_or_insert(now);
    }

    /// Standbys that people want it to have.
    pub fn wanted_standbys(&self) -> usize {
        self.replicas.map_or_else(|| self.members.len().saturating_sub(1), |replicas| replicas as usize)
    }

    /// The member that reigns or is about to.
    pub fn primary(&self) -> Option<&MemberId> {
        match &self.phase {
            Phase::Promoting { next } => Some(&next.primary),
            Phase::Forming { .. } | Phase::Recruiting { .. } => None,
            Phase::Draining { .. } | Phase::StandingDown { .. } | Phase::Serving => {
                self.reign.as_ref().map(|reign| &reign.primary)
            }
        }
    }
}
