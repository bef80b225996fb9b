//! Who belongs to a group, and how that changes: joining, retiring, being forgotten.
//!
//! A member may be forgotten only once it counts for nothing: it is in no cohort that is recorded (an
//! election may need what it has) or ordered (its acknowledgement may be taken for one). So it goes in three
//! steps: it is marked as leaving; it leaves the cohort, by the ordering rule of `core::cohort`; it is forgotten.

use super::State;
use crate::{
    coordinator::core::command::{OperationKind, Outcome, Proposal, Refusal},
    model::{
        group::{Group, Phase, Reign},
        ids::{GroupId, MemberId},
        numbers::Epoch,
        policy::Durability,
    },
};

/// What the removal of a container without a group is about.
const IDLE: &str = "idle";
/// Standbys a group may have: every one has a slot and a WAL sender on the primary, which has 20.
const MOST_REPLICAS: u32 = 9;

type Change = Result<Outcome, Refusal>;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Precondition(why.into()))
}

impl State {
    pub(super) fn add_member(&mut self, id: &GroupId, member: &MemberId, proposal: &Proposal) -> Change {
        let Some(container) = self.containers.get(member).cloned() else {
            return refuse(format!("{member} has not registered"));
        };
        if let Some(group) = self.group_of(member) {
            return refuse(format!("{member} belongs to {} already", group.id));
        }
        let outcome = self.alter(id, proposal, "member-added", |group| {
            if group.kind != container.kind || group.phase != Phase::Serving {
                return refuse(format!("{id} cannot take {member} now"));
            }
            group.settle_replicas();
            group.members.insert(member.clone(), container);
            Ok(format!("{member} joins"))
        })?;
        self.membership.insert(member.clone(), id.clone());
        self.moved.insert(member.clone(), self.revision);
        Ok(outcome)
    }

    pub(super) fn retire(&mut self, id: &GroupId, member: &MemberId, proposal: &Proposal) -> Change {
        self.alter(id, proposal, "member-retired", |group| {
            if !group.members.contains_key(member) || !group.leaving.insert(member.clone()) {
                return refuse(format!("{member} is not a member of {id}, or leaves it already"));
            }
            if reigns(group, member) {
                return refuse(format!("{member} is the primary of {id}"));
            }
            Ok(format!("{member} is to go"))
        })
    }

    pub(super) fn forget(&mut self, id: &GroupId, member: &MemberId, proposal: &Proposal) -> Change {
        let outcome = self.alter(id, proposal, "member-forgotten", |group| {
            if group.phase != Phase::Serving || !group.leaving.remove(member) {
                return refuse(format!("{member} does not leave {id}, or {id} is {}", group.phase.name()));
            }
            if reigns(group, member) || group.reign.as_ref().is_some_and(|reign| counts(reign, member)) {
                return refuse(format!("{member} still counts in {id}"));
            }
            group.settle_replicas();
            group.members.remove(member);
            Ok(format!("{member} has left"))
        })?;
        self.membership.remove(member);
        self.moved.insert(member.clone(), self.revision);
        Ok(outcome)
    }

    /// The target of a change of members that people ask for, if it can be done.
    pub(super) fn members_target(&self, kind: &OperationKind) -> Result<(GroupId, Epoch), Refusal> {
        match kind {
            OperationKind::RemoveMember { member } => self.removal_target(member),
            OperationKind::SetReplicas { group, replicas } => {
                let group = self.check_has_data(group)?;
                let (most, strict) = (MOST_REPLICAS, self.policy.durability == Durability::Strict);
                if *replicas > most {
                    return refuse(format!("{replicas} standbys: a group may have 0 to {most}"));
                }
                if strict && *replicas < self.policy.acks {
                    let acks = self.policy.acks;
                    return refuse(format!("durability = strict needs {acks} standbys to acknowledge: give more"));
                }
                Ok((group.id.clone(), group.epoch))
            }
            _ => unreachable!("no change of members"),
        }
    }

    fn removal_target(&self, member: &MemberId) -> Result<(GroupId, Epoch), Refusal> {
        let Some(group) = self.group_of(member) else {
            if self.containers.contains_key(member) {
                return Ok((IDLE.parse().expect("it is a name"), Epoch(0)));
            }
            return Err(Refusal::NotFound(format!("there is no member {member}; see `howdah member list`")));
        };
        let group = self.check_has_data(&group.id)?;
        if reigns(group, member) {
            let id = &group.id;
            return refuse(format!("{member} is the primary of {id}: `howdah switchover {id}` first"));
        }
        Ok((group.id.clone(), group.epoch))
    }

    /// Begins what was asked for; what came of it, where that takes no time. Has been checked.
    pub(super) fn change_members(&mut self, kind: &OperationKind, proposal: &Proposal) -> Option<String> {
        let at = self.revision;
        match kind {
            OperationKind::RemoveMember { member } => {
                let Some(id) = self.membership.get(member) else {
                    self.containers.remove(member);
                    self.event("", "forgotten", format!("{member}: {}", proposal.reason), proposal);
                    return Some(format!("{member} is forgotten"));
                };
                let group = self.groups.get_mut(id).expect("membership names groups that exist");
                group.leaving.insert(member.clone());
                group.revision = at;
            }
            OperationKind::SetReplicas { group, replicas } => {
                let group = self.groups.get_mut(group).expect("it was found when the operation was checked");
                (group.replicas, group.revision) = (Some(*replicas), at);
            }
            _ => {}
        }
        None
    }
}

/// Reigns, is about to, or reigned last.
fn reigns(group: &Group, member: &MemberId) -> bool {
    group.primary() == Some(member) || group.reign.as_ref().is_some_and(|reign| reign.primary == *member)
}

fn counts(reign: &Reign, member: &MemberId) -> bool {
    reign.recorded.standbys.contains(member) || reign.ordered.standbys.contains(member)
}
