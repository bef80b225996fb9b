//! The flapping guard: a group whose reigns are ended one after the other on suspicion alone, each soon
//! after it began, does not get another primary at every suspicion. What makes one member look lost (a
//! machine that does too much, a network that stutters) makes the next look so too, and every change costs
//! a pause. Certain losses, where the agent itself says so, are never held back. Called by `failover`, and
//! by `report` to say so.
//!
//! The count is replicated, with the epoch it leads to; how long the group has served is measured by the
//! leader of the moment, so a new leader waits longer, at most by the longest back-off.

use super::planner::World;
use crate::model::{group::Group, numbers::Millis};

/// A reign that was suspected within this long was hasty: several times what it takes until the old
/// primary follows the new one.
const HASTY: Millis = Millis(5_000);
/// So many hasty changes in a row are believed: two members of a group may be lost one after the other.
const BELIEVED: u32 = 3;
/// The first back-off, doubled with every further hasty change.
const FIRST: Millis = Millis(5_000);
/// The longest: what a really lost primary costs then.
const LONGEST: Millis = Millis(60_000);

/// How long a reign must have served before a suspicion ends it.
pub fn back_off(hasty: u32) -> Millis {
    match hasty.checked_sub(BELIEVED) {
        None => Millis(0),
        // 2^4 times the first is above the longest.
        Some(more) => Millis(FIRST.0 << more.min(4)).min(LONGEST),
    }
}

/// Why a suspicion of the group's primary is not believed yet.
pub fn holds(world: &World<'_>, group: &Group) -> Option<String> {
    let (served, needed) = (world.observed.in_phase(&group.id, world.now), back_off(group.hasty));
    (served < needed).then(|| {
        let left = needed.since(served);
        format!(
            "{} primaries in a row were suspected soon after they began to serve: the next suspicion is believed in \
             {left} ms; see whether its machines or their network are overloaded",
            group.hasty
        )
    })
}

/// `Group::hasty` after a change on suspicion: one more, or none where the reign lasted. A reign counts as
/// short as long as it was suspected within twice the back-off.
pub fn count(world: &World<'_>, group: &Group) -> u32 {
    let served = world.observed.in_phase(&group.id, world.now);
    let short = HASTY.max(Millis(back_off(group.hasty).0 * 2));
    if served < short { group.hasty.saturating_add(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_grows_and_is_bounded() {
        let waits: Vec<_> = (0..10).map(|hasty| back_off(hasty).0 / 1_000).collect();
        assert_eq!(waits, [0, 0, 0, 5, 10, 20, 40, 60, 60, 60]);
    }
}
