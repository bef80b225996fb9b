//! Which containers make which group, and how a group gets its first data. Called by the planner.
//!
//! The groups of the policy form once, each as soon as its containers are there; further shards are
//! made by operations. A container's wish is honoured where it has one, and members are spread over
//! zones.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    command::{Command, OperationKind, Proposal},
    failover::open_epoch,
    planner::World,
    state::shard_name,
};
use crate::model::{
    group::{Container, Group, GroupKind},
    ids::{GroupId, MemberId},
    observed::DataState,
};

/// Containers that registered something else than is known of them.
pub fn register(world: &World<'_>) -> Vec<Proposal> {
    let there = world.observed.members.values().map(|seen| &seen.container).filter(|it| world.reachable(&it.id));
    let news = there.filter(|container| {
        let known = world.state.containers.get(&container.id) == Some(*container);
        !known && world.state.group_of(&container.id).is_none_or(|group| group.kind == container.kind)
    });
    news.map(|container| {
        let command = Command::Register { container: container.clone() };
        world.propose_anyway(command, format!("{} registered", container.id))
    })
    .collect()
}

/// Groups that can form now.
pub fn create(world: &World<'_>) -> Vec<Proposal> {
    let wanted = wanted(world);
    if wanted.is_empty() {
        return Vec::new();
    }
    // A container that wishes for one of these waits for it.
    let reserved: BTreeSet<_> = wanted.iter().map(|(id, _, _)| id.clone()).collect();
    let mut idle: BTreeMap<&MemberId, &Container> = free(world).map(|c| (&c.id, c)).collect();
    let mut proposals = Vec::new();
    for (id, kind, size) in wanted {
        let Some(members) = choose(&id, kind, size, &idle, &reserved) else { continue };
        for member in &members {
            idle.remove(member);
        }
        let Some(founder) = members.first().cloned() else { continue };
        let members: BTreeSet<_> = members.into_iter().collect();
        let reason = format!("{size} containers are there for it");
        proposals.push(world.propose_anyway(Command::CreateGroup { group: id, kind, members, founder }, reason));
    }
    proposals
}

/// Containers without a group that are there and hold no data: what another group has left on one is not
/// for a new one.
pub fn free<'a>(world: &'a World<'a>) -> impl Iterator<Item = &'a Container> {
    let bare = |id: &MemberId| world.fresh_report(id).is_some_and(|report| report.data == DataState::Empty);
    world.state.idle().filter(move |container| bare(&container.id))
}

/// A kind's name, as people see it.
pub fn kind_name(kind: GroupKind) -> &'static str {
    match kind {
        GroupKind::Query => "query",
        GroupKind::Shard => "shard",
    }
}

/// A group's first data: once the founder has it, it is recorded; then the group's first epoch opens.
pub fn found(world: &World<'_>, group: &Group, founder: &MemberId) -> Option<Proposal> {
    let report = world.fresh_report(founder)?;
    let DataState::Ready { system_identifier } = report.data else { return None };
    Some(match group.system_identifier {
        None => {
            let command = Command::Found { group: group.id.clone(), system_identifier };
            world.propose(group, command, format!("{founder} has made its data directory"))
        }
        Some(_) => open_epoch(world, group, None, format!("{founder} can begin its first reign")),
    })
}

/// Groups that should exist and do not: name, kind, members.
pub fn wanted(world: &World<'_>) -> Vec<(GroupId, GroupKind, usize)> {
    let policy = world.policy();
    let shard = |number| (shard_name(number), GroupKind::Shard, 1 + policy.replicas as usize);
    let query = (query_name(), GroupKind::Query, policy.query_members as usize);
    let first = std::iter::once(query).chain((1..=policy.shards).map(shard));
    let added = world.state.operations.iter().filter(|operation| operation.runs()).filter_map(|operation| {
        let OperationKind::AddShard { replicas } = operation.kind else { return None };
        Some((operation.target.clone(), GroupKind::Shard, 1 + replicas as usize))
    });
    first.chain(added).filter(|(id, _, size)| *size > 0 && !world.state.groups.contains_key(id)).collect()
}

/// Members of a new group, its founder first; `None`: too few are idle.
fn choose(
    id: &GroupId,
    kind: GroupKind,
    size: usize,
    idle: &BTreeMap<&MemberId, &Container>,
    reserved: &BTreeSet<GroupId>,
) -> Option<Vec<MemberId>> {
    let wishes = |container: &Container| container.wish.as_ref() == Some(id);
    let free = |container: &Container| container.wish.as_ref().is_none_or(|wish| !reserved.contains(wish));
    let mut left: Vec<&Container> =
        idle.values().copied().filter(|c| c.kind == kind && (wishes(c) || free(c))).collect();
    let mut chosen: Vec<&Container> = Vec::with_capacity(size);
    while chosen.len() < size {
        let crowd = |zone: &str| chosen.iter().filter(|member| member.zone == zone).count();
        let next = left.iter().enumerate().min_by_key(|(_, c)| (!wishes(c), crowd(&c.zone), &c.id));
        let (index, _) = next?;
        chosen.push(left.remove(index));
    }
    Some(chosen.into_iter().map(|container| container.id.clone()).collect())
}

fn query_name() -> GroupId {
    "query".parse().expect("it is a name")
}
