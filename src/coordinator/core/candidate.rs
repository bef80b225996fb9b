//! Steps 3 and 4 of the protocol: who is recruited, whether that is enough, who wins, and with which
//! cohort. Called by the planner while an epoch is open, and by `report` to say what is missing.

use std::collections::BTreeSet;

use super::{
    cohort::{counts, enough},
    command::{Command, Proposal},
    observed::Condition,
    planner::World,
    stale_reads,
    state::goes_on,
    winner::winner,
};
use crate::model::{
    group::{Cohort, Group, Phase, Reign},
    ids::MemberId,
    numbers::{Lsn, Millis, Position},
    observed::{DataState, PostgresSeen, Report},
    policy::{AckZones, Durability},
};

/// With enough recruits, how long the others that are reachable may still join: a standby is recruited
/// in 30 to 50 ms (measured), so twice that. It buys a larger first cohort, nothing else.
const GRACE: Millis = Millis(100);
/// How long the target of a switchover is waited for: it is alive and streams, so this is plenty.
const TARGET_GRACE: Millis = Millis(1_000);
/// How far behind its primary, in bytes of WAL, a standby may be and still make commits wait for it:
/// one segment, received in a fraction of a second.
pub const SMALL_LAG: u64 = 16 * 1024 * 1024;

/// A member that keeps its promise for the open epoch, stands still, and has data that can win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recruit<'a> {
    /// Who.
    pub member: &'a MemberId,
    /// How far its log reaches.
    pub position: Position,
    /// A healthy primary of the last reign.
    pub live: bool,
}

/// The recruits of the open epoch, in order of names. Only members that are reachable count: of those
/// counted, the furthest must be able to win.
pub fn recruits<'a>(world: &World<'a>, group: &'a Group) -> Vec<Recruit<'a>> {
    group.members.keys().filter_map(|member| recruit(world, group, member)).collect()
}

fn recruit<'a>(world: &World<'a>, group: &'a Group, member: &'a MemberId) -> Option<Recruit<'a>> {
    let report = world.fresh_report(member)?;
    let DataState::Ready { system_identifier } = report.data else { return None };
    let answer = report.recruited.filter(|answer| answer.epoch == group.epoch && report.promise == group.epoch)?;
    let own = group.system_identifier == Some(system_identifier) && answer.position.timeline <= group.last_timeline;
    let live = match &report.postgres {
        PostgresSeen::Standby { .. } => false,
        PostgresSeen::Primary { .. } if answer.live_primary => true,
        PostgresSeen::Primary { .. } | PostgresSeen::Down { .. } | PostgresSeen::Starting => return None,
    };
    // The log of a live primary ends nowhere yet.
    let lsn = if live { Lsn(u64::MAX) } else { answer.position.lsn };
    own.then_some(Recruit { member, position: Position { lsn, ..answer.position }, live })
}

