//! An independent check of what the deciding code did to the state: shares no code with it. Called by
//! the simulation and by tests after every applied proposal.

use std::collections::BTreeSet;

use super::state::State;
use crate::model::{
    group::{Cohort, Group, Phase, Reign},
    ids::MemberId,
};

/// What one step must not have done; the first thing found, in one sentence.
pub fn check(before: &State, after: &State) -> Result<(), String> {
    for (id, old) in &before.groups {
        let new = after.groups.get(id).ok_or_else(|| format!("{id} has vanished"))?;
        forward(old, new).map_err(|why| format!("{id}: {why}"))?;
    }
    for group in after.groups.values() {
        sound(group).map_err(|why| format!("{}: {why}", group.id))?;
    }
    let members: Vec<_> = after.groups.values().flat_map(|group| group.members.keys()).collect();
    if members.iter().collect::<BTreeSet<_>>().len() != members.len() {
        return Err("a container is in two groups".to_owned());
    }
    for (id, old) in &before.colocations {
        if after.colocations.get(id) != Some(old) {
            return Err(format!("placement {id} has changed without a move"));
        }
    }
    Ok(())
}

/// What only grows.
fn forward(old: &Group, new: &Group) -> Result<(), String> {
    if new.epoch < old.epoch || new.last_timeline < old.last_timeline || new.revision < old.revision {
        return Err(format!("went back from epoch {}, timeline {}", old.epoch, old.last_timeline));
    }
    if old.system_identifier.is_some() && new.system_identifier != old.system_identifier {
        return Err("its system identifier has changed".to_owned());
    }
    for known in reigns(old) {
        if reigns(new).any(|reign| {
            reign.epoch == known.epoch && (&reign.primary, reign.timeline) != (&known.primary, known.timeline)
        }) {
            return Err(format!("two reigns in epoch {}", known.epoch));
        }
        let branched = |reign: &&Reign| reign.timeline == known.timeline && reign.primary != known.primary;
        if let Some(reign) = reigns(new).find(branched) {
            return Err(format!("{} and {} both write timeline {}", known.primary, reign.primary, known.timeline));
        }
    }
    Ok(())
}

/// What always holds.
fn sound(group: &Group) -> Result<(), String> {
    for reign in reigns(group) {
        if reign.epoch > group.epoch || reign.timeline > group.last_timeline {
            return Err(format!("epoch {} reigns before it was opened", reign.epoch));
        }
        for cohort in [&reign.recorded, &reign.ordered] {
            if cohort.acks as usize > cohort.standbys.len() || cohort.standbys.contains(&reign.primary) {
                return Err(format!("cohort {cohort:?} of {} is none", reign.primary));
            }
        }
        let members = [&reign.recorded, &reign.ordered].into_iter().flat_map(|cohort| &cohort.standbys);
        if let Some(stranger) = members.chain([&reign.primary]).find(|id| !group.members.contains_key(*id)) {
            return Err(format!("{stranger} counts and is no member"));
        }
        if !intersect(&reign.ordered, &reign.recorded) {
            return Err(format!("commits under {:?} may be missed by recruits of {:?}", reign.ordered, reign.recorded));
        }
    }
    match (&group.phase, &group.reign) {
        (Phase::Serving | Phase::Draining { .. } | Phase::StandingDown { .. }, Some(reign))
            if reign.epoch != group.epoch =>
        {
            Err(format!("serves epoch {} in epoch {}", reign.epoch, group.epoch))
        }
        (Phase::Serving | Phase::Draining { .. } | Phase::StandingDown { .. }, None) => {
            Err("serves without a reign".to_owned())
        }
        _ => Ok(()),
    }
}

fn reigns(group: &Group) -> impl Iterator<Item = &Reign> {
    let next = if let Phase::Promoting { next } = &group.phase { Some(next) } else { None };
    group.reign.iter().chain(next)
}

/// By going through all sets: no set of acks avoids a set of recruits. Cohorts are small.
fn intersect(applied: &Cohort, recorded: &Cohort) -> bool {
    if recorded.acks == 0 {
        return true;
    }
    let everyone: Vec<&MemberId> = applied.standbys.union(&recorded.standbys).collect();
    let recruits = recorded.standbys.len() + 1 - recorded.acks as usize;
    (0_u32..1 << everyone.len()).all(|set| {
        let (acked, rest): (Vec<_>, Vec<_>) =
            everyone.iter().enumerate().partition(|(place, _)| set & (1 << place) != 0);
        let acks = acked.iter().filter(|(_, id)| applied.standbys.contains(**id)).count();
        let others = rest.iter().filter(|(_, id)| recorded.standbys.contains(**id)).count();
        acks < applied.acks as usize || others < recruits
    })
}
