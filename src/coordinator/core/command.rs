//! What goes through Raft: the commands that change `State`, each with its reason. Made by `plan`
//! and by the admin and topology services; applied by `State::apply` on every coordinator alike.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::model::{
    coordinator::Coordinator,
    group::{Cohort, Container, GroupKind},
    ids::{ClusterName, CoordinatorId, GroupId, MemberId, OperationId},
    map::Colocation,
    numbers::{Epoch, Revision, Timeline},
    policy::Policy,
};

/// One change of the replicated state. `ordered_at` of every cohort in a command is ignored: it is
/// set to the revision at which the command is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Names the cluster and sets its policy; the first command of a cluster.
    Initialise {
        /// The cluster.
        cluster: ClusterName,
        /// What people want.
        policy: Policy,
    },
    /// An agent said who and where it is.
    Register {
        /// What it said.
        container: Container,
    },
    /// Makes a group of registered containers that have none.
    CreateGroup {
        /// New group.
        group: GroupId,
        /// Query or shard.
        kind: GroupKind,
        /// Its members, the founder included.
        members: BTreeSet<MemberId>,
        /// Who runs initdb.
        founder: MemberId,
    },
    /// The founder's data directory is there.
    Found {
        /// Group.
        group: GroupId,
        /// Of the founder's data directory; every member's from now on.
        system_identifier: u64,
    },
    /// Begins a planned switchover: routers hold new work.
    Drain {
        /// Group.
        group: GroupId,
        /// Who should reign next; `None`: the best standby.
        target: Option<MemberId>,
    },
    /// Gives a switchover up before the primary was told to stop.
    CancelDrain {
        /// Group.
        group: GroupId,
    },
    /// Second step of a switchover: the primary shuts down cleanly.
    StandDown {
        /// Group.
        group: GroupId,
    },
    /// Takes the write authority from whoever has it: orders of older epochs are void.
    OpenEpoch {
        /// Group.
        group: GroupId,
        /// The new epoch: the group's newest plus one.
        epoch: Epoch,
        /// Who should win if its log reaches as far as anyone's.
        target: Option<MemberId>,
        /// A person accepted that acknowledged commits may be lost.
        accept_data_loss: bool,
        /// `Group::hasty` from now on.
        #[serde(default)]
        hasty: u32,
    },
    /// Decides who reigns in the open epoch.
    Elect {
        /// Group.
        group: GroupId,
        /// The open epoch.
        epoch: Epoch,
        /// The winner.
        primary: MemberId,
        /// The timeline it writes: the reign's own for a live primary, else the next unused one.
        timeline: Timeline,
        /// The cohort it begins with.
        cohort: Cohort,
    },
    /// The winner's epoch row is acknowledged: open for business.
    Serving {
        /// Group.
        group: GroupId,
        /// The epoch that serves.
        epoch: Epoch,
    },
    /// One step of a change of cohort (`core::cohort`).
    SetCohort {
        /// Group.
        group: GroupId,
        /// What an election must assume from now on.
        recorded: Cohort,
        /// What the primary is told to apply from now on.
        ordered: Cohort,
    },
    /// A container without a group joins one; it is cloned.
    AddMember {
        /// Group.
        group: GroupId,
        /// The container.
        member: MemberId,
    },
    /// A standby is to go. It belongs to the group until it has left the cohort.
    Retire {
        /// Group.
        group: GroupId,
        /// The standby.
        member: MemberId,
    },
    /// A retired standby that has left the cohort, recorded and ordered, belongs to the group no more.
    Forget {
        /// Group.
        group: GroupId,
        /// It.
        member: MemberId,
    },
    /// Finds or makes a colocation group.
    EnsureColocation {
        /// Type of the key, as `format_type` gives it.
        key_type: String,
        /// Buckets.
        bucket_count: u32,
        /// A new group for one table alone, under a key made up by the caller: the same key again gives
        /// the same group. `None`: one that tables share.
        #[serde(default)]
        alone: Option<String>,
    },
    /// Writes down who the coordinators are that a cluster began with: from now on the state knows.
    RecordCoordinators {
        /// All of them.
        coordinators: BTreeMap<CoordinatorId, Coordinator>,
    },
    /// A process with a new, empty directory has come to the address of an expected coordinator.
    ClaimCoordinator {
        /// Its gRPC URL.
        url: String,
        /// Drawn when the directory was made.
        directory: u64,
    },
    /// Changes who takes part in Raft; the entry is Raft's own change of membership as well.
    ChangeCoordinators {
        /// One step.
        change: CoordinatorChange,
    },
    /// Begins a long piece of work; the same key again gives the same operation.
    BeginOperation {
        /// Made up by the caller.
        key: String,
        /// What to do.
        kind: OperationKind,
    },
    /// Ends it.
    FinishOperation {
        /// Which.
        id: OperationId,
        /// `Done` or `Failed`.
        outcome: OperationOutcome,
    },
}

