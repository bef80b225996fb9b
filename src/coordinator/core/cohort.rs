//! Whose acknowledgement counts, and how that changes while the primary lives (failover.md,
//! "Changing the cohort"). The rule: every set of acks with which the primary may commit (*applied*)
//! meets every set of recruits with which the coordinator may elect (*recorded*).
//!
//! | change | order |
//! |---|---|
//! | a standby joins | record first, then apply: one command does both, as the order goes out after it |
//! | k shrinks, also to 0 | the same |
//! | a standby leaves, k unchanged | apply first; record once the primary reports it applied |
//! | k grows | the same |
//!
//! What is recorded after it is applied must also hold for commits made before it was: so k of its
//! standbys must have flushed all WAL there was when it came into force.
//!
//! Called by `State::apply`, which refuses what breaks the rule, and by the planner.

use std::collections::BTreeSet;

use super::{
    candidate::SMALL_LAG,
    command::{Command, Proposal},
    planner::World,
    state::describe,
};
use crate::model::{
    group::{Cohort, Group, Reign},
    ids::MemberId,
    numbers::Lsn,
    observed::{DataState, PostgresSeen, Report, StandbySeen},
    policy::{AckZones, Durability, Policy},
};

/// Whether every set of acks that is enough under `applied` meets every set of recruits that is enough
/// under `recorded`. With n standbys recorded and k acks, n − k + 1 recruits are enough, so k − 1 can be
/// absent; of k' acks at least k' − |applied ∖ recorded| come from the recorded.
pub fn meets(applied: &Cohort, recorded: &Cohort) -> bool {
    let strangers = applied.standbys.difference(&recorded.standbys).count();
    recorded.acks == 0 || applied.acks as usize >= recorded.acks as usize + strangers
}

/// Whether every set of recruits that is enough under `new` holds one that is enough under `old`: then
/// `new` may be recorded without asking what any standby has.
pub fn weaker(new: &Cohort, old: &Cohort) -> bool {
    let Some(enough) = enough(new) else { return true };
    let strangers = new.standbys.difference(&old.standbys).count();
    self::enough(old).is_some_and(|old| enough >= old + strangers)
}

/// How many recruits of the cohort are enough: n − k + 1; `None` with k = 0, where no number is.
pub fn enough(recorded: &Cohort) -> Option<usize> {
    (recorded.acks > 0).then(|| recorded.standbys.len() + 1 - recorded.acks as usize)
}

/// Whether policy lets a standby's acknowledgement count for this primary.
pub fn counts(policy: &Policy, group: &Group, primary: &MemberId, standby: &MemberId) -> bool {
    let zone = |id: &MemberId| group.members.get(id).map(|member| member.zone.as_str());
    match policy.ack_zones {
        AckZones::Any => true,
        AckZones::Other => zone(standby) != zone(primary),
    }
}

/// The next step of the cohort of a reign that serves.
pub fn step(world: &World<'_>, group: &Group, reign: &Reign) -> Option<Proposal> {
    let report = world.fresh_report(&reign.primary)?;
    let PostgresSeen::Primary { position, epoch, applied, standbys, .. } = &report.postgres else { return None };
    if *epoch != reign.epoch {
        return None;
    }
    let view = View { world, group, primary: &reign.primary, end: position.lsn, standbys };
    let confirmed = applied.ordered_at == reign.ordered.ordered_at;
    let (recorded, ordered, reason) = if reign.recorded.same(&reign.ordered) {
        if confirmed { view.next(&reign.recorded)? } else { view.shrink(&reign.recorded, &reign.ordered)? }
    } else if confirmed && view.covers(&reign.ordered) {
        let reason = format!("{} is applied", describe(&reign.ordered));
        (reign.ordered.clone(), reign.ordered.clone(), reason)
    } else {
        view.shrink(&reign.recorded, &reign.ordered)?
    };
    Some(world.propose(group, Command::SetCohort { group: group.id.clone(), recorded, ordered }, reason))
}

/// Under `available`, lets a candidate begin with fewer acknowledgements than it was elected with, when
/// standbys that were recruited do not come to follow it.
pub fn promise_less(world: &World<'_>, group: &Group, next: &Reign) -> Option<Proposal> {
    let report = world.fresh_report(&next.primary)?;
    let PostgresSeen::Primary { position, applied, standbys, .. } = &report.postgres else { return None };
    if applied.ordered_at != next.ordered.ordered_at {
        return None;
    }
    let view = View { world, group, primary: &next.primary, end: position.lsn, standbys };
    let (recorded, ordered, reason) = view.shrink(&next.recorded, &next.ordered)?;
    Some(world.propose(group, Command::SetCohort { group: group.id.clone(), recorded, ordered }, reason))
}

type Step = (Cohort, Cohort, String);

/// A primary's standbys as it reports them.
struct View<'a> {
    world: &'a World<'a>,
    group: &'a Group,
    primary: &'a MemberId,
    end: Lsn,
    standbys: &'a [StandbySeen],
}

