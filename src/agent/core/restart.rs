//! When a `PostgreSQL` that has ended is started again. At once, but for two cases: one that keeps ending is
//! given longer and longer pauses, and one that was replaceable in office leaves its replacement the machine.
//! Called by `decide`, and by the runner for what it reports.

use crate::model::{goal::Order, numbers::Millis};

use super::inputs::Inputs;

/// What ran for this long does not count as one in a row: it works, and ended for a reason of its own.
pub const STEADY: Millis = Millis(30_000);

/// Pause before the second start in a row, doubled for each further one. The first has none.
const FIRST_PAUSE: Millis = Millis(500);

/// Longest pause: what a person who has just made room on a disk will bear.
const LAST_PAUSE: Millis = Millis(10_000);

/// A primary that others can replace is not started while they do so, or for this long: recovery would
/// take processor and disk from its successor where they share a machine (`syncfs` alone holds up every
/// commit there), and it cannot be elected before it has recovered anyway. Five times a usual failover.
const COURTESY: Millis = Millis(1_000);

/// How `PostgreSQL` last ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// When.
    pub at: Millis,
    /// Times in a row that it ended without being told to, each before it was [`STEADY`].
    pub crashes: u32,
    /// It was told to.
    pub told: bool,
    /// It was a primary whose commits standbys acknowledged: one of them can take over.
    pub replaceable: bool,
}

impl Ended {
    /// The end of a `PostgreSQL` that was started at `started`, after the end `before` it.
    pub fn after(before: Option<Self>, started: Millis, at: Millis, told: bool, replaceable: bool) -> Self {
        let known = before.filter(|_| at.since(started) < STEADY).map_or(0, |before| before.crashes);
        Self { at, crashes: known.saturating_add(u32::from(!told)), told, replaceable }
    }
}

/// Why it is not started yet; `None`: it may be.
pub fn waits(inputs: &Inputs) -> Option<String> {
    let ended = inputs.ended?;
    let pause = match ended.crashes {
        0 | 1 => Millis(0),
        // Doubled more often than that it is above the limit.
        more => Millis(FIRST_PAUSE.0 << (more - 2).min(8)).min(LAST_PAUSE),
    };
    let since = inputs.now.since(ended.at);
    if since < pause {
        return Some(format!(
            "it has ended {} times in a row: see postgres.log; starts again after {pause} ms",
            ended.crashes
        ));
    }
    let replaced = match inputs.goal.as_ref().map(|goal| &goal.order) {
        Some(Order::Follow { serving, .. }) => *serving,
        None | Some(Order::Found) => true,
        // It was told to come back and reign.
        Some(Order::Reign { .. }) => ended.told,
        Some(Order::Recruit | Order::StandDown) => false,
    };
    (ended.replaceable && !replaced && since < COURTESY).then(|| "leaves the machine to its successor".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_a_row_are_those_soon_after_a_start() {
        let end = |before, started, at| Ended::after(before, Millis(started), Millis(at), false, false);
        let first = end(None, 0, 1_000);
        let second = end(Some(first), 1_000, 2_000);
        assert_eq!((first.crashes, second.crashes), (1, 2));
        assert_eq!(end(Some(second), 2_000, 32_000).crashes, 1, "it ran for long");
        let told = Ended::after(Some(second), Millis(2_000), Millis(3_000), true, false);
        assert_eq!(told.crashes, 2, "an end that was ordered proves nothing");
    }
}
