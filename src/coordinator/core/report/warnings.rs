//! What a person should know, each with what to do.

use super::forming;
use crate::{
    coordinator::core::{candidate, cohort, flapping, members, planner::World, suspicion},
    model::{
        group::{Group, GroupKind, Phase, Reign},
        ids::MemberId,
        observed::{DataState, PostgresSeen, Report},
        policy::Durability,
    },
};

/// Everything that is wrong or waits, groups in order of names.
pub fn warnings(world: &World<'_>) -> Vec<String> {
    if world.state.cluster.is_none() {
        return vec![
            "the cluster is not initialised yet: it is as soon as its coordinators have a majority".to_owned(),
        ];
    }
    let mut warnings = forming(world);
    for group in world.state.groups.values() {
        let id = &group.id;
        if group.paused {
            warnings
                .push(format!("{id} is paused, a lost primary is not replaced: end that with `howdah resume {id}`"));
        }
        phase(world, group, &mut warnings);
        each_member(world, group, &mut warnings);
        warnings.extend(members::waits_for(world, group));
    }
    for container in world.state.idle() {
        if let Some(report) = world.fresh_report(&container.id).filter(|report| !report.healthy) {
            warnings.push(format!("{} has no group and is not free for one: {}", container.id, report.note));
        }
    }
    warnings
}

fn phase(world: &World<'_>, group: &Group, warnings: &mut Vec<String>) {
    let id = &group.id;
    match (&group.phase, &group.reign) {
        (Phase::Forming { founder }, _) => {
            warnings.push(format!("{id} is forming: {founder} makes its data directory"));
        }
        (Phase::Recruiting { .. }, _) => {
            let why = candidate::waits_for(world, group).unwrap_or_else(|| group.reason.clone());
            warnings.push(format!("{id} has no primary, its writes wait: {why}"));
        }
        (Phase::Promoting { next }, _) => {
            let why = candidate::waits_for(world, group);
            let why = why.unwrap_or_else(|| format!("{} is being promoted", next.primary));
            warnings.push(format!("{id} has no primary yet, its writes wait: {why}"));
        }
        (_, Some(reign)) => {
            lost_primary(world, group, reign, warnings);
            durability(world, group, reign, warnings);
        }
        (_, None) => {}
    }
}

/// A primary that is held to be lost and yet not replaced: too few others are there.
fn lost_primary(world: &World<'_>, group: &Group, reign: &Reign, warnings: &mut Vec<String>) {
    let Some(suspicion) = suspicion::of_primary(world, group, reign) else { return };
    let (id, reason) = (&group.id, suspicion.reason);
    if group.paused {
        warnings.push(format!(
            "{id} keeps a primary that is held to be lost ({reason}) because it is paused: get another with \
             `howdah failover {id}`, or let Howdah decide with `howdah resume {id}`"
        ));
        return;
    }
    if let Some(why) = flapping::holds(world, group).filter(|_| !suspicion.certain) {
        warnings.push(format!("{id} keeps a primary that is held to be lost ({reason}): {why}"));
    }
    if !candidate::could_elect(world, reign) {
        warnings.push(format!(
            "{id} cannot replace its primary ({reason}): no standbys that are known to have every acknowledged \
             commit are there; bring {} back, or accept a loss with `howdah failover {id} --accept-data-loss`",
            reign.primary
        ));
    }
}

fn durability(world: &World<'_>, group: &Group, reign: &Reign, warnings: &mut Vec<String>) {
    let standbys = u32::try_from(group.members.len()).unwrap_or(u32::MAX).saturating_sub(1);
    let wanted = world.policy().acks.min(standbys);
    let (id, acks) = (&group.id, reign.recorded.acks);
    if acks < wanted {
        let risk = if acks == 0 {
            format!(": if {} were lost now, it could not be replaced without a loss", reign.primary)
        } else {
            String::new()
        };
        let counted = |member: &&MemberId| {
            **member != reign.primary && cohort::counts(world.policy(), group, &reign.primary, member)
        };
        let way_out = if group.members.keys().any(|member| counted(&member)) {
            "bring its standbys back".to_owned()
        } else {
            format!("add a standby in another zone than that of {} (ack_zones = other)", reign.primary)
        };
        warnings.push(format!("{id} commits with {acks} of {wanted} standby acknowledgements{risk}; {way_out}"));
    }
    if let Some(PostgresSeen::Primary { standbys, .. }) = world.fresh_report(&reign.primary).map(|r| &r.postgres) {
        let there = standbys.iter().filter(|s| s.streaming && reign.ordered.standbys.contains(&s.member)).count();
        if world.policy().durability == Durability::Strict && there < reign.ordered.acks as usize {
            warnings.push(format!("{id} holds its writes (durability = strict): {there} of {acks} standbys stream"));
        }
    }
}

fn each_member(world: &World<'_>, group: &Group, warnings: &mut Vec<String>) {
    let id = &group.id;
    for member in group.members.keys() {
        let Some(report) = world.fresh_report(member) else {
            let silence = world.observed.silence(member, world.now);
            if silence > world.policy().suspect_after {
                warnings.push(format!("{member} of {id} is lost, nothing heard for {silence} ms: start it again"));
            }
            continue;
        };
        if let Some(why) = trouble(group, report) {
            warnings.push(format!("{member} of {id} {why}"));
        }
        let router_due = group.kind == GroupKind::Query && group.phase == Phase::Serving;
        if router_due && report.router_pid.is_none() {
            warnings.push(format!("{member} of {id} runs no router: see its agent's log"));
        }
    }
}

/// What a member that answers says is wrong with it.
fn trouble(group: &Group, report: &Report) -> Option<String> {
    if let (DataState::Ready { system_identifier }, Some(known)) = (&report.data, group.system_identifier)
        && *system_identifier != known
    {
        return Some(format!(
            "holds data of another cluster (system identifier {system_identifier}, not {known}): \
             point it at its own directory {} or an empty one",
            report.data_dir
        ));
    }
    if let PostgresSeen::Down { crashed: Some(why) } = &report.postgres {
        return Some(format!("has lost its PostgreSQL ({why}): see its log"));
    }
    (!report.healthy && !report.note.is_empty()).then(|| format!("is {}: {}", report.state, report.note))
}
