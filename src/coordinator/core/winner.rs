//! Who of the recruits wins an election. Called by `candidate` once there are enough of them.
//!
//! The furthest log wins. Of logs that reach equally far, in this order:
//!
//! 1. the target of a planned switchover;
//! 2. whoever did not reign last: what has just failed may fail again;
//! 3. the higher priority;
//! 4. with `ack_zones = other`: whoever has more recruits in other zones, so that its commits can be
//!    acknowledged;
//! 5. the zone of the last primary: that is where its clients are. (A zone that was lost has no recruits.)
//! 6. the first name.
//!
//! A member of priority 0, or one that a person wants to be rid of, is passed over as long as another
//! recruit is *known* to have every acknowledged commit. That may be one whose log ends earlier: with n
//! standbys recorded, k acks and r of them recruited, a commit that was acknowledged is on at least
//! k − (n − r) of the recruited, and as one log is the beginning of the next, on that many of those that
//! reach furthest.

use std::cmp::Reverse;

use super::{candidate::Recruit, command::OperationKind, planner::World};
use crate::model::{
    group::{Group, Reign},
    ids::MemberId,
    numbers::Position,
    policy::AckZones,
};

/// The winner; `None`: nobody may.
pub fn winner<'a, 'r>(
    world: &World<'_>,
    group: &Group,
    recruits: &'r [Recruit<'a>],
    target: Option<&MemberId>,
) -> Option<&'r Recruit<'a>> {
    let reigned = |recruit: &Recruit<'_>| group.reign.as_ref().is_some_and(|reign| reign.primary == *recruit.member);
    // A person who asks for a failover wants another primary, if one can be had without a loss.
    let forced = world.running(&group.id).any(|o| matches!(o.kind, OperationKind::Failover { .. }));
    let known = group.reign.as_ref().and_then(|reign| from_cohort(reign, recruits));
    let without_it = forced && known.is_some();
    let may: Vec<_> = recruits.iter().filter(|recruit| !(without_it && reigned(recruit))).collect();
    let wanted = |recruit: &Recruit<'_>| recruit.live || is_wanted(group, recruit.member);
    let complete = |recruit: &Recruit<'_>| complete_from(group, recruits).is_some_and(|end| recruit.position >= end);
    let choice = may.iter().any(|recruit| wanted(recruit) && complete(recruit));
    let may = may.into_iter().filter(|recruit| !choice || wanted(recruit));
    may.max_by_key(|recruit| {
        let id = recruit.member;
        (
            recruit.position,
            target == Some(id),
            !reigned(recruit),
            group.members.get(id).map(|member| member.priority),
            elsewhere(world, group, recruits, id),
            group.reign.as_ref().is_some_and(|reign| zone(group, &reign.primary) == zone(group, id)),
            Reverse(id),
        )
    })
}

/// May be chosen where there is a choice.
pub fn is_wanted(group: &Group, member: &MemberId) -> bool {
    let wished_away = group.leaving.contains(member);
    !wished_away && group.members.get(member).is_none_or(|member| member.priority > 0)
}

/// Where a log must reach to hold every acknowledged commit for certain; `None`: not known, and before the
/// first reign, when there are none.
fn complete_from(group: &Group, recruits: &[Recruit<'_>]) -> Option<Position> {
    let reign = group.reign.as_ref()?;
    let own = recruits.iter().find(|recruit| *recruit.member == reign.primary).map(|recruit| recruit.position);
    own.into_iter().chain(from_cohort(reign, recruits)).min()
}

/// The same, by the word of the recorded cohort alone.
fn from_cohort(reign: &Reign, recruits: &[Recruit<'_>]) -> Option<Position> {
    let recorded = &reign.recorded;
    let counted = recruits.iter().filter(|recruit| recorded.standbys.contains(recruit.member));
    let mut positions: Vec<_> = counted.map(|recruit| recruit.position).collect();
    positions.sort_unstable_by_key(|position| Reverse(*position));
    let absent = recorded.standbys.len() - positions.len();
    let holders = (recorded.acks as usize).checked_sub(absent)?;
    positions.get(holders.checked_sub(1)?).copied()
}

/// With `ack_zones = other`: recruits whose acknowledgement would count, as many as are wanted at most.
fn elsewhere(world: &World<'_>, group: &Group, recruits: &[Recruit<'_>], member: &MemberId) -> usize {
    if world.policy().ack_zones == AckZones::Any {
        return 0;
    }
    let others = recruits.iter().filter(|other| zone(group, other.member) != zone(group, member));
    others.count().min(world.policy().acks as usize)
}

fn zone<'a>(group: &'a Group, member: &MemberId) -> Option<&'a str> {
    group.members.get(member).map(|member| member.zone.as_str())
}
