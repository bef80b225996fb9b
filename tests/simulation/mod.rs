//! The deciding code under simulation: coordinators, agents and a small model of `PostgreSQL` in one
//! process under virtual time, from one seed. `HOWDAH_SEED=17` replays seed 17 and tells its story;
//! `HOWDAH_SEEDS=10000` runs more of them.

mod agent;
mod checker;
mod cluster;
mod coordinator;
mod faults;
mod postgres;
pub mod random;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Seeds of an ordinary run: they take a few seconds.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn groups_lose_nothing_and_serve_again() {
    if let Some(seed) = number("HOWDAH_SEED") {
        cluster::run(seed, true);
        return;
    }
    for seed in 0..number("HOWDAH_SEEDS").unwrap_or(SEEDS) {
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| cluster::run(seed, false))) {
            eprintln!("seed {seed} failed: replay it with HOWDAH_SEED={seed}");
            resume_unwind(failure);
        }
    }
}
