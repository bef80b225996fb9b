//! When a primary, or a candidate, is held to be lost. Clocks are used here only: a wrong suspicion
//! costs a short pause and can never cost data. Called by `failover`.
//!
//! | signal | suspected after |
//! |---|---|
//! | its agent says that the postmaster has exited | at once |
//! | its agent's stream was reset, and its standbys lost it as well | at once |
//! | silence | `suspect_after` (0.6 s: six reports) |
//! | … but a standby has heard its `PostgreSQL` since, so it is the agent that is silent | 5 × `suspect_after` |
//! | `PostgreSQL` does not answer its agent, or takes no writes (`agent::postgres::observer`) | 1 to 1.5 s there, and `suspect_after` |
//! | it answers, but says that it cannot write, or that its disk is full | 5 × `suspect_after`, where a standby is better |
//! | no acknowledgement reaches it, though two or more standbys stream and are well | 2 × `degrade_after` |
//! | a new leader has not heard of it | as silence; half of it where no standby streams, 5 × where one does |

use super::{
    cohort,
    observed::{Condition, Link, MemberSeen},
    planner::World,
};
use crate::model::{
    group::{Group, Reign},
    ids::MemberId,
    numbers::Millis,
    observed::PostgresSeen,
};

/// How many times `suspect_after` is waited where failing over would mend little: an agent that is
/// gone while standbys stream from its `PostgreSQL`, or a primary that answers but is not well.
const PATIENCE: u64 = 5;
/// A reign is not ended for being unwell before it had this long: what made it unwell (a full disk
/// everywhere, a broken router) would make the next one so, and the group would only change primaries.
const UNWELL_AFTER: Millis = Millis(30_000);
/// A candidate that neither serves nor waits for acknowledgements for this long is given up: far more
/// than a restart and a promotion take, far less than anyone waits.
const PROMOTION_LIMIT: Millis = Millis(20_000);
/// A candidate in recovery on its new timeline went down, unless it is just being promoted: then the
/// timeline's first file is there before recovery ends, for some 10 ms, or 300 ms on a busy machine.
const LEAVES_RECOVERY: Millis = Millis(2_000);
/// How often limits double at most: 16 times 0.6 s is slow enough for any machine that gets anything done,
/// and bounds what a candidate that dies in the fifth attempt costs to 10 s.
const DOUBLINGS: u64 = 4;

/// Why a primary, or a candidate, is held to be lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// In one sentence.
    pub reason: String,
    /// Its own agent says that it is no primary any more: then it has to be replaced, or elected
    /// again, whoever else is there.
    pub certain: bool,
}

/// Whether the reigning primary is held to be lost.
pub fn of_primary(world: &World<'_>, group: &Group, reign: &Reign) -> Option<Suspicion> {
    let primary = &reign.primary;
    let limit = world.policy().suspect_after;
    let silence = world.observed.silence(primary, world.now);
    let Some(seen) = world.observed.members.get(primary) else {
        // Everyone comes to a new leader at once when the old one died; when that one hangs, as soon as its
        // silence is noticed, which takes some seconds. So the standbys' word decides how long to wait.
        let missed = silence > Millis(limit.0 / 2) && none_streams(world, reign);
        let late = silence > if one_streams(world, reign) { patience(limit) } else { limit };
        return (missed || late).then(|| guess(format!("{primary} does not attend this leader")));
    };
    if let Some(why) = not_primary(seen) {
        return Some(certain(format!("{primary} {why}")));
    }
    let lasted = world.observed.lasted(seen.condition.1, world.now);
    match (seen.link, standbys_say(world, reign, seen)) {
        (Link::Reset { .. }, Some(false)) => {
            Some(guess(format!("{primary} is gone: its agent and its standbys lost it")))
        }
        (Link::Reset { .. }, Some(true)) if silence <= patience(limit) => None,
        // A partition or a pause of the agent alone: its PostgreSQL works, a failover would only be a pause.
        _ if silence > limit && silence <= patience(limit) && heard_by_standby(world, reign, seen.heard) => None,
        _ if silence > limit => Some(guess(format!("{primary} is silent for {silence} ms"))),
        (Link::Up, _) if seen.condition.0 == Condition::Starting && lasted > limit => {
            Some(guess(format!("PostgreSQL of {primary} does not answer for {lasted} ms")))
        }
        (Link::Up, _) if seen.condition.0 == Condition::Troubled && lasted > patience(limit) => {
            let settled = world.observed.in_phase(&group.id, world.now) > UNWELL_AFTER;
            let better = reign.recorded.standbys.iter().any(|id| world.fresh_report(id).is_some_and(|r| r.healthy));
            let note = seen.report.as_ref().map_or("", |report| report.note.as_str());
            (settled && better).then(|| guess(format!("{primary} is unwell for {lasted} ms: {note}")))
        }
        (Link::Up, _) => unheard(world, group, reign),
        _ => None,
    }
}

