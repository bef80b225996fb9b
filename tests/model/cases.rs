//! The groups that are checked, and how far: the numbers of the bound. CI's take about a minute together.

use howdah::model::policy::Durability::{self, Available, Strict};

use super::{
    broken::{ALL, Broken},
    sights::{COMMIT_AFTER, DEGRADED, FAILOVER, JOINED, LEFT, NEVER, RE_ELECTION, RESTORED, REWOUND, SWITCHED},
    start::Start,
    world::Budget,
};

pub struct Case {
    pub name: &'static str,
    pub start: Start,
    /// What has to be seen on the way.
    pub seen: &'static [&'static str],
}

const NONE: Budget =
    Budget { writes: 0, crashes: 0, breaks: 0, delays: 0, leaders: 0, switchovers: 0, isolations: 0, wipes: 0 };
const WRITE: Budget = Budget { writes: 1, ..NONE };

const fn group(members: usize, acks: u32, durability: Durability, decisions: u64, budget: Budget) -> Start {
    Start { members, acks, durability, cohort: members - 1, budget, decisions }
}

/// Every run of the tests.
pub const CASES: [Case; 4] = [
    Case {
        name: "a primary and a standby, a kill",
        start: group(2, 1, Available, 3, Budget { crashes: 1, ..WRITE }),
        seen: &[FAILOVER, RE_ELECTION, COMMIT_AFTER],
    },
    Case {
        name: "a primary and a standby, strict, two leaders in turn",
        start: group(2, 1, Strict, 3, Budget { leaders: 1, ..WRITE }),
        seen: &[FAILOVER, RE_ELECTION, COMMIT_AFTER, REWOUND, RESTORED],
    },
    Case {
        name: "a primary and two standbys",
        start: group(3, 1, Available, 3, WRITE),
        seen: &[FAILOVER, RE_ELECTION, COMMIT_AFTER, REWOUND, RESTORED, DEGRADED, LEFT],
    },
    Case {
        name: "a standby joins while connections break",
        start: Start { cohort: 1, ..group(3, 1, Available, 2, Budget { breaks: 1, ..WRITE }) },
        seen: &[JOINED],
    },
];

/// `HOWDAH_MODEL=large`.
pub const LARGE: [Case; 7] = [
    Case {
        name: "a primary and a standby, a kill, a second election",
        start: group(2, 1, Available, 4, Budget { crashes: 1, ..WRITE }),
        seen: &[FAILOVER, RE_ELECTION, COMMIT_AFTER],
    },
    Case {
        name: "a primary and a standby, a kill, messages that take long",
        start: group(2, 1, Strict, 3, Budget { crashes: 1, delays: 1, ..WRITE }),
        seen: &[FAILOVER, RE_ELECTION, COMMIT_AFTER],
    },
    Case {
        name: "a primary and a standby, a lost disk",
        start: group(2, 1, Available, 3, Budget { wipes: 1, ..WRITE }),
        seen: &[FAILOVER],
    },
    Case {
        name: "a switchover",
        start: group(2, 1, Available, 6, Budget { switchovers: 1, ..NONE }),
        seen: &[SWITCHED],
    },
    Case {
        name: "a primary and two standbys, a kill",
        start: group(3, 1, Available, 3, Budget { crashes: 1, ..WRITE }),
        seen: &[FAILOVER, RE_ELECTION, COMMIT_AFTER],
    },
    Case {
        name: "a primary and two standbys, k of 2, connections that break",
        start: group(3, 2, Available, 3, Budget { breaks: 1, ..WRITE }),
        seen: &[FAILOVER, DEGRADED],
    },
    Case {
        name: "a standby joins while connections break and primaries are isolated",
        start: Start { cohort: 1, ..group(3, 1, Available, 3, Budget { breaks: 1, isolations: 1, ..WRITE }) },
        seen: &[RE_ELECTION],
    },
];

/// Ways followed in one case of the large run, at most: what the memory of a small machine holds. A case
/// that ends there says so.
pub const LIMIT: usize = 2_000_000;

/// A broken rule, a group in which it does harm, and the invariant that it breaks first.
pub const BROKEN: [(Broken, Start, &str); 12] = [
    (Broken::RecruitsOneFewer, group(3, 1, Available, 3, WRITE), NEVER[8]),
    (Broken::AppliesBeforeRecordWhenOneJoins, Start { cohort: 1, ..group(3, 1, Available, 2, WRITE) }, NEVER[4]),
    (Broken::RecordsBeforeApplyWhenOneLeaves, group(3, 1, Available, 2, Budget { breaks: 1, ..WRITE }), NEVER[4]),
    (Broken::AppliesBeforeRecordWhenAcksShrink, group(2, 1, Available, 2, Budget { breaks: 1, ..WRITE }), NEVER[4]),
    (Broken::RecordsBeforeApplyWhenAcksGrow, group(2, 1, Available, 2, Budget { breaks: 1, ..WRITE }), NEVER[4]),
    (Broken::OpensWithoutTheRow, group(3, 1, Available, 3, WRITE), NEVER[8]),
    (Broken::ElectsByName, group(3, 1, Available, 2, WRITE), NEVER[8]),
    (Broken::ForgetsItsPromise, group(2, 1, Available, 1, Budget { crashes: 1, ..WRITE }), NEVER[2]),
    (Broken::ObeysOldOrders, group(2, 1, Available, 2, WRITE), NEVER[2]),
    (Broken::AnswersBeforeTheCut, group(3, 1, Available, 2, WRITE), NEVER[8]),
    (Broken::UsesATimelineTwice, group(2, 1, Strict, 4, NONE), NEVER[3]),
    (Broken::RoutersDoNotAskForTheTimeline, group(2, 1, Available, 2, Budget { crashes: 1, ..WRITE }), NEVER[8]),
];

/// A bound in words: `members=3 acks=2 strict decisions=4 writes=1 crashes=1 broken=ElectsByName`.
pub fn parse(words: &str) -> (Start, Broken) {
    let mut start = group(2, 1, Available, 3, NONE);
    let mut broken = Broken::Nothing;
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, "0"));
        let number = || value.parse::<u8>().unwrap_or_else(|_| panic!("{word}: a small number is wanted"));
        let budget = &mut start.budget;
        match name {
            "members" => (start.members, start.cohort) = (usize::from(number()), usize::from(number()) - 1),
            "cohort" => start.cohort = usize::from(number()),
            "acks" => start.acks = u32::from(number()),
            "strict" => start.durability = Strict,
            "decisions" => start.decisions = u64::from(number()),
            "writes" => budget.writes = number(),
            "crashes" => budget.crashes = number(),
            "breaks" => budget.breaks = number(),
            "delays" => budget.delays = number(),
            "leaders" => budget.leaders = number(),
            "switchovers" => budget.switchovers = number(),
            "isolations" => budget.isolations = number(),
            "wipes" => budget.wipes = number(),
            "broken" => {
                let named = ALL.into_iter().find(|rule| format!("{rule:?}") == value);
                broken = named.unwrap_or_else(|| panic!("no such rule: {value}"));
            }
            _ => panic!("{word} is no part of a bound"),
        }
    }
    (start, broken)
}
