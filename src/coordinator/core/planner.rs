//! The planner: compares the whole of what is decided with the whole of what is seen, and proposes
//! the next step of whatever is not as it should be. Called by the leader's driver on every tick
//! (about 20 ms) and after every report and applied proposal; takes no hint of what changed.
//!
//! ```text
//! Forming ─found─► Recruiting ─elect─► Promoting ─serving─► Serving ─drain─► Draining ─► StandingDown
//!                      ▲                   │                   │                 │             │
//!                      └───── OpenEpoch ───┴───────────────────┴─────────────────┴─────────────┘
//! ```

use super::{
    candidate, cohort,
    command::{Command, OperationKind, Proposal},
    failover, members,
    observed::{Link, Observed},
    operations::{self, Operation},
    placement,
    state::State,
    switchover,
};
use crate::model::{
    group::{Group, Phase},
    ids::{GroupId, MemberId},
    numbers::Millis,
    observed::Report,
    policy::Policy,
};

/// Everything a decision is made of.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What is decided.
    pub state: &'a State,
    /// What is seen. `Observed::turn` has been called at `now`.
    pub observed: &'a Observed,
    /// The leader's monotonic clock.
    pub now: Millis,
    /// The leader's wall clock, milliseconds since 1970; for events only.
    pub time_ms: u64,
    /// Earlier proposals are neither applied nor given up yet: then nothing is proposed. (Proposing
    /// twice would be harmless, as each is based on a revision, but wasteful.)
    pub in_flight: bool,
}

/// The next steps, at most one per group. Empty: all is as it should be, or waits for something.
pub fn plan(world: &World<'_>) -> Vec<Proposal> {
    if world.in_flight || world.state.cluster.is_none() {
        return Vec::new();
    }
    let mut proposals = placement::register(world);
    proposals.extend(placement::create(world));
    proposals.extend(operations::finish(world));
    proposals.extend(world.state.groups.values().filter_map(|group| step(world, group)));
    proposals
}

/// The next step of one group.
fn step(world: &World<'_>, group: &Group) -> Option<Proposal> {
    match (&group.phase, &group.reign) {
        (Phase::Forming { founder }, _) => placement::found(world, group, founder),
        (Phase::Recruiting { target, accept_data_loss }, _) => failover::forced(world, group)
            .or_else(|| candidate::elect(world, group, target.as_ref(), *accept_data_loss)),
        (Phase::Promoting { next }, _) => failover::forced(world, group)
            .or_else(|| failover::serving(world, group, next))
            .or_else(|| failover::lost_candidate(world, group, next))
            .or_else(|| cohort::promise_less(world, group, next)),
        (Phase::Serving, Some(reign)) => failover::forced(world, group)
            .or_else(|| failover::lost_primary(world, group, reign, None))
            .or_else(|| switchover::begin(world, group, reign))
            .or_else(|| cohort::step(world, group, reign))
            .or_else(|| members::step(world, group, reign)),
        (Phase::Draining { target }, Some(reign)) => failover::forced(world, group)
            .or_else(|| failover::lost_primary(world, group, reign, target.as_ref()))
            .or_else(|| switchover::drain(world, group, reign, target.as_ref())),
        (Phase::StandingDown { target }, Some(reign)) => failover::forced(world, group)
            .or_else(|| switchover::stand_down(world, group, reign, target.as_ref()))
            .or_else(|| failover::lost_primary(world, group, reign, target.as_ref())),
        (Phase::Serving | Phase::Draining { .. } | Phase::StandingDown { .. }, None) => {
            unreachable!("{} serves without a reign", group.id)
        }
    }
}

impl<'a> World<'a> {
    /// What people want.
    pub(super) fn policy(&self) -> &'a Policy {
        &self.state.policy
    }

    /// Its stream is open and it was heard lately.
    pub(super) fn reachable(&self, member: &MemberId) -> bool {
        self.observed
            .members
            .get(member)
            .is_some_and(|seen| seen.link == Link::Up && self.now.since(seen.heard) <= self.policy().suspect_after)
    }

    /// The newest report of a member that is reachable.
    pub(super) fn fresh_report(&self, member: &MemberId) -> Option<&'a Report> {
        if self.reachable(member) { self.observed.report(member) } else { None }
    }

    /// Running operations about a group.
    pub(super) fn running(&self, group: &'a GroupId) -> impl Iterator<Item = &'a Operation> {
        self.state.operations.iter().filter(move |operation| operation.runs() && operation.target == *group)
    }

    /// A person accepted a loss for this group.
    pub(super) fn loss_accepted(&self, group: &'a GroupId) -> bool {
        self.running(group).any(|o| matches!(o.kind, OperationKind::Failover { accept_data_loss: true, .. }))
    }

    /// A step of a group, based on what it is now.
    pub(super) fn propose(&self, group: &Group, command: Command, reason: impl Into<String>) -> Proposal {
        let based_on = Some((group.id.clone(), group.revision));
        Proposal { command, reason: reason.into(), time_ms: self.time_ms, based_on }
    }

    /// A step that is not based on a group.
    pub(super) fn propose_anyway(&self, command: Command, reason: impl Into<String>) -> Proposal {
        Proposal { command, reason: reason.into(), time_ms: self.time_ms, based_on: None }
    }
}