/// Whether the recruits have every acknowledged commit among them and nobody else can commit:
/// the last reign's own primary, or n − k + 1 of its recorded cohort. The error says what is missing.
pub fn quorum(group: &Group, recruits: &[Recruit<'_>]) -> Result<(), String> {
    let Some(reign) = &group.reign else {
        return if recruits.is_empty() { Err("its founder has not answered".to_owned()) } else { Ok(()) };
    };
    if recruits.iter().any(|recruit| *recruit.member == reign.primary) || cohort_quorum(reign, recruits) {
        return Ok(());
    }
    let way_out = format!("bring it back, or accept a loss with `howdah failover {} --accept-data-loss`", group.id);
    let Some(needed) = enough(&reign.recorded) else {
        return Err(format!("only {} is known to have every acknowledged commit: {way_out}", reign.primary));
    };
    let missing: Vec<_> = reign
        .recorded
        .standbys
        .iter()
        .filter(|id| recruits.iter().all(|recruit| recruit.member != *id))
        .map(MemberId::as_str)
        .collect();
    let have = reign.recorded.standbys.len() - missing.len();
    Err(format!(
        "{have} of {needed} standbys needed have answered, {} and primary {} have not: {way_out}",
        missing.join(", "),
        reign.primary
    ))
}

fn cohort_quorum(reign: &Reign, recruits: &[Recruit<'_>]) -> bool {
    let counted = recruits.iter().filter(|recruit| reign.recorded.standbys.contains(recruit.member)).count();
    enough(&reign.recorded).is_some_and(|needed| counted >= needed)
}

/// Whether enough standbys of the reign are reachable, with data, to elect one without its primary.
pub fn could_elect(world: &World<'_>, reign: &Reign) -> bool {
    let usable = |id: &&MemberId| {
        world.fresh_report(id).is_some_and(|report| {
            matches!(report.data, DataState::Ready { .. }) && matches!(report.postgres, PostgresSeen::Standby { .. })
        })
    };
    let count = reign.recorded.standbys.iter().filter(usable).count();
    enough(&reign.recorded).is_some_and(|needed| count >= needed)
}

/// Whether enough members with data are reachable, besides a candidate, to elect one of them: the last
/// reign's own primary, or enough of its cohort; where a loss was accepted, anyone.
pub fn could_elect_without(world: &World<'_>, group: &Group, candidate: &MemberId) -> bool {
    let usable = |id: &MemberId| {
        let ready = |report: &Report| matches!(report.data, DataState::Ready { .. });
        id != candidate && world.fresh_report(id).is_some_and(ready)
    };
    let Some(reign) = &group.reign else { return false };
    let count = reign.recorded.standbys.iter().filter(|id| usable(id)).count();
    usable(&reign.primary)
        || enough(&reign.recorded).is_some_and(|needed| count >= needed)
        || (world.loss_accepted(&group.id) && group.members.keys().any(usable))
}

/// The election, once there are enough recruits and nobody is worth waiting for.
pub fn elect(world: &World<'_>, group: &Group, target: Option<&MemberId>, accept_data_loss: bool) -> Option<Proposal> {
    let recruits = recruits(world, group);
    let lossless = quorum(group, &recruits).is_ok();
    if recruits.is_empty() || !(lossless || accept_data_loss) || waits(world, group, &recruits, target, lossless) {
        return None;
    }
    let winner = winner(world, group, &recruits, target)?;
    let goes_on = winner.live && goes_on(group, winner.member, winner.position.timeline);
    if lossless && !goes_on && lacks_zone(world, group, winner.member).is_some() {
        return None;
    }
    let timeline = if goes_on { winner.position.timeline } else { group.last_timeline.next() };
    let cohort = match &group.reign {
        Some(reign) if goes_on => kept_cohort(world, reign, winner, &recruits),
        Some(_) => first_cohort(world, group, winner, &recruits),
        None => Cohort::default(),
    };
    let why = match (lossless, goes_on, target) {
        (false, ..) => "furthest of those that answered; a loss was accepted",
        (true, true, _) => "the primary is alive and well",
        (true, false, Some(to)) if to == winner.member => "planned switchover",
        (true, false, _) => "furthest log of enough recruits",
    };
    let command = Command::Elect {
        group: group.id.clone(),
        epoch: group.epoch,
        primary: winner.member.clone(),
        timeline,
        cohort,
    };
    Some(world.propose(group, command, why))
}

/// Whether someone reachable is about to answer and is waited for. Who is known to be down is not.
fn waits(
    world: &World<'_>,
    group: &Group,
    recruits: &[Recruit<'_>],
    target: Option<&MemberId>,
    lossless: bool,
) -> bool {
    let open_for = world.observed.in_phase(&group.id, world.now);
    let answers = |member: &MemberId| {
        let with_data = |report: &Report| matches!(report.data, DataState::Ready { .. });
        let running = world.observed.members.get(member).is_some_and(|seen| {
            matches!(
                seen.condition.0,
                Condition::Streaming | Condition::Standing | Condition::Primary | Condition::Troubled
            )
        });
        running && world.fresh_report(member).is_some_and(with_data)
    };
    let missing = |member: &MemberId| recruits.iter().all(|recruit| recruit.member != member) && answers(member);
    // Where something would be lost, whoever comes late may have it.
    let grace = if lossless { GRACE } else { TARGET_GRACE };
    (open_for < grace && (!lossless || group.members.keys().any(missing)))
        || (open_for < TARGET_GRACE && target.is_some_and(missing))
}

/// Recruits that can follow the winner as they are: others would have to be rewound first.
fn followers<'a>(winner: &Recruit<'_>, recruits: &'a [Recruit<'a>]) -> impl Iterator<Item = &'a Recruit<'a>> {
    let (member, end) = (winner.member.clone(), winner.position);
    recruits.iter().filter(move |recruit| {
        *recruit.member != member && recruit.position.timeline == end.timeline && recruit.position.lsn <= end.lsn
    })
}

/// A live primary may commit before its reign is known to be open, so it keeps the cohort that is
/// recorded, with fewer acks where `available` allows it.
fn kept_cohort(world: &World<'_>, reign: &Reign, winner: &Recruit<'_>, recruits: &[Recruit<'_>]) -> Cohort {
    let standbys = reign.recorded.standbys.clone();
    let there = followers(winner, recruits).filter(|recruit| standbys.contains(recruit.member)).count();
    let acks = match world.policy().durability {
        Durability::Strict => reign.recorded.acks,
        Durability::Available => reign.recorded.acks.min(u32::try_from(there).unwrap_or(u32::MAX)),
    };
    Cohort { standbys, acks, ..Cohort::default() }
}

/// The cohort of a promoted primary: `strict` counts on everyone, `available` on who can follow now; of
/// these, on whom policy lets count.
fn first_cohort(world: &World<'_>, group: &Group, winner: &Recruit<'_>, recruits: &[Recruit<'_>]) -> Cohort {
    let near = |recruit: &&Recruit<'_>| winner.live || winner.position.lsn.0 - recruit.position.lsn.0 <= SMALL_LAG;
    let standbys: BTreeSet<_> = match world.policy().durability {
        Durability::Strict => group.members.keys().filter(|id| *id != winner.member).cloned().collect(),
        Durability::Available => followers(winner, recruits).filter(near).map(|r| r.member.clone()).collect(),
    };
    let standbys: BTreeSet<_> =
        standbys.into_iter().filter(|id| counts(world.policy(), group, winner.member, id)).collect();
    let acks = world.policy().acks.min(u32::try_from(standbys.len()).unwrap_or(u32::MAX));
    Cohort { standbys, acks, ..Cohort::default() }
}

/// Why `strict` elects nobody although there are enough recruits: commits were acknowledged in another
/// zone, and no member of the group could do so for this primary.
fn lacks_zone(world: &World<'_>, group: &Group, winner: &MemberId) -> Option<String> {
    let policy = world.policy();
    let asked = policy.durability == Durability::Strict && policy.ack_zones == AckZones::Other;
    let acknowledged = group.reign.as_ref().is_some_and(|reign| reign.recorded.acks > 0);
    let there = group.members.keys().any(|id| id != winner && counts(policy, group, winner, id));
    (asked && acknowledged && !there).then(|| {
        format!(
            "no member is in another zone than {winner} (durability = strict, ack_zones = other): bring one back with \
             its zone, or accept a loss with `howdah failover {} --accept-data-loss`",
            group.id
        )
    })
}

/// What an open epoch waits for, in one sentence; `None`: for nothing but time.
pub fn waits_for(world: &World<'_>, group: &Group) -> Option<String> {
    match &group.phase {
        Phase::Recruiting { target, accept_data_loss: false } => {
            let recruits = recruits(world, group);
            let winner = |()| winner(world, group, &recruits, target.as_ref());
            match quorum(group, &recruits).map(winner) {
                Err(missing) => Some(missing),
                Ok(winner) => winner.filter(|it| !it.live).and_then(|it| lacks_zone(world, group, it.member)),
            }
        }
        Phase::Promoting { next } => stale_reads::waits(world, group, next),
        _ => None,
    }
}