/// Why a candidate will not reign in this epoch. Its limits double with every epoch since the group last
/// served: on a machine too slow for them each epoch would be given up for the next one, for ever.
pub fn of_candidate(world: &World<'_>, group: &Group, next: &Reign) -> Option<Suspicion> {
    let primary = &next.primary;
    let silence = world.observed.silence(primary, world.now);
    if silence > longer(world.policy().suspect_after, group) {
        return Some(guess(format!("candidate {primary} is silent for {silence} ms")));
    }
    let report = world.observed.report(primary)?;
    let lasted = world.observed.in_phase(&group.id, world.now);
    match &report.postgres {
        PostgresSeen::Down { crashed: Some(why) } => {
            Some(certain(format!("PostgreSQL of candidate {primary} crashed: {why}")))
        }
        PostgresSeen::Standby { position, .. }
            if position.timeline >= next.timeline && lasted > longer(LEAVES_RECOVERY, group) =>
        {
            Some(certain(format!("candidate {primary} went down on timeline {}", position.timeline)))
        }
        PostgresSeen::Primary { applied, .. } if applied.ordered_at == next.ordered.ordered_at => None,
        _ if lasted <= longer(PROMOTION_LIMIT, group) => None,
        _ => Some(certain(format!("candidate {primary} does not get to serve: {}", report.note))),
    }
}

/// A time limit for the group's present attempt.
fn longer(limit: Millis, group: &Group) -> Millis {
    let served = group.reign.as_ref().map_or(0, |reign| reign.epoch.0);
    let failed = group.epoch.0.saturating_sub(served + 1).min(DOUBLINGS);
    Millis(limit.0.saturating_mul(1 << failed))
}

fn guess(reason: String) -> Suspicion {
    Suspicion { reason, certain: false }
}

fn certain(reason: String) -> Suspicion {
    Suspicion { reason, certain: true }
}

fn patience(limit: Millis) -> Millis {
    Millis(limit.0.saturating_mul(PATIENCE))
}

/// What its own agent says, where that is not "primary". `Starting` may be `PostgreSQL`'s own restart
/// after a backend's crash, which keeps the reign: that gets its time.
fn not_primary(seen: &MemberSeen) -> Option<String> {
    match &seen.report.as_ref()?.postgres {
        PostgresSeen::Down { crashed: Some(why) } => Some(format!("lost its PostgreSQL: {why}")),
        PostgresSeen::Down { crashed: None } => Some("has no PostgreSQL running".to_owned()),
        PostgresSeen::Standby { .. } => Some("came back as a standby".to_owned()),
        PostgresSeen::Starting | PostgresSeen::Primary { .. } => None,
    }
}

/// Every recorded standby is there, and none streams from the primary.
fn none_streams(world: &World<'_>, reign: &Reign) -> bool {
    let standing = |id: &MemberId| {
        world.fresh_report(id).is_some_and(|r| matches!(r.postgres, PostgresSeen::Standby { streaming: false, .. }))
    };
    !reign.recorded.standbys.is_empty() && reign.recorded.standbys.iter().all(standing)
}

