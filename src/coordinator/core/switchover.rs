//! A planned change of primary, without an error at any client and without a loss:
//!
//! 1. draining: routers hold new transactions and finish those in progress;
//! 2. standing down: the primary shuts down cleanly, which sends all of its WAL to every standby that
//!    streams, so the target lacks nothing and the old primary can follow it without a rewind;
//! 3. an epoch as in any failover, with a target: recruit, elect, promote.
//!
//! Until the primary is told to stop the switchover can be given up at no cost; afterwards the epoch
//! elects whoever has everything, if need be the old primary. Called by the planner.

use super::{
    candidate::SMALL_LAG,
    command::{Command, OperationKind, Proposal},
    failover::open_epoch,
    observed::Link,
    operations::Operation,
    planner::World,
    winner::is_wanted,
};
use crate::model::{
    group::{Group, Phase, Reign},
    ids::MemberId,
    numbers::{Lsn, Millis, Revision},
    observed::{DataState, PostgresSeen, Report},
};

/// A router silent for this long is not waited for: its clients have lost it anyway. Ten of its reports.
const ROUTER_ALIVE: Millis = Millis(1_000);
/// How long a clean shutdown may take before an epoch is opened as if the primary were lost. The agent
/// stops it hard before that.
const STAND_DOWN_LIMIT: Millis = Millis(5_000);

/// Starts what a running operation asks for, once the standby can take over at once.
pub fn begin(world: &World<'_>, group: &Group, reign: &Reign) -> Option<Proposal> {
    let operation = asked_for(world, group)?;
    let OperationKind::Switchover { to, .. } = &operation.kind else { return None };
    if hopeless(world, group, operation).is_some() || operation.epoch < reign.epoch {
        return None;
    }
    let target = to.clone().or_else(|| best(world, group, reign))?;
    if !ready(world, group, reign, &target) {
        return None;
    }
    let reason = format!("switchover to {target} was asked for ({})", operation.id);
    Some(world.propose(group, Command::Drain { group: group.id.clone(), target: Some(target) }, reason))
}

/// Draining: on to the next step once routers have nothing in progress, or time is up; back where the
/// operation has ended.
pub fn drain(world: &World<'_>, group: &Group, reign: &Reign, target: Option<&MemberId>) -> Option<Proposal> {
    let id = group.id.clone();
    if asked_for(world, group).is_none() {
        return Some(world.propose(group, Command::CancelDrain { group: id }, "the switchover was given up"));
    }
    let waited = world.observed.in_phase(&group.id, world.now);
    let drained = drained(world, group);
    if !target.is_some_and(|target| ready(world, group, reign, target)) {
        return None;
    }
    let reason = match (drained, waited > world.policy().drain_timeout) {
        (true, _) => "nothing is in progress".to_owned(),
        (false, true) => format!("transactions were still in progress after {waited} ms: they end with an error"),
        (false, false) => return None,
    };
    Some(world.propose(group, Command::StandDown { group: id }, reason))
}

/// Standing down: the epoch opens once the primary is down.
pub fn stand_down(world: &World<'_>, group: &Group, reign: &Reign, target: Option<&MemberId>) -> Option<Proposal> {
    let down = world.fresh_report(&reign.primary).is_some_and(|report| {
        // `Starting` is also what a server that is shutting down looks like. Recruiting before it has
        // ended would cut off the standbys from its last record, and it would have to be rewound.
        let stopped = matches!(report.postgres, PostgresSeen::Down { .. } | PostgresSeen::Standby { .. });
        stopped && report.goal_revision >= group.revision
    });
    if down {
        return Some(open_epoch(world, group, target, format!("{} has stood down", reign.primary)));
    }
    let waited = world.observed.in_phase(&group.id, world.now);
    (waited > STAND_DOWN_LIMIT)
        .then(|| open_epoch(world, group, None, format!("{} did not stand down in {waited} ms", reign.primary)))
}

/// Why a running switchover that has not stopped the primary yet will not come to anything.
pub fn hopeless(world: &World<'_>, group: &Group, operation: &Operation) -> Option<String> {
    let OperationKind::Switchover { to, .. } = &operation.kind else { return None };
    let reign = group.reign.as_ref()?;
    if !matches!(group.phase, Phase::Serving | Phase::Draining { .. }) {
        return None;
    }
    if to.as_ref() == Some(&reign.primary) {
        return Some(format!("{} reigns already", reign.primary));
    }
    if let Phase::Draining { target: Some(target) } = &group.phase {
        let lost = world.observed.not_streaming(&group.id, target, world.now) > world.policy().suspect_after;
        if lost && !ready(world, group, reign, target) {
            return Some(format!("{target} no longer streams from {}: see `howdah status`", reign.primary));
        }
    }
    // Draining may take the same time again before it goes on without the last transactions.
    let limit = Millis(world.policy().drain_timeout.0.saturating_mul(2));
    if world.observed.runs_for(&operation.id, world.now) <= limit {
        return None;
    }
    let who = to.as_ref().map_or("no standby", MemberId::as_str);
    Some(format!("{who} streams from {} closely enough: try again once `howdah status` shows it well", reign.primary))
}

fn asked_for<'a>(world: &World<'a>, group: &'a Group) -> Option<&'a Operation> {
    world.running(&group.id).find(|operation| matches!(operation.kind, OperationKind::Switchover { .. }))
}

/// The best standby for a switchover that names nobody: of those that can take over at once, one of the
/// cohort, then of the highest priority (0 is never chosen), then the furthest by its primary's word.
fn best(world: &World<'_>, group: &Group, reign: &Reign) -> Option<MemberId> {
    let near = group.members.values();
    let near = near.filter(|it| is_wanted(group, &it.id) && ready(world, group, reign, &it.id));
    let best =
        near.max_by_key(|it| (reign.recorded.standbys.contains(&it.id), it.priority, flushed(world, reign, &it.id)));
    best.map(|it| it.id.clone())
}

/// It streams from the primary, is near its end, and its agent can be recruited.
fn ready(world: &World<'_>, group: &Group, reign: &Reign, target: &MemberId) -> bool {
    let usable = |report: &Report| matches!(report.data, DataState::Ready { .. }) && report.promise == group.epoch;
    let near = || {
        let end = world.fresh_report(&reign.primary)?.position()?.lsn;
        Some(end.0.saturating_sub(flushed(world, reign, target)?.0) <= SMALL_LAG)
    };
    world.fresh_report(target).is_some_and(usable) && near().unwrap_or(false)
}

fn flushed(world: &World<'_>, reign: &Reign, standby: &MemberId) -> Option<Lsn> {
    let PostgresSeen::Primary { standbys, .. } = &world.fresh_report(&reign.primary)?.postgres else { return None };
    standbys.iter().find(|seen| seen.member == *standby && seen.streaming).map(|seen| seen.flushed)
}

/// Every router that lives works by a topology with the drain in it and has nothing in progress there.
fn drained(world: &World<'_>, group: &Group) -> bool {
    // The group's revision may be later than what routers can see.
    let since: Revision = group.revision.min(world.state.topology_revision);
    let alive = |heard: Millis| world.observed.lasted(heard, world.now) <= ROUTER_ALIVE;
    world.observed.leads_for(world.now) > ROUTER_ALIVE
        && world.observed.routers.values().filter(|seen| seen.link == Link::Up && alive(seen.heard)).all(|seen| {
            let open = seen.report.open_transactions.iter().any(|(id, count)| *id == group.id && *count > 0);
            seen.report.topology >= since && !open
        })
}
