//! Steps 1, 2 and 5 of the protocol: suspect, open an epoch, declare a reign open. Called by the
//! planner for groups that serve, switch over or promote.

use super::{
    candidate,
    command::{Command, OperationKind, Proposal},
    flapping,
    planner::World,
    stale_reads, suspicion,
};
use crate::model::{
    group::{Group, Phase, Reign},
    ids::MemberId,
    observed::PostgresSeen,
};

/// What a person forces: an epoch of its own, opened once per operation; where a loss was accepted, in
/// every epoch until the group serves.
pub fn forced(world: &World<'_>, group: &Group) -> Option<Proposal> {
    let operation = world.running(&group.id).find(|operation| match operation.kind {
        OperationKind::Failover { accept_data_loss, .. } => {
            let unheeded = matches!(group.phase, Phase::Recruiting { accept_data_loss: false, .. });
            operation.epoch == group.epoch || (accept_data_loss && unheeded)
        }
        _ => false,
    })?;
    Some(open_epoch(world, group, None, format!("failover was asked for ({})", operation.id)))
}

/// The next epoch of a group whose primary is held to be lost. Where only silence speaks against it,
/// and too few others are reachable to elect anyone, an epoch would stop a group that may well work; where
/// suspicions have ended one short reign after the other, they are not believed at once. A paused group
/// keeps its primary, unless that was told already to stand down.
pub fn lost_primary(world: &World<'_>, group: &Group, reign: &Reign, target: Option<&MemberId>) -> Option<Proposal> {
    let suspicion = suspicion::of_primary(world, group, reign)?;
    if group.paused && !matches!(group.phase, Phase::StandingDown { .. }) {
        return None;
    }
    if suspicion.certain {
        return Some(open_epoch(world, group, target, suspicion.reason));
    }
    if !candidate::could_elect(world, reign) || flapping::holds(world, group).is_some() {
        return None;
    }
    let mut proposal = open_epoch(world, group, target, suspicion.reason);
    if let Command::OpenEpoch { hasty, .. } = &mut proposal.command {
        *hasty = flapping::count(world, group);
    }
    Some(proposal)
}

/// The next epoch of a group whose candidate is held to be lost. Where only silence speaks against it, and
/// nobody could be elected without it, the next epoch could but elect it again and begin from the start.
pub fn lost_candidate(world: &World<'_>, group: &Group, next: &Reign) -> Option<Proposal> {
    let suspicion = suspicion::of_candidate(world, group, next)?;
    if !suspicion.certain && !candidate::could_elect_without(world, group, &next.primary) {
        return None;
    }
    Some(open_epoch(world, group, None, suspicion.reason))
}

/// The reign is open: its primary has the epoch row acknowledged by the cohort it was elected with.
pub fn serving(world: &World<'_>, group: &Group, next: &Reign) -> Option<Proposal> {
    let report = world.fresh_report(&next.primary)?;
    let PostgresSeen::Primary { epoch, position, applied, .. } = &report.postgres else { return None };
    let open =
        *epoch == next.epoch && position.timeline == next.timeline && applied.ordered_at == next.ordered.ordered_at;
    if !open || stale_reads::waits(world, group, next).is_some() {
        return None;
    }
    let command = Command::Serving { group: group.id.clone(), epoch: next.epoch };
    Some(world.propose(group, command, format!("the epoch row of {} is acknowledged", next.primary)))
}

/// Takes the write authority from whoever has it.
pub fn open_epoch(world: &World<'_>, group: &Group, target: Option<&MemberId>, reason: String) -> Proposal {
    let command = Command::OpenEpoch {
        group: group.id.clone(),
        epoch: group.epoch.next(),
        target: target.cloned(),
        accept_data_loss: world.loss_accepted(&group.id),
        hasty: group.hasty,
    };
    world.propose(group, command, reason)
}
