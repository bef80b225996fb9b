//! Model checking: the real deciding code, every interleaving of a small group.
//!
//! What is driven is what runs in production: `State::apply`, `planner::plan`, `goals::goal`,
//! `topology::topology` and `Observed` of the coordinator; `goals::check`, `decide` and `report` of the
//! agent. Round it is a small `PostgreSQL` (`postgres.rs`): logs of records on timelines, acknowledgements
//! of the cohort in force, crash and restart. Time is a choice: whatever limit could have passed, has or has
//! not (`coordinator::Time`); whoever could be silent, is or is not.
//!
//! **The bound.** A run begins with a group that serves, its standbys caught up (`start.rs`), and follows
//! every way, breadth first, until the decisions and the faults of its case (`cases.rs`) are used up: it is
//! exhaustive within these numbers, unless it says that it ended at `LIMIT`. What is counted: decisions that
//! are applied; client writes; kills (of `PostgreSQL`, agent or both, each starts again); receivers that lose
//! their connection; reports and acknowledgements that take long while others act on older ones; changes of the
//! leader (the new one remembers nothing, members come to it one by one, and what the old one had just
//! proposed may be applied at any later time); switchovers; primaries isolated beyond their timeout; disks
//! lost. What is not counted, and so may happen everywhere: an order is lost, repeated or late (an agent may
//! get the order of any state that was ever decided); a member is not heard, so that it is suspected, or
//! elected without; a standby lags; an action takes long.
//!
//! **Covered**, by the cases of every run or by the large ones: one primary with one or two standbys, both
//! durabilities, k of 1 and 2, cohorts that join, leave, shrink and grow, two leaders in turn.
//! **Not covered**: Raft itself; operations but switchover; a loss that a person accepts; several groups; an
//! agent that acts on an older look at `PostgreSQL` (the runner orders looks and actions) or late on a newer
//! order; a `PostgreSQL` that does not do what it was told (tests against the real one see to that). Routers
//! may be far behind, but write only on the timeline of a reign that they were told of, as each of their new
//! connections is asked for it: what it costs without that is the last of the broken rules.
//!
//! What must never be seen is judged by `checker.rs`, which shares no code with what decides. What must be
//! seen (`sights.rs`) keeps "nothing found" from being empty. From one in so many states everything is let
//! run calmly, to see that the group comes to serve in full (`calm.rs`). And rules broken on purpose have
//! to be found (`broken.rs`).
//!
//! `HOWDAH_MODEL=large` goes further; `HOWDAH_MODEL='members=3 decisions=4 writes=1'` follows any bound
//! (`cases.rs`).

mod agent;
mod broken;
mod calm;
mod cases;
mod checker;
mod coordinator;
mod hashed;
mod postgres;
mod reach;
mod sights;
mod start;
mod story;
mod system;
mod world;

use std::sync::atomic::Ordering;

use howdah::host::clock::Clock;
use stateright::{Checker, HasDiscoveries, Model};

use broken::Broken;
use cases::{BROKEN, CASES, Case, LARGE, LIMIT};
use sights::NEVER;
use start::Start;
use system::System;

/// One in so many states is tried for whether the group can serve again from there.
const CALM_IN: u64 = 100;

/// Every way within the bounds of `start`; `wanted` is what ends the search early.
fn check(name: &str, start: Start, broken: Broken, calm_in: u64) -> impl Checker<System> + use<> {
    let clock = Clock::start();
    let system = System::new(start, broken, calm_in);
    let checker =
        system.checker().finish_when(HasDiscoveries::AnyFailures).target_state_count(LIMIT).spawn_bfs().join();
    let end = if checker.state_count() < LIMIT { "all of them" } else { "the rest not followed" };
    println!(
        "{name}: {} states, {} distinct, {} steps deep, {end}; {} stale proposals refused, {} ms",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.model().stale.load(Ordering::Relaxed),
        clock.now(),
    );
    checker
}

/// A violation as a story, if there is one.
fn violation(checker: &impl Checker<System>) -> Option<(&'static str, String)> {
    let (property, path) = checker.discoveries().into_iter().find(|(property, _)| NEVER.contains(property))?;
    let stuck = (property == sights::SERVES_AGAIN).then(|| checker.model().wedge(path.last_state())).flatten();
    let after = stuck.map(|end| format!("  and after a long calm: {}\n", story::ending(&end))).unwrap_or_default();
    Some((property, format!("violated: {property}\n{}{after}", story::tell(path))))
}

fn run(cases: &[Case]) {
    for case in cases {
        let checker = check(case.name, case.start, Broken::Nothing, CALM_IN);
        if let Some((_, story)) = violation(&checker) {
            panic!("{}: {story}", case.name);
        }
        let stale = checker.model().stale.load(Ordering::Relaxed);
        assert!(stale > 0 || case.start.budget.leaders == 0, "{}: no stale proposal was ever refused", case.name);
        for sight in case.seen {
            let path = checker.discovery(sight).unwrap_or_else(|| panic!("{}: never seen: {sight}", case.name));
            println!("    {sight}: after {} steps", path.into_actions().len());
        }
    }
}

/// A bound that somebody is curious about: everything that is seen within it.
fn explore(words: &str) {
    let (start, broken) = cases::parse(words);
    let checker = check(words, start, broken, CALM_IN);
    for (sight, path) in checker.discoveries() {
        println!("    {sight}: after {} steps", path.into_actions().len());
    }
    if let Some((_, story)) = violation(&checker) {
        panic!("{story}");
    }
}

#[test]
fn small_groups_keep_what_they_promise() {
    match std::env::var("HOWDAH_MODEL").as_deref() {
        Err(_) => run(&CASES),
        Ok("large") => run(&LARGE),
        Ok(words) => explore(words),
    }
}

#[test]
fn broken_rules_are_found() {
    for (broken, start, wanted) in BROKEN {
        let checker = check(&format!("{broken:?}"), start, broken, 0);
        let Some((property, story)) = violation(&checker) else { panic!("{broken:?} is not found") };
        println!("{story}");
        assert_eq!(property, wanted, "{broken:?}");
    }
}
