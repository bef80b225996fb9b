//! The replicated state and the one way to change it. Every coordinator applies the same proposals
//! in the same order and has the same state; snapshots are this, serialised. `state/groups.rs` has
//! the protocol's transitions.

mod coordinators;
mod groups;
mod maintenance;
mod members;
mod registry;

pub(super) use groups::{describe, goes_on};
pub(super) use registry::shard_name;

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{
    command::{Command, Outcome, Proposal, Refusal},
    operations::Operation,
    topology,
};
use crate::model::{
    coordinator::Coordinator,
    group::{Container, Group, GroupKind, Phase},
    ids::{ClusterName, ColocationId, CoordinatorId, GroupId, MemberId, OperationId},
    map::Colocation,
    numbers::Revision,
    policy::Policy,
    status::Event,
};

/// Events kept: a day of a quiet cluster, an hour of a bad one; 200 bytes each in every snapshot.
const EVENTS_KEPT: usize = 1000;

/// What all coordinators agree on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Log index of the last proposal applied, refused ones included.
    pub revision: Revision,
    /// Log index of the last change that routers can see.
    pub topology_revision: Revision,
    /// The cluster's name; `None` before `Command::Initialise`.
    pub cluster: Option<ClusterName>,
    /// What people want.
    pub policy: Policy,
    /// Every container that ever registered.
    pub containers: BTreeMap<MemberId, Container>,
    /// Groups.
    pub groups: BTreeMap<GroupId, Group>,
    /// The group each container belongs to, where it has one.
    pub membership: BTreeMap<MemberId, GroupId>,
    /// Log index at which a container last joined or left a group.
    #[serde(default)]
    pub moved: BTreeMap<MemberId, Revision>,
    /// Placement.
    pub colocations: BTreeMap<ColocationId, Colocation>,
    /// Colocation groups made for one table alone, and the keys under which their makers asked.
    #[serde(default)]
    pub alone: BTreeMap<ColocationId, String>,
    /// Operations in the order they began: all that run, and the last that ended.
    pub operations: Vec<Operation>,
    /// What happened, oldest first.
    pub events: VecDeque<Event>,
    /// The coordinators, those that are only expected included; empty until they are written down.
    #[serde(default)]
    pub coordinators: BTreeMap<CoordinatorId, Coordinator>,
    /// Highest number that any coordinator ever had.
    #[serde(default)]
    pub last_coordinator: u64,
}

impl State {
    /// Applies what Raft committed at `revision`. Deterministic; refuses what does not fit the state
    /// and asserts what no refusal may let through.
    pub fn apply(&mut self, revision: Revision, proposal: &Proposal) -> Outcome {
        assert!(revision > self.revision, "log index {revision} applied after {}", self.revision);
        self.revision = revision;
        let seen_before = topology::affected(self, &proposal.command);
        let outcome = self.check_base(proposal).and_then(|()| self.change(proposal)).unwrap_or_else(Outcome::Refused);
        if seen_before != topology::affected(self, &proposal.command) {
            self.topology_revision = revision;
        }
        outcome
    }

    /// The group of this name.
    pub fn group(&self, id: &GroupId) -> Result<&Group, Refusal> {
        self.groups.get(id).ok_or_else(|| Refusal::NotFound(format!("there is no group {id}; see `howdah status`")))
    }

    /// The operation of this name.
    pub fn operation(&self, id: &OperationId) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.id == *id)
    }

    /// The group a container belongs to.
    pub fn group_of(&self, member: &MemberId) -> Option<&Group> {
        self.groups.get(self.membership.get(member)?)
    }

    /// Containers without a group, by name.
    pub fn idle(&self) -> impl Iterator<Item = &Container> {
        self.containers.values().filter(|container| !self.membership.contains_key(&container.id))
    }

    /// Shards that have served, in the order people count them: `shard-2` before `shard-10`.
    pub fn serving_shards(&self) -> Vec<&GroupId> {
        let mut shards: Vec<_> =
            self.groups.values().filter(|g| g.kind == GroupKind::Shard && g.reign.is_some()).map(|g| &g.id).collect();
        shards.sort_by_key(|id| (id.as_str().len(), *id));
        shards
    }

    fn check_base(&self, proposal: &Proposal) -> Result<(), Refusal> {
        let Some((group, based_on)) = &proposal.based_on else { return Ok(()) };
        let actual = self.group(group)?.revision;
        if actual == *based_on {
            return Ok(());
        }
        Err(Refusal::Stale { group: group.clone(), based_on: *based_on, actual })
    }

    fn change(&mut self, proposal: &Proposal) -> Result<Outcome, Refusal> {
        match &proposal.command {
            Command::Initialise { cluster, policy } => self.initialise(cluster, policy, proposal),
            Command::Register { container } => self.register(container, proposal),
            Command::EnsureColocation { key_type, bucket_count, alone } => {
                self.ensure_colocation(key_type, *bucket_count, alone.as_deref(), proposal)
            }
            Command::RecordCoordinators { coordinators } => self.record_coordinators(coordinators),
            Command::ClaimCoordinator { url, directory } => self.claim_coordinator(url, *directory, proposal),
            Command::ChangeCoordinators { change } => self.change_coordinators(change, proposal),
            Command::BeginOperation { key, kind } => self.begin_operation(key, kind, proposal),
            Command::FinishOperation { id, outcome } => self.finish_operation(id, outcome, proposal),
            Command::CreateGroup { group, kind, members, founder } => {
                self.create_group(group, *kind, members, founder, proposal)
            }
            Command::Found { group, system_identifier } => self.found(group, *system_identifier, proposal),
            Command::Drain { group, target } => self.drain(group, target.as_ref(), proposal),
            Command::CancelDrain { group } => self.cancel_drain(group, proposal),
            Command::StandDown { group } => self.stand_down(group, proposal),
            Command::OpenEpoch { group, epoch, target, accept_data_loss, hasty } => {
                let recruiting = Phase::Recruiting { target: target.clone(), accept_data_loss: *accept_data_loss };
                self.open_epoch(group, *epoch, recruiting, *hasty, proposal)
            }
            Command::Elect { group, epoch, primary, timeline, cohort } => {
                self.elect(group, *epoch, primary, *timeline, cohort, proposal)
            }
            Command::Serving { group, epoch } => self.serving(group, *epoch, proposal),
            Command::AddMember { group, member } => self.add_member(group, member, proposal),
            Command::Retire { group, member } => self.retire(group, member, proposal),
            Command::Forget { group, member } => self.forget(group, member, proposal),
            Command::SetCohort { group, recorded, ordered } => self.set_cohort(group, recorded, ordered, proposal),
        }
    }

    /// Remembers what happened; `subject` is a group's name, or empty for the cluster.
    fn event(&mut self, subject: &str, kind: &str, message: String, proposal: &Proposal) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        self.events.push_back(Event {
            revision: self.revision.0,
            time_ms: proposal.time_ms,
            group: subject.to_owned(),
            kind: kind.to_owned(),
            message,
        });
    }
}

#[cfg(test)]
mod tests;
