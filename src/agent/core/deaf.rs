//! A primary that hears no acknowledgements though standbys stream from it: its side of the network, or its
//! WAL senders, are at fault. It is not elected again as if it were well. Called by the runner at every look,
//! while it reigns: once it is recruited its standbys have left it, and that proves nothing.

use crate::model::{
    group::Cohort,
    numbers::{Lsn, Millis},
};

use super::inputs::Primary;

/// How long nothing may be acknowledged: the coordinator begins to doubt after twice as long.
const PATIENCE: Millis = Millis(1_000);

/// With one standby nobody can tell whose fault it is.
const WITNESSES: usize = 2;

/// What the cohort has still to acknowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    end: Lsn,
    since: Millis,
}

impl Owed {
    /// After one more look.
    pub fn look(before: Option<Self>, primary: &Primary, cohort: &Cohort, now: Millis) -> Self {
        let owed = before.unwrap_or(Self { end: Lsn(0), since: now });
        let counts = primary.standbys.iter().filter(|it| it.streaming && cohort.standbys.contains(&it.member));
        let acknowledged = counts.filter(|it| it.flushed >= owed.end).count();
        if acknowledged >= cohort.acks as usize { Self { end: primary.position.lsn, since: now } } else { owed }
    }

    /// Enough standbys stream, and yet nothing has been acknowledged for too long.
    pub fn deaf(self, primary: &Primary, cohort: &Cohort, now: Millis) -> bool {
        let streaming = primary.standbys.iter().filter(|it| it.streaming && cohort.standbys.contains(&it.member));
        now.since(self.since) > PATIENCE && streaming.count() >= WITNESSES.max(cohort.acks as usize)
    }
}

#[cfg(test)]
mod tests {
    use crate::model::{
        numbers::{Position, Revision, Timeline},
        observed::StandbySeen,
    };

    use super::*;

    fn primary(end: u64, flushed: &[u64]) -> Primary {
        let standby = |(index, flushed): (usize, &u64)| StandbySeen {
            member: format!("s-{index}").parse().expect("a name"),
            streaming: true,
            flushed: Lsn(*flushed),
            synchronous: true,
        };
        let position = Position { timeline: Timeline(2), lsn: Lsn(end) };
        Primary { position, standbys: flushed.iter().enumerate().map(standby).collect(), ..Primary::default() }
    }

    #[test]
    fn deaf_is_who_hears_nothing_from_two() {
        let standbys = ["s-0", "s-1"].map(|name| name.parse().expect("a name")).into();
        let cohort = Cohort { standbys, acks: 1, ordered_at: Revision(1) };
        let well = Owed::look(None, &primary(100, &[100, 90]), &cohort, Millis(0));
        let stuck = primary(200, &[100, 90]);
        let first = Owed::look(Some(well), &stuck, &cohort, Millis(100));
        let still = Owed::look(Some(first), &stuck, &cohort, Millis(1_500));
        assert!(!first.deaf(&stuck, &cohort, Millis(600)), "a second's patience");
        assert!(still.deaf(&stuck, &cohort, Millis(1_500)));
        assert!(!still.deaf(&primary(200, &[100]), &cohort, Millis(1_500)), "one standby proves nothing");
        let heard = Owed::look(Some(still), &primary(200, &[200, 90]), &cohort, Millis(1_600));
        assert!(!heard.deaf(&primary(200, &[200, 90]), &cohort, Millis(1_600)));
    }
}
