//! The protocol's transitions of one group (failover.md). What a stale or confused leader may propose
//! is refused; what would break the protocol whoever proposed it is asserted.

use std::collections::BTreeSet;

use super::State;
use crate::{
    coordinator::core::{
        cohort::{meets, weaker},
        command::{Outcome, Proposal, Refusal},
    },
    model::{
        group::{Cohort, Group, GroupKind, Phase, Reign},
        ids::{GroupId, MemberId},
        numbers::{Epoch, Timeline},
    },
};

/// initdb's own timeline: the first promotion of a group is to the one after it.
const FOUNDED_ON: Timeline = Timeline(1);

type Change = Result<Outcome, Refusal>;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Precondition(why.into()))
}

impl State {
    pub(super) fn create_group(
        &mut self,
        id: &GroupId,
        kind: GroupKind,
        members: &BTreeSet<MemberId>,
        founder: &MemberId,
        proposal: &Proposal,
    ) -> Change {
        if self.groups.contains_key(id) {
            return refuse(format!("group {id} exists already"));
        }
        if !members.contains(founder) {
            return refuse(format!("{founder} cannot found {id}: it is not one of its members"));
        }
        let mut taken = Vec::with_capacity(members.len());
        for member in members {
            let Some(container) = self.containers.get(member).filter(|container| container.kind == kind) else {
                return refuse(format!("{member} has not registered as a container for {id}"));
            };
            if let Some(group) = self.group_of(member) {
                return refuse(format!("{member} belongs to {} already", group.id));
            }
            taken.push((member.clone(), container.clone()));
        }
        let group = Group {
            id: id.clone(),
            kind,
            members: taken.into_iter().collect(),
            epoch: Epoch(0),
            phase: Phase::Forming { founder: founder.clone() },
            reign: None,
            last_timeline: FOUNDED_ON,
            replicas: u32::try_from(members.len() - 1).ok(),
            leaving: BTreeSet::new(),
            paused: false,
            hasty: 0,
            system_identifier: None,
            revision: self.revision,
            reason: proposal.reason.clone(),
        };
        self.membership.extend(members.iter().map(|member| (member.clone(), id.clone())));
        self.moved.extend(members.iter().map(|member| (member.clone(), self.revision)));
        self.groups.insert(id.clone(), group);
        let names: Vec<_> = members.iter().map(MemberId::as_str).collect();
        self.event(
            id.as_str(),
            "group-created",
            format!("made of {}: {}", names.join(", "), proposal.reason),
            proposal,
        );
        Ok(Outcome::Applied)
    }

    pub(super) fn found(&mut self, id: &GroupId, system_identifier: u64, proposal: &Proposal) -> Change {
        self.alter(id, proposal, "founded", |group| {
            if !matches!(group.phase, Phase::Forming { .. }) || group.system_identifier.is_some() {
                return refuse(format!("{id} is founded already"));
            }
            group.system_identifier = Some(system_identifier);
            Ok("its first data directory is there".to_owned())
        })
    }

    pub(super) fn drain(&mut self, id: &GroupId, target: Option<&MemberId>, proposal: &Proposal) -> Change {
        self.alter(id, proposal, "draining", |group| {
            if group.phase != Phase::Serving {
                return refuse(format!("{id} is {}, not serving: a switchover needs it to serve", group.phase.name()));
            }
            if target.is_some_and(|member| !group.members.contains_key(member)) {
                return refuse(format!("the switchover's target is not a member of {id}"));
            }
            group.phase = Phase::Draining { target: target.cloned() };
            Ok("routers hold new work".to_owned())
        })
    }

    pub(super) fn cancel_drain(&mut self, id: &GroupId, proposal: &Proposal) -> Change {
        self.alter(id, proposal, "drain-cancelled", |group| {
            if !matches!(group.phase, Phase::Draining { .. }) {
                return refuse(format!("{id} is {}, not draining", group.phase.name()));
            }
            group.phase = Phase::Serving;
            Ok("the primary stays".to_owned())
        })
    }

    pub(super) fn stand_down(&mut self, id: &GroupId, proposal: &Proposal) -> Change {
        self.alter(id, proposal, "standing-down", |group| {
            let Phase::Draining { target } = &group.phase else {
                return refuse(format!("{id} is {}, not draining", group.phase.name()));
            };
            group.phase = Phase::StandingDown { target: target.clone() };
            Ok("the primary shuts down cleanly".to_owned())
        })
    }

