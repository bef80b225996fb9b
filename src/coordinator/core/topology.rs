//! What routers are told, derived from the replicated state alone: any coordinator gives the same.
//! Called by the topology service after every applied proposal.

use std::collections::BTreeMap;

use super::{command::Command, state::State};
use crate::model::{
    group::{Container, Group, Phase},
    ids::{ColocationId, GroupId},
    map::Colocation,
    numbers::Millis,
    topology::{Access, Endpoint, GroupView, Topology},
};

/// All that routers see, but for the revision.
type Visible = (BTreeMap<GroupId, GroupView>, BTreeMap<ColocationId, Colocation>, Millis, String, u32);

/// What routers see of the part of the state that a command may change.
#[derive(PartialEq)]
pub(super) enum Affected {
    /// One group, where it exists.
    Group(Option<GroupView>),
    /// Everything.
    All(Box<Visible>),
}

/// Compared before and after a command, it tells whether routers can see a difference. Nearly all commands are
/// about one group: with a thousand of them, looking at all each time would be most of a coordinator's work.
pub(super) fn affected(state: &State, command: &Command) -> Affected {
    match command {
        Command::CreateGroup { group, .. }
        | Command::Found { group, .. }
        | Command::Drain { group, .. }
        | Command::CancelDrain { group }
        | Command::StandDown { group }
        | Command::OpenEpoch { group, .. }
        | Command::Elect { group, .. }
        | Command::Serving { group, .. }
        | Command::AddMember { group, .. }
        | Command::Retire { group, .. }
        | Command::Forget { group, .. }
        | Command::SetCohort { group, .. } => Affected::Group(state.groups.get(group).map(view)),
        _ => Affected::All(Box::new(visible(state))),
    }
}

/// The topology; `None` before the cluster is initialised. Its revision moves only when routers can
/// see a difference, so that plans made by it live long.
pub fn topology(state: &State) -> Option<Topology> {
    let cluster = state.cluster.clone()?;
    let (groups, colocations, failover_wait, database, bucket_count) = visible(state);
    Some(Topology {
        revision: state.topology_revision,
        cluster,
        groups,
        colocations,
        failover_wait,
        database,
        bucket_count,
    })
}

fn visible(state: &State) -> Visible {
    let groups = state.groups.values().map(|group| (group.id.clone(), view(group))).collect();
    let policy = &state.policy;
    (groups, state.colocations.clone(), policy.failover_wait, policy.database.clone(), policy.bucket_count)
}

fn view(group: &Group) -> GroupView {
    let primary = group.primary();
    let reigning = primary.and_then(|id| group.members.get(id)).map(endpoint);
    let access = match (&group.phase, reigning) {
        (Phase::Serving, Some(primary)) => Access::Open { primary },
        (Phase::Draining { .. }, Some(primary)) => Access::Draining { primary },
        _ => Access::Held,
    };
    let standbys = group.members.values().filter(|member| Some(&member.id) != primary).map(endpoint).collect();
    GroupView { id: group.id.clone(), kind: group.kind, epoch: group.epoch, access, standbys }
}

fn endpoint(container: &Container) -> Endpoint {
    Endpoint { member: container.id.clone(), host: container.host.clone(), port: container.port }
}