/// One step of a change of the coordinators (`core::membership` decides which).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum CoordinatorChange {
    /// It receives the log, and counts in no majority.
    AddLearner {
        /// Who.
        coordinator: CoordinatorId,
    },
    /// It counts.
    Promote {
        /// Who.
        coordinator: CoordinatorId,
    },
    /// It takes no part any more, for ever: numbers are not used again.
    Remove {
        /// Who.
        coordinator: CoordinatorId,
    },
}

/// What people ask for that takes time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum OperationKind {
    /// A new shard out of idle containers.
    AddShard {
        /// Its standbys.
        replicas: u32,
    },
    /// A planned change of primary.
    Switchover {
        /// Group.
        group: GroupId,
        /// Next primary; `None`: the best standby.
        to: Option<MemberId>,
    },
    /// A change of primary that does not wait for the old one.
    Failover {
        /// Group.
        group: GroupId,
        /// Go on although acknowledged commits may be lost.
        accept_data_loss: bool,
    },
    /// One more coordinator.
    AddCoordinator {
        /// Where it will be.
        url: String,
    },
    /// One coordinator fewer.
    RemoveCoordinator {
        /// Which.
        coordinator: CoordinatorId,
        /// Also while others are down, as long as a majority stays.
        force: bool,
    },
    /// A coordinator by another one, with a number and a directory of its own.
    ReplaceCoordinator {
        /// Which.
        coordinator: CoordinatorId,
        /// Where the new one will be.
        url: String,
    },
    /// A group lets go of a standby; a container without a group is forgotten.
    RemoveMember {
        /// Which.
        member: MemberId,
    },
    /// How many standbys a group is to have.
    SetReplicas {
        /// Group.
        group: GroupId,
        /// Standbys.
        replicas: u32,
    },
    /// Maintenance begins: done as soon as it is recorded.
    Pause {
        /// Group; `None`: every group there is.
        group: Option<GroupId>,
    },
    /// Maintenance ends.
    Resume {
        /// Group; `None`: every group there is.
        group: Option<GroupId>,
    },
}

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum OperationOutcome {
    /// As asked.
    Done {
        /// What was done.
        message: String,
    },
    /// Not as asked.
    Failed {
        /// Why, and what to do.
        message: String,
    },
}

/// A command on its way through Raft, with what people and the log want to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// The change.
    pub command: Command,
    /// Why, in one sentence: log, event, console and command line show the same.
    pub reason: String,
    /// Wall clock of the proposing leader, milliseconds since 1970; for events only.
    pub time_ms: u64,
    /// The group, and its revision, that the decision was made on; refused on another revision.
    pub based_on: Option<(GroupId, Revision)>,
}

/// What applying a proposal led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Applied,
    /// The operation, new or found by its key.
    Operation(OperationId),
    /// The colocation group, new or found.
    Colocation(Colocation),
    /// The number of a coordinator.
    Coordinator(CoordinatorId),
    /// Not done; the state is as before.
    Refused(Refusal),
}

/// Why a proposal was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Something it names does not exist.
    #[error("{0}")]
    NotFound(String),
    /// Not in this state; says which and what to do.
    #[error("{0}")]
    Precondition(String),
    /// Decided on a group that has changed since: decide again.
    #[error("{group} has changed since revision {based_on}: it is at {actual} now")]
    Stale {
        /// Group.
        group: GroupId,
        /// What the decision was made on.
        based_on: Revision,
        /// What it is.
        actual: Revision,
    },
}
