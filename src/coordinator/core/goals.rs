//! What each container is told to be, derived from the replicated state alone. Called by the agent
//! service after every applied proposal, for each agent that attends the leader. That an agent can reach each
//! of them from wherever it stands is proved in `tests/model/reach.rs`.

use super::state::State;
use crate::model::{
    goal::{Goal, GoalSettings, Order},
    group::{Group, Phase, Reign},
    ids::MemberId,
    numbers::Revision,
    policy::Durability,
};

/// The goal of a container; `None`: idle, it has no group or its group has no use for it yet.
pub fn goal(state: &State, member: &MemberId) -> Option<Goal> {
    let cluster = state.cluster.clone()?;
    let group = state.group_of(member)?;
    let policy = &state.policy;
    let order = order(group, member, policy.durability)?;
    Some(Goal {
        cluster,
        group: group.id.clone(),
        kind: group.kind,
        epoch: group.epoch,
        revision: group.revision,
        joined: state.moved.get(member).copied().unwrap_or_default(),
        order,
        members: group.members.values().cloned().collect(),
        system_identifier: group.system_identifier,
        settings: GoalSettings {
            database: policy.database.clone(),
            owner: policy.owner.clone(),
            heartbeat: policy.heartbeat,
            isolation_timeout: policy.isolation_timeout,
            reads: policy.reads,
            slot_wal_keep_mb: policy.slot_wal_keep_mb,
        },
    })
}

/// When a container that belongs to no group last left one (0: never); `None`: it belongs to one.
pub fn free_since(state: &State, member: &MemberId) -> Option<Revision> {
    let free = !state.membership.contains_key(member);
    free.then(|| state.moved.get(member).copied().unwrap_or_default())
}

fn order(group: &Group, member: &MemberId, durability: Durability) -> Option<Order> {
    match (&group.phase, &group.reign) {
        (Phase::Forming { founder }, _) => (founder == member).then_some(Order::Found),
        (Phase::Recruiting { .. }, _) => Some(Order::Recruit),
        // Nobody gives up what it has for a primary that may not come to reign. Under `strict` it may have
        // to: the reign opens with acknowledgements of standbys that may have to be rewound first, to
        // what was elected as having every acknowledged commit.
        (Phase::Promoting { next }, _) => Some(under(next, member, durability == Durability::Strict)),
        (Phase::StandingDown { .. }, Some(reign)) if reign.primary == *member => Some(Order::StandDown),
        (Phase::Draining { .. } | Phase::StandingDown { .. } | Phase::Serving, Some(reign)) => {
            Some(under(reign, member, true))
        }
        (Phase::Draining { .. } | Phase::StandingDown { .. } | Phase::Serving, None) => {
            unreachable!("{} serves without a reign", group.id)
        }
    }
}

/// The order of a member under a reign.
fn under(reign: &Reign, member: &MemberId, serving: bool) -> Order {
    if reign.primary == *member {
        return Order::Reign { timeline: reign.timeline, cohort: reign.ordered.clone() };
    }
    Order::Follow { primary: reign.primary.clone(), timeline: reign.timeline, serving }
}
