//! The planner: compares the whole of what is decided with the whole of what is seen, and proposes
//! the next step of whatever is not as it should be. Called by the leader's driver on every tick
//! (about 20 ms) and after every report and applied proposal; takes no hint of what changed.

use super::{command::Proposal, observed::Observed, state::State};
use crate::model::numbers::Millis;

/// Everything a decision is made of.
#[derive(Debug, Clone, Copy)]
pub struct World<'a> {
    /// What is decided.
    pub state: &'a State,
    /// What is seen. `Observed::turn` has been called at `now`.
    pub observed: &'a Observed,
    /// The leader's monotonic clock.
    pub now: Millis,
    /// The leader's wall clock, milliseconds since 1970; for events only.
    pub time_ms: u64,
    /// Earlier proposals are neither applied nor given up yet: then nothing is proposed. (Proposing
    /// twice would be harmless, as each is based on a revision, but wasteful.)
    pub in_flight: bool,
}

/// The next steps, at most one per group. Empty: all is as it should be, or waits for something.
pub fn plan(world: &World<'_>) -> Vec<Proposal> {
    if world.in_flight || world.state.cluster.is_none() {
        return Vec::new();
    }
    Vec::new()
}
