//! Whose acknowledgement counts, and how that changes while the primary lives (failover.md,
//! "Changing the cohort"). The rule: every set of acks with which the primary may commit (*applied*)
//! meets every set of recruits with which the coordinator may elect (*recorded*).
//!
//! Called by `State::apply`, which refuses what breaks the rule, and by the planner.

use crate::model::group::Cohort;

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
