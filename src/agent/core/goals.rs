//! Which goals an agent obeys. Called by the runner for each goal that arrives.

use crate::model::{
    goal::Goal,
    ids::{ClusterName, GroupId, MemberId},
    numbers::{Epoch, Revision},
};

use super::inputs::{Data, Inputs};

/// Why a goal is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Another cluster's.
    #[error("the goal is for cluster {theirs}, this container belongs to {ours}")]
    OtherCluster {
        /// The goal's.
        theirs: ClusterName,
        /// This container's.
        ours: ClusterName,
    },
    /// Another group's.
    #[error(
        "the goal is for group {theirs}, the data here belongs to {ours}: start the container with an empty directory"
    )]
    OtherGroup {
        /// The goal's.
        theirs: GroupId,
        /// This container's.
        ours: GroupId,
    },
    /// For an earlier container of this name.
    #[error("the goal is for the {me} that was here before this directory was begun: it waits to be registered")]
    OtherLife {
        /// This container.
        me: MemberId,
    },
    /// The group's data is not what is here.
    #[error(
        "the group's system identifier is {theirs}, the data here has {ours}: start the container with an empty directory"
    )]
    OtherData {
        /// The goal's.
        theirs: u64,
        /// This container's.
        ours: u64,
    },
    /// Below the promise.
    #[error("the goal's epoch {epoch} is below the promised {promise}")]
    OldEpoch {
        /// The goal's.
        epoch: Epoch,
        /// This container's.
        promise: Epoch,
    },
    /// An older one than was received before.
    #[error("the goal's revision {revision} is older than {newest}, which was received before")]
    OldRevision {
        /// The goal's.
        revision: Revision,
        /// The newest received in this incarnation.
        newest: Revision,
    },
}

/// Checks a goal that has arrived.
pub fn check(inputs: &Inputs, goal: &Goal) -> Result<(), Refusal> {
    if goal.cluster != inputs.cluster {
        return Err(Refusal::OtherCluster { theirs: goal.cluster.clone(), ours: inputs.cluster.clone() });
    }
    if let Some(group) = inputs.group.as_ref().filter(|group| **group != goal.group) {
        return Err(Refusal::OtherGroup { theirs: goal.group.clone(), ours: group.clone() });
    }
    // Whoever gives it knows nothing of this directory, in which no promise of the one before is kept.
    let known = goal.members.iter().find(|member| member.id == inputs.me).map_or(0, |member| member.birth);
    if known != 0 && known != inputs.birth {
        return Err(Refusal::OtherLife { me: inputs.me.clone() });
    }
    if goal.epoch < inputs.promise {
        return Err(Refusal::OldEpoch { epoch: goal.epoch, promise: inputs.promise });
    }
    if goal.revision < inputs.newest_revision {
        return Err(Refusal::OldRevision { revision: goal.revision, newest: inputs.newest_revision });
    }
    match (goal.system_identifier, inputs.data) {
        (Some(theirs), Data::Ready { system_identifier: ours }) if theirs != ours => {
            Err(Refusal::OtherData { theirs, ours })
        }
        _ => Ok(()),
    }
}

/// Whether a coordinator that says "you belong to no group since" has seen this container leave the group
/// its data belongs to. One that lags behind, or has lost its memory, has not.
pub fn released(inputs: &Inputs, since: Revision) -> bool {
    inputs.group.is_some() && since > inputs.joined
}