impl View<'_> {
    fn seen(&self, member: &MemberId) -> Option<&StandbySeen> {
        self.standbys.iter().find(|standby| standby.member == *member && standby.streaming)
    }

    /// Streams, has caught up, and its agent can be recruited.
    fn may_join(&self, member: &MemberId) -> bool {
        let near = self.seen(member).is_some_and(|seen| self.end.0.saturating_sub(seen.flushed.0) <= SMALL_LAG);
        let ready =
            |report: &Report| matches!(report.data, DataState::Ready { .. }) && report.promise == self.group.epoch;
        near && self.counts(member) && self.world.fresh_report(member).is_some_and(ready)
    }

    fn counts(&self, member: &MemberId) -> bool {
        !self.group.leaving.contains(member) && counts(self.world.policy(), self.group, self.primary, member)
    }

    /// Those of a cohort that are no good to it any more, and why.
    fn out(&self, cohort: &Cohort) -> Option<(BTreeSet<MemberId>, String)> {
        let lost: BTreeSet<_> = cohort.standbys.iter().filter(|id| self.gone(id)).cloned().collect();
        let odd: BTreeSet<_> = cohort.standbys.iter().filter(|id| !self.counts(id) && !lost.contains(*id)).collect();
        let odd: BTreeSet<_> = odd.into_iter().cloned().collect();
        let parts = [(&lost, "is lost"), (&odd, "does not count any more")];
        let parts: Vec<_> = parts
            .iter()
            .filter(|(who, _)| !who.is_empty())
            .map(|(who, what)| format!("{} {what}", names(who)))
            .collect();
        (!parts.is_empty()).then(|| (&lost | &odd, parts.join(", ")))
    }

    /// Has not streamed for `degrade_after`.
    fn gone(&self, member: &MemberId) -> bool {
        let absent = self.world.observed.not_streaming(&self.group.id, member, self.world.now);
        self.seen(member).is_none() && absent > self.world.policy().degrade_after
    }

    /// Enough standbys have flushed all that was committed before the cohort came into force.
    fn covers(&self, cohort: &Cohort) -> bool {
        let Some(end) = self.world.observed.applied_end(&self.group.id, cohort.ordered_at) else { return false };
        let flushed = |id: &&MemberId| self.seen(id).is_some_and(|seen| seen.flushed >= end);
        cohort.standbys.iter().filter(flushed).count() >= cohort.acks as usize
    }

    /// The next change of a cohort that is recorded, ordered and applied: the one that costs least first.
    fn next(&self, now: &Cohort) -> Option<Step> {
        self.join(now).or_else(|| self.shrink(now, now)).or_else(|| self.leave(now)).or_else(|| self.grow(now))
    }

    fn join(&self, now: &Cohort) -> Option<Step> {
        let others = self.group.members.keys().filter(|id| !now.standbys.contains(*id));
        let joining: BTreeSet<_> = others.filter(|id| self.may_join(id)).cloned().collect();
        if joining.is_empty() {
            return None;
        }
        let reason = format!("{} streams and has caught up", names(&joining));
        let new = Cohort { standbys: now.standbys.union(&joining).cloned().collect(), ..now.clone() };
        Some((new.clone(), new, reason))
    }

    /// Fewer acks, where fewer than k standbys of what is ordered are left and policy allows it.
    fn shrink(&self, recorded: &Cohort, ordered: &Cohort) -> Option<Step> {
        if self.world.policy().durability == Durability::Strict {
            return None;
        }
        let (out, why) = self.out(ordered)?;
        let left = u32::try_from(ordered.standbys.len() - out.len()).unwrap_or(u32::MAX);
        if left >= ordered.acks {
            return None;
        }
        let reason = format!("{why}: going on with {left} acknowledgements");
        let fewer = |old: &Cohort| Cohort { acks: old.acks.min(left), ..old.clone() };
        Some((fewer(recorded), fewer(ordered), reason))
    }

    fn leave(&self, now: &Cohort) -> Option<Step> {
        let (out, reason) = self.out(now)?;
        if now.standbys.len() - out.len() < now.acks as usize {
            return None;
        }
        let new = Cohort { standbys: now.standbys.difference(&out).cloned().collect(), ..now.clone() };
        let recorded = if weaker(&new, now) { new.clone() } else { now.clone() };
        Some((recorded, new, reason))
    }

    fn grow(&self, now: &Cohort) -> Option<Step> {
        let there = now.standbys.iter().filter(|id| self.seen(id).is_some()).count();
        let acks = self.world.policy().acks.min(u32::try_from(there).unwrap_or(u32::MAX));
        let new = Cohort { acks, ..now.clone() };
        (acks > now.acks).then(|| (now.clone(), new, format!("{there} standbys stream")))
    }
}

fn names(members: &BTreeSet<MemberId>) -> String {
    members.iter().map(MemberId::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