    pub(super) fn open_epoch(
        &mut self,
        id: &GroupId,
        epoch: Epoch,
        recruiting: Phase,
        hasty: u32,
        proposal: &Proposal,
    ) -> Change {
        self.alter(id, proposal, "epoch-opened", |group| {
            if group.system_identifier.is_none() {
                return refuse(format!("{id} has no data yet: its founder has to start first"));
            }
            if epoch != group.epoch.next() {
                return refuse(format!("epoch {epoch} of {id} cannot follow {}", group.epoch));
            }
            group.epoch = epoch;
            group.phase = recruiting;
            group.hasty = hasty;
            Ok(format!("epoch {epoch}"))
        })
    }

    pub(super) fn elect(
        &mut self,
        id: &GroupId,
        epoch: Epoch,
        primary: &MemberId,
        timeline: Timeline,
        cohort: &Cohort,
        proposal: &Proposal,
    ) -> Change {
        let cohort = Cohort { ordered_at: self.revision, ..cohort.clone() };
        self.alter(id, proposal, "elected", |group| {
            if epoch != group.epoch || !matches!(group.phase, Phase::Recruiting { .. }) {
                return refuse(format!("{id} is {} in epoch {}", group.phase.name(), group.epoch));
            }
            check_cohort(group, primary, &cohort)?;
            if goes_on(group, primary, timeline) {
                let reign = group.reign.as_mut().expect("goes_on() saw it");
                let safe = weaker(&cohort, &reign.recorded) && meets(&reign.ordered, &cohort);
                if !safe {
                    return refuse(format!("{primary} may commit already with a cohort that {id} would not recruit"));
                }
                // It may use the new cohort before it is known to serve: record first.
                reign.recorded = cohort.clone();
            } else if timeline == group.last_timeline.next() {
                group.last_timeline = timeline;
            } else {
                return refuse(format!("timeline {timeline} of {id} does not follow {}", group.last_timeline));
            }
            let (recorded, ordered) = (cohort.clone(), cohort);
            let next = Reign { epoch, primary: primary.clone(), timeline, recorded, ordered };
            let words = format!("{primary} on timeline {timeline}, cohort {}", describe(&next.ordered));
            group.phase = Phase::Promoting { next };
            // Whoever has everything is needed, wanted or not.
            group.leaving.remove(primary);
            Ok(words)
        })
    }

    pub(super) fn serving(&mut self, id: &GroupId, epoch: Epoch, proposal: &Proposal) -> Change {
        self.alter(id, proposal, "serving", |group| {
            let Phase::Promoting { next } = &group.phase else {
                return refuse(format!("{id} is {}, not promoting", group.phase.name()));
            };
            if next.epoch != epoch || group.epoch != epoch {
                return refuse(format!("{id} is in epoch {}, not {epoch}", group.epoch));
            }
            let next = next.clone();
            assert!(group.reign.as_ref().is_none_or(|old| old.epoch < epoch), "{id}: two reigns in epoch {epoch}");
            let words = format!("{} serves in epoch {epoch}", next.primary);
            group.reign = Some(next);
            group.phase = Phase::Serving;
            Ok(words)
        })
    }

    pub(super) fn set_cohort(
        &mut self,
        id: &GroupId,
        recorded: &Cohort,
        ordered: &Cohort,
        proposal: &Proposal,
    ) -> Change {
        let at = self.revision;
        self.alter(id, proposal, "cohort", |group| {
            let primary = group.primary().cloned();
            let Some(primary) = primary else {
                return refuse(format!("{id} is {}: there is no cohort to change", group.phase.name()));
            };
            check_cohort(group, &primary, recorded)?;
            check_cohort(group, &primary, ordered)?;
            match group.phase.clone() {
                Phase::Promoting { next } => change_promised(group, next, recorded, ordered, at)?,
                _ => change_reigning(group, recorded, ordered, at)?,
            }
            Ok(format!("recorded {}, ordered {}", describe(recorded), describe(ordered)))
        })
    }

