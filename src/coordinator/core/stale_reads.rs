//! `reads = strict`: a reign opens only once the primary of the last one answers no reads any more.
//! Called by `failover` before it declares a reign open, and by `candidate` to say what is waited for.
//!
//! The wait is here, not before the election: nothing new can be read before the reign is open, so the
//! recruiting and promoting go on meanwhile, and an old primary that can be reached is told to follow,
//! which ends its sessions.

use super::planner::World;
use crate::model::{
    group::{Group, Reign},
    observed::PostgresSeen,
    policy::Reads,
};

/// What the reign waits for; `None`: nothing.
///
/// The old primary has answered if its agent keeps the promise for this epoch and has no `PostgreSQL` out
/// of recovery. If it does not answer, it has fenced itself `Policy::fenced_after` after this leader first
/// saw the reign elected: its standbys were cut off before that. (A new leader counts anew: later, never
/// sooner.) Nobody is waited for who was the only one with every commit: such a primary never fences itself,
/// and was given up by a person.
pub fn waits(world: &World<'_>, group: &Group, next: &Reign) -> Option<String> {
    let old = group.reign.as_ref()?;
    if world.policy().reads == Reads::Available || old.primary == next.primary || old.recorded.acks == 0 {
        return None;
    }
    let answered = world.fresh_report(&old.primary).is_some_and(|report| {
        let ended = matches!(report.postgres, PostgresSeen::Down { .. } | PostgresSeen::Standby { .. });
        ended && report.promise >= next.epoch
    });
    let (waited, limit) = (world.observed.in_phase(&group.id, world.now), world.policy().fenced_after());
    (!answered && waited <= limit).then(|| {
        let left = limit.since(waited);
        format!("{} may still answer reads (reads = strict): it has fenced itself in {left} ms at most", old.primary)
    })
}
