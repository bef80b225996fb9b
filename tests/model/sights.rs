//! What must never be seen, and what must be seen: without the second, the first would say nothing.

use howdah::model::group::Phase;
use stateright::Property;

use super::{
    checker::Violation,
    start::FIRST,
    system::System,
    world::{Data, Postgres, World, id},
};

/// What must never be seen.
pub const NEVER: [&str; 9] = [
    "at most one member commits in an epoch",
    "no acknowledged commit is missing from a later reign",
    "an epoch never goes back",
    "a timeline is never used twice",
    "every set of acks meets every set of recruits",
    "a standby streams its own history only",
    "the decided state is sound",
    SERVES_AGAIN,
    "whoever may elect has all that was acknowledged",
];
pub const SERVES_AGAIN: &str = "the group can serve again";

pub const FAILOVER: &str = "another member reigns, on a new timeline";
pub const RE_ELECTION: &str = "a live primary is elected again, on its timeline";
pub const COMMIT_AFTER: &str = "a client's commit is acknowledged in a later reign";
pub const SECOND_FAILOVER: &str = "a third reign serves";
pub const DEGRADED: &str = "commits go on with fewer acknowledgements";
pub const LEFT: &str = "a standby has left the cohort";
pub const JOINED: &str = "a standby has joined the cohort";
pub const RESTORED: &str = "a cohort is full again after a standby had left";
pub const REWOUND: &str = "a member that had parted from the history streams again";
pub const SWITCHED: &str = "a primary stands down and another reigns";

fn never(violation: Violation, system: &System, world: &World) -> bool {
    world.ledger.violation != Some(violation) || !system.is_first(world)
}

fn serves_in(world: &World, at_least: u64) -> bool {
    let group = world.group();
    group.phase == Phase::Serving && group.epoch.0 >= at_least
}

fn failed_over(world: &World) -> bool {
    serves_in(world, 2) && world.group().primary() != Some(&id(0))
}

pub fn properties() -> Vec<Property<System>> {
    let mut properties = vec![
        Property::<System>::always(NEVER[0], |system, world| never(Violation::TwoCommitInOneEpoch, system, world)),
        Property::<System>::always(NEVER[1], |system, world| never(Violation::AcknowledgedIsMissing, system, world)),
        Property::<System>::always(NEVER[2], |system, world| never(Violation::EpochWentBack, system, world)),
        Property::<System>::always(NEVER[3], |system, world| never(Violation::TimelineUsedTwice, system, world)),
        Property::<System>::always(NEVER[4], |system, world| never(Violation::CohortRule, system, world)),
        Property::<System>::always(NEVER[5], |system, world| never(Violation::StreamsAnotherHistory, system, world)),
        Property::<System>::always(NEVER[6], |system, world| never(Violation::Asserted, system, world)),
    ];
    properties
        .push(Property::<System>::always(NEVER[8], |system, world| never(Violation::ElectionWouldMiss, system, world)));
    properties.push(Property::<System>::always(NEVER[7], |system, world| {
        let goes_on = world.ledger.violation.is_some() || !system.tries_calm(world) || system.wedge(world).is_none();
        goes_on || !system.is_first(world)
    }));
    properties.extend([
        Property::<System>::sometimes(FAILOVER, |_, world| failed_over(world)),
        Property::<System>::sometimes(RE_ELECTION, |_, world| {
            let reign = world.group().reign.as_ref();
            serves_in(world, 2) && reign.is_some_and(|reign| reign.timeline.0 == FIRST)
        }),
        Property::<System>::sometimes(COMMIT_AFTER, |_, world| world.ledger.committed_in() >= 2),
        Property::<System>::sometimes(SECOND_FAILOVER, |_, world| serves_in(world, 3)),
        Property::<System>::sometimes(DEGRADED, |system, world| {
            let fewer = |acks: u32| acks < system.start.acks.min(u32::try_from(system.start.cohort).expect("few"));
            serves_in(world, 1) && world.group().reign.as_ref().is_some_and(|reign| fewer(reign.recorded.acks))
        }),
        Property::<System>::sometimes(LEFT, |system, world| {
            serves_in(world, 1)
                && world.group().reign.as_ref().is_some_and(|reign| reign.recorded.standbys.len() < system.start.cohort)
        }),
        Property::<System>::sometimes(JOINED, |system, world| {
            let more = |reign: &howdah::model::group::Reign| reign.recorded.standbys.len() > system.start.cohort;
            serves_in(world, 1) && world.group().reign.as_ref().is_some_and(more)
        }),
        Property::<System>::sometimes(RESTORED, |system, world| {
            let full = |reign: &howdah::model::group::Reign| {
                reign.recorded.same(&reign.ordered)
                    && reign.recorded.acks == system.start.acks
                    && reign.recorded.standbys.len() == system.start.members - 1
            };
            serves_in(world, 2) && world.group().reign.as_ref().is_some_and(full)
        }),
        Property::<System>::sometimes(REWOUND, |_, world| {
            let member = &world.members[0];
            let streams = matches!(member.postgres, Postgres::Standby { streaming: true, .. });
            streams && member.data == Data::Ready && member.wal.last().is_some_and(|record| record.writer != 0)
        }),
        Property::<System>::sometimes(SWITCHED, |system, world| {
            failed_over(world) && system.start.budget.switchovers > world.budget.switchovers
        }),
    ]);
    properties
}