    /// Changes a group: `change` refuses or says what it did, which becomes the event.
    pub(super) fn alter(
        &mut self,
        id: &GroupId,
        proposal: &Proposal,
        kind: &str,
        change: impl FnOnce(&mut Group) -> Result<String, Refusal>,
    ) -> Change {
        let mut group = self.group(id)?.clone();
        let (epoch, timeline) = (group.epoch, group.last_timeline);
        let words = change(&mut group)?;
        assert!(group.epoch >= epoch, "{id}: epoch {} after {epoch}", group.epoch);
        assert!(group.last_timeline >= timeline, "{id}: timeline {} after {timeline}", group.last_timeline);
        group.revision = self.revision;
        group.reason.clone_from(&proposal.reason);
        self.groups.insert(id.clone(), group);
        self.event(id.as_str(), kind, format!("{words}: {}", proposal.reason), proposal);
        Ok(Outcome::Applied)
    }
}

/// A reign that goes on without a promotion: the primary of the last one, alive on its timeline, and
/// nobody was told to branch off it since. (With a branch, a member of it would later be taken for
/// further than one that followed this primary.)
pub(crate) fn goes_on(group: &Group, primary: &MemberId, timeline: Timeline) -> bool {
    let reign = group.reign.as_ref();
    timeline == group.last_timeline && reign.is_some_and(|old| old.primary == *primary && old.timeline == timeline)
}

fn check_cohort(group: &Group, primary: &MemberId, cohort: &Cohort) -> Result<(), Refusal> {
    if !group.members.contains_key(primary) {
        return refuse(format!("{primary} is not a member of {}", group.id));
    }
    let standby = |id| id != primary && group.members.contains_key(id);
    if !cohort.standbys.iter().all(standby) || cohort.acks as usize > cohort.standbys.len() {
        return refuse(format!("{} is no cohort for {primary} in {}", describe(cohort), group.id));
    }
    Ok(())
}

/// Before the reign is open nothing is committed in it that a client knows of, unless its primary was
/// one already: then what it may commit with must meet what is recorded.
fn change_promised(
    group: &mut Group,
    mut next: Reign,
    recorded: &Cohort,
    ordered: &Cohort,
    at: crate::model::numbers::Revision,
) -> Result<(), Refusal> {
    if !recorded.same(ordered) {
        return refuse("before a reign is open its cohort changes in one step");
    }
    let cohort = Cohort { ordered_at: at, ..ordered.clone() };
    if goes_on(group, &next.primary, next.timeline) {
        let reign = group.reign.as_mut().expect("goes_on() saw it");
        if !weaker(&cohort, &reign.recorded) || !meets(&next.ordered, &cohort) {
            return refuse("the primary may commit with a cohort that would not be recruited");
        }
        reign.recorded = cohort.clone();
    }
    (next.recorded, next.ordered) = (cohort.clone(), cohort);
    group.phase = Phase::Promoting { next };
    Ok(())
}

/// The rule of failover.md: what the primary may have applied (the cohort ordered so far, the one
/// ordered now) meets what is recorded, before and after.
fn change_reigning(
    group: &mut Group,
    recorded: &Cohort,
    ordered: &Cohort,
    at: crate::model::numbers::Revision,
) -> Result<(), Refusal> {
    let Some(reign) = group.reign.as_mut() else { return refuse("there is no reign") };
    // The second half of a change: the planner has seen that what was ordered is applied.
    let second_half = recorded.same(&reign.ordered) && ordered.same(&reign.ordered);
    if !(meets(ordered, recorded) && (second_half || meets(&reign.ordered, recorded))) {
        return refuse(format!("the primary of {} may commit with a cohort that would not be recruited", group.id));
    }
    if !second_half && !weaker(recorded, &reign.recorded) {
        return refuse("a cohort is recorded only once it is applied");
    }
    if !recorded.same(&reign.recorded) {
        reign.recorded = Cohort { ordered_at: at, ..recorded.clone() };
    }
    if !ordered.same(&reign.ordered) {
        reign.ordered = Cohort { ordered_at: at, ..ordered.clone() };
    }
    Ok(())
}

/// `ANY 1 (a, b)`, or `nobody`.
pub(crate) fn describe(cohort: &Cohort) -> String {
    if cohort.acks == 0 && cohort.standbys.is_empty() {
        return "nobody".to_owned();
    }
    let names: Vec<_> = cohort.standbys.iter().map(MemberId::as_str).collect();
    format!("ANY {} ({})", cohort.acks, names.join(", "))
}
