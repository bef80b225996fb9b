//! Which containers a serving group has: replaces standbys that stay lost, grows and shrinks to the number
//! that is wanted, lets go of those that are to go. Called by the planner, after the cohort's own steps.
//!
//! A standby that was silent for `replace_after` (as this leader has heard: a new leader counts anew) stops
//! being counted, and an idle container takes its place. It stays a member until as many others stream as
//! are wanted: comes it back before that, the newcomer goes instead. So a group never has fewer copies by
//! replacing one. The last step, forgetting, comes after it has left the cohort (`state/members.rs`).

use std::cmp::Reverse;

use super::{
    command::{Command, Proposal},
    placement,
    planner::World,
};
use crate::model::{
    group::{Container, Group, Phase, Reign},
    ids::MemberId,
    observed::{DataState, PostgresSeen, StandbySeen},
    policy::AckZones,
};

/// The next change of a serving group's members.
pub fn step(world: &World<'_>, group: &Group, reign: &Reign) -> Option<Proposal> {
    let house = House::new(world, group, reign)?;
    let counts = |id: &&MemberId| reign.recorded.standbys.contains(*id) || reign.ordered.standbys.contains(*id);
    if let Some(member) = group.leaving.iter().find(|id| !counts(id)) {
        let command = Command::Forget { group: group.id.clone(), member: member.clone() };
        return Some(world.propose(group, command, "it is in no cohort any more"));
    }
    if group.paused {
        return None;
    }
    house.retire().or_else(|| house.fill())
}

/// It has as many standbys as are wanted, and all stream.
pub fn complete(world: &World<'_>, group: &Group) -> bool {
    let Some(reign) = group.reign.as_ref().filter(|_| group.phase == Phase::Serving) else { return false };
    let Some(house) = House::new(world, group, reign) else { return false };
    let staying = house.staying();
    group.leaving.is_empty()
        && staying.len() == group.wanted_standbys()
        && staying.iter().all(|it| house.streams(&it.id))
}

/// What a group lacks or waits for, in one sentence.
pub fn waits_for(world: &World<'_>, group: &Group) -> Option<String> {
    let house = House::new(world, group, group.reign.as_ref().filter(|_| group.phase == Phase::Serving)?)?;
    if let Some(member) = group.leaving.iter().next() {
        return Some(format!("{member} leaves {} as soon as other standbys acknowledge in its place", group.id));
    }
    let missing = house.missing();
    if missing > 0 && group.paused {
        return Some(format!("{} lacks {missing} standbys and is paused: `howdah resume {}`", group.id, group.id));
    }
    if missing > 0 && house.newcomer().is_none() {
        let kind = placement::kind_name(group.kind);
        return Some(format!(
            "{} lacks {missing} standbys and no idle {kind} container without data is there: start one",
            group.id
        ));
    }
    None
}

/// A serving group as its primary reports it.
struct House<'a> {
    world: &'a World<'a>,
    group: &'a Group,
    reign: &'a Reign,
    standbys: &'a [StandbySeen],
}

impl<'a> House<'a> {
    /// `None`: its primary does not report, so nothing can be told, nor cloned.
    fn new(world: &'a World<'a>, group: &'a Group, reign: &'a Reign) -> Option<Self> {
        let report = world.fresh_report(&reign.primary)?;
        let PostgresSeen::Primary { epoch, standbys, .. } = &report.postgres else { return None };
        (*epoch == reign.epoch).then_some(Self { world, group, reign, standbys })
    }

    fn streams(&self, member: &MemberId) -> bool {
        self.standbys.iter().any(|standby| standby.member == *member && standby.streaming)
    }

    /// Standbys that are not to go.
    fn staying(&self) -> Vec<&'a Container> {
        let stays = |it: &&Container| it.id != self.reign.primary && !self.group.leaving.contains(&it.id);
        self.group.members.values().filter(stays).collect()
    }

    fn lost(&self, member: &MemberId) -> bool {
        self.world.observed.silence(member, self.world.now) > self.world.policy().replace_after
    }

    /// It would acknowledge where policy wants it.
    fn well_placed(&self, container: &Container) -> bool {
        let zone = self.group.members.get(&self.reign.primary).map(|primary| primary.zone.as_str());
        self.world.policy().ack_zones == AckZones::Any || zone != Some(container.zone.as_str())
    }

    /// One standby more than are wanted goes: the least useful, once it is not missed.
    fn retire(&self) -> Option<Proposal> {
        let (staying, wanted) = (self.staying(), self.group.wanted_standbys());
        if staying.len() <= wanted {
            return None;
        }
        let victim = staying.iter().min_by_key(|it| {
            (self.streams(&it.id), !self.lost(&it.id), self.well_placed(it), it.priority, Reverse(&it.id))
        })?;
        let others = staying.iter().filter(|it| it.id != victim.id && self.streams(&it.id)).count();
        // What has died before it had anything is missed by nobody.
        let bare = self.world.observed.report(&victim.id).is_some_and(|r| !matches!(r.data, DataState::Ready { .. }));
        if others < wanted && !(self.lost(&victim.id) && bare) {
            return None;
        }
        let silence = self.world.observed.silence(&victim.id, self.world.now);
        let reason = if self.lost(&victim.id) {
            format!("nothing heard of it for {silence} ms, and another has taken its place")
        } else {
            format!("{} standbys are there and {wanted} are wanted", staying.len())
        };
        let command = Command::Retire { group: self.group.id.clone(), member: victim.id.clone() };
        Some(self.world.propose(self.group, command, reason))
    }

    /// How many standbys are wanted beyond those that are there or may come back soon.
    fn missing(&self) -> usize {
        let there = self.staying().iter().filter(|it| !self.lost(&it.id)).count();
        self.group.wanted_standbys().saturating_sub(there)
    }

    /// An idle container takes the place of what is missing. A lost standby has one replacement in the
    /// house at a time.
    fn fill(&self) -> Option<Proposal> {
        let wanted = self.group.wanted_standbys();
        if self.missing() == 0 || self.staying().len() >= 2 * wanted {
            return None;
        }
        let newcomer = self.newcomer()?;
        let lost: Vec<_> = self.staying().iter().filter(|it| self.lost(&it.id)).map(|it| it.id.to_string()).collect();
        let reason = if lost.is_empty() {
            format!("{wanted} standbys are wanted")
        } else {
            format!(
                "it replaces {}, of which nothing was heard for {} ms",
                lost.join(", "),
                self.world.policy().replace_after
            )
        };
        let command = Command::AddMember { group: self.group.id.clone(), member: newcomer.id.clone() };
        Some(self.world.propose(self.group, command, reason))
    }

    /// The idle container that fits best: one that wishes for this group, is where policy wants it, in the
    /// zone that has the fewest members.
    fn newcomer(&self) -> Option<&'a Container> {
        let wanted = placement::wanted(self.world);
        let awaited = |it: &Container| it.wish.as_ref().is_some_and(|wish| wanted.iter().any(|(id, ..)| id == wish));
        let idle = placement::free(self.world).filter(|it| it.kind == self.group.kind && !awaited(it));
        let members = || self.group.members.values().filter(|it| !self.group.leaving.contains(&it.id));
        idle.min_by_key(|it| {
            let crowd = members().filter(|member| member.zone == it.zone && !self.lost(&member.id)).count();
            (it.wish.as_ref() != Some(&self.group.id), !self.well_placed(it), crowd, &it.id)
        })
    }
}