/// Some recorded standby has had something from the primary's `PostgreSQL` at a time when its agent, heard
/// last at `agent_heard`, should have been heard several times; and lately. What is in the sockets of a frozen
/// machine is no newer than its agent's last word, or than when it froze.
fn heard_by_standby(world: &World<'_>, reign: &Reign, agent_heard: Millis) -> bool {
    let limit = world.policy().suspect_after;
    let margin = Millis(limit.0 / 2);
    reign.recorded.standbys.iter().any(|id| {
        let Some(report) = world.fresh_report(id) else { return false };
        let from_it = matches!(&report.postgres, PostgresSeen::Standby { upstream: Some(upstream), .. } if *upstream == reign.primary);
        let reported = world.observed.members.get(id).map_or(Millis(0), |seen| seen.heard);
        let heard = report.signs.stream_silence.map(|silence| Millis(reported.0.saturating_sub(silence.0)));
        let proves = |heard: Millis| heard > agent_heard.plus(margin) && world.now.since(heard) <= limit;
        from_it && heard.is_some_and(proves)
    })
}

/// Nothing that it writes is acknowledged, though two standbys or more stream from it and are well: then it
/// is not they who are at fault, and another one of them would do better. With one standby nobody can tell
/// whose fault it is; there the cohort shrinks, where policy allows it.
fn unheard(world: &World<'_>, group: &Group, reign: &Reign) -> Option<Suspicion> {
    let recorded = &reign.recorded;
    // Before the cohort shrinks for it.
    let after = Millis(world.policy().degrade_after.0.saturating_mul(cohort::STALLED - 1));
    let settled = world.observed.in_phase(&group.id, world.now) > UNWELL_AFTER;
    if recorded.acks == 0 || recorded.standbys.len() < 2 || !settled {
        return None;
    }
    let waits_for = |id: &MemberId| {
        let streams = |seen: &PostgresSeen| matches!(seen, PostgresSeen::Standby { streaming: true, .. });
        let well = world.fresh_report(id).is_some_and(|report| report.healthy && streams(&report.postgres));
        well && world.observed.not_streaming(&group.id, id, world.now) > after
    };
    let primary = &reign.primary;
    recorded.standbys.iter().all(waits_for).then(|| {
        guess(format!("no acknowledgement reaches {primary} for {after} ms, though its standbys stream and are well"))
    })
}

/// Some recorded standby streams from the primary.
fn one_streams(world: &World<'_>, reign: &Reign) -> bool {
    // An idle primary writes something twice a second (`agent::postgres::observer`).
    let stale = Millis(world.policy().suspect_after.0.saturating_mul(2));
    let streams = |id: &MemberId| {
        world.fresh_report(id).is_some_and(|report| match &report.postgres {
            PostgresSeen::Standby { streaming, upstream, .. } => {
                // A connection to a frozen machine stays open, and silent.
                let lives = report.signs.stream_silence.is_none_or(|silence| silence <= stale);
                *streaming && lives && upstream.as_ref() == Some(&reign.primary)
            }
            _ => false,
        })
    };
    reign.recorded.standbys.iter().any(streams)
}

/// Whether the recorded standbys that reported since the primary's stream broke still stream from it:
/// some do, none does, or none has reported.
fn standbys_say(world: &World<'_>, reign: &Reign, primary: &MemberSeen) -> Option<bool> {
    let Link::Reset { at } = primary.link else { return None };
    let witness = |id: &MemberId| {
        world.observed.members.get(id).filter(|seen| seen.heard >= at)?;
        match &world.fresh_report(id)?.postgres {
            PostgresSeen::Standby { streaming, upstream, .. } => {
                Some(*streaming && upstream.as_ref() == Some(&reign.primary))
            }
            _ => None,
        }
    };
    reign.recorded.standbys.iter().filter_map(witness).max()
}
