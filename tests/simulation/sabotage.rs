//! The simulation and its checker prove themselves: what is broken on purpose is found within a few seeds, as
//! what it is and not merely as a group that does not recover.

use super::{run, world::Sabotage};

/// Seeds within which each must be found: several times what it takes.
const SEEDS: u64 = 150;

fn is_found(sabotage: Sabotage) {
    let stories = (0..SEEDS).filter_map(|seed| run(seed, false, Some(sabotage)).err());
    let found = stories.into_iter().any(|story| !story.contains("does not recover"));
    assert!(found, "{sabotage:?} passes unnoticed through {SEEDS} seeds");
}

#[test]
fn a_disk_that_forgets_what_it_synced_is_found() {
    is_found(Sabotage::DiskForgets);
}

#[test]
fn a_coordinator_that_sends_before_it_persists_is_found() {
    is_found(Sabotage::SendsBeforePersist);
}

#[test]
fn an_agent_that_forgets_its_promise_is_found() {
    is_found(Sabotage::PromiseForgotten);
}

#[test]
fn a_primary_that_commits_alone_is_found() {
    is_found(Sabotage::CommitsAlone);
}
