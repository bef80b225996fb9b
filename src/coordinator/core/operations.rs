//! Long pieces of work that people ask for: what is known of each, and the planner's step that ends
//! them. The work itself is done by the ordinary reconcilers (`placement`, `switchover`, `failover`).

use serde::{Deserialize, Serialize};

use super::{
    command::{Command, OperationKind, OperationOutcome, Proposal},
    members, membership,
    planner::World,
    switchover,
};
use crate::model::{
    group::{Group, Phase},
    ids::{GroupId, MemberId, OperationId},
    numbers::{Epoch, Revision},
    status::OperationStatus,
};

/// An operation, as replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// `op-` and the revision it began at.
    pub id: OperationId,
    /// The caller's idempotency key.
    pub key: String,
    /// What was asked for.
    pub kind: OperationKind,
    /// The group it is about; of a new shard, the name reserved for it; else the coordinator it is about.
    pub target: GroupId,
    /// Newest epoch of the group when it began: a later reign is its result, or someone else's.
    pub epoch: Epoch,
    /// Who reigned when it began.
    pub from: Option<MemberId>,
    /// When it began.
    pub begun: Revision,
    /// `None` while it runs.
    pub outcome: Option<OperationOutcome>,
}

impl Operation {
    /// Still running?
    pub fn runs(&self) -> bool {
        self.outcome.is_none()
    }

    /// As people see it; `progress` says where a running one is.
    pub fn status(&self, progress: &str) -> OperationStatus {
        let kind = match self.kind {
            OperationKind::AddShard { .. } => "add-shard",
            OperationKind::Switchover { .. } => "switchover",
            OperationKind::Failover { .. } => "failover",
            OperationKind::AddCoordinator { .. } => "add-coordinator",
            OperationKind::RemoveCoordinator { .. } => "remove-coordinator",
            OperationKind::ReplaceCoordinator { .. } => "replace-coordinator",
            OperationKind::RemoveMember { .. } => "remove-member",
            OperationKind::SetReplicas { .. } => "set-replicas",
            OperationKind::Pause { .. } => "pause",
            OperationKind::Resume { .. } => "resume",
        };
        let (state, message) = match &self.outcome {
            None => ("running", progress),
            Some(OperationOutcome::Done { message }) => ("done", message.as_str()),
            Some(OperationOutcome::Failed { message }) => ("failed", message.as_str()),
        };
        OperationStatus {
            id: self.id.to_string(),
            kind: kind.to_owned(),
            target: self.target.to_string(),
            state: state.to_owned(),
            message: message.to_owned(),
        }
    }
}

/// Ends the operations whose work is done, or will not be.
pub fn finish(world: &World<'_>) -> Vec<Proposal> {
    let running = world.state.operations.iter().filter(|operation| operation.runs());
    running
        .filter_map(|operation| {
            let outcome = outcome(world, operation)?;
            let reason = format!("{} has ended", operation.id);
            let command = Command::FinishOperation { id: operation.id.clone(), outcome };
            Some(world.propose_anyway(command, reason))
        })
        .collect()
}

fn outcome(world: &World<'_>, operation: &Operation) -> Option<OperationOutcome> {
    let group = world.state.groups.get(&operation.target);
    let serves = group.and_then(|group| serves(group, operation));
    match &operation.kind {
        OperationKind::AddShard { .. } => {
            serves.map(|primary| done(format!("{} serves on {primary}", operation.target)))
        }
        OperationKind::Failover { .. } => serves.map(|primary| match &operation.from {
            Some(from) if from == primary => {
                failed(format!("{primary} reigns again: no other member was known to have every acknowledged commit"))
            }
            _ => done(format!("{primary} reigns in {}", operation.target)),
        }),
        OperationKind::RemoveMember { member } => match group {
            Some(group) if group.leaving.contains(member) => None,
            Some(group) if group.members.contains_key(member) => {
                let id = &group.id;
                Some(failed(format!("{member} was elected in {id}, as nobody else had every commit: try again later")))
            }
            _ => Some(done(format!("{} has let go of {member}", operation.target))),
        },
        OperationKind::SetReplicas { replicas, .. } => {
            let group = group?;
            if group.replicas != Some(*replicas) {
                return Some(failed("another number was asked for since".to_owned()));
            }
            members::complete(world, group).then(|| done(format!("{} has {replicas} standbys", group.id)))
        }
        OperationKind::Pause { .. } | OperationKind::Resume { .. } => unreachable!("ended as it was recorded"),
        OperationKind::Switchover { to, .. } => match (serves, to) {
            (Some(primary), Some(to)) if primary == to => Some(done(format!("{to} reigns in {}", operation.target))),
            (Some(primary), None) if operation.from.as_ref() != Some(primary) => {
                Some(done(format!("{primary} reigns in {}", operation.target)))
            }
            (Some(primary), _) => {
                Some(failed(format!("{primary} reigns in {}: its log reached further than others'", operation.target)))
            }
            (None, _) => switchover::hopeless(world, group?, operation).map(failed),
        },
        OperationKind::AddCoordinator { .. }
        | OperationKind::RemoveCoordinator { .. }
        | OperationKind::ReplaceCoordinator { .. } => membership::outcome(world.state, operation),
    }
}

/// The primary of a reign that began after the operation, once it serves.
fn serves<'a>(group: &'a Group, operation: &Operation) -> Option<&'a MemberId> {
    let reign = group.reign.as_ref()?;
    (group.phase == Phase::Serving && reign.epoch > operation.epoch).then_some(&reign.primary)
}

fn done(message: String) -> OperationOutcome {
    OperationOutcome::Done { message }
}

fn failed(message: String) -> OperationOutcome {
    OperationOutcome::Failed { message }
}
