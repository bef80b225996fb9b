//! Whole coordinators, agents, routers and a model of `PostgreSQL` in one process under virtual time, from one
//! seed. `HOWDAH_SEED=17` replays seed 17 and tells its story; `HOWDAH_SEEDS=10000` runs so many, and
//! `HOWDAH_SEEDS=100` is quick enough after every change.

mod actions;
mod agent;
mod checker;
mod control;
mod coordinator;
mod disk;
mod faults;
mod machine;
mod member;
mod mend;
mod network;
mod postgres;
pub mod random;
mod replication;
mod router;
mod sabotage;
mod scale;
mod story;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mend::Ended;
use story::Tally;
use world::{Sabotage, World};

/// Seeds of an ordinary run: at some 0.1 s each in a debug build, they take about a minute on two processors.
const SEEDS: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Runs one seed; what went wrong, with the story, where something did.
fn run(seed: u64, tell: bool, sabotage: Option<Sabotage>) -> Result<Ended, String> {
    let mut world = World::new(seed, tell, sabotage);
    catch_unwind(AssertUnwindSafe(|| mend::run(&mut world))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let what = text.unwrap_or_else(|| "it panicked".to_owned());
        format!("{}\nat {}: {what}\n\n{world:?}", world.story.text(), world.now)
    })
}

/// Runs seeds on every processor until all are done or one has failed.
fn run_many(seeds: u64) -> Result<Tally, u64> {
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let (total, first) = (Mutex::new(Tally::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Ok(ended) = run(seed, false, None) {
                        total.lock().unwrap_or_else(PoisonError::into_inner).add(&ended.tally);
                    } else {
                        failed.store(true, Ordering::Relaxed);
                        first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(seed);
                    }
                }
            });
        }
    });
    let failed = *first.lock().unwrap_or_else(PoisonError::into_inner);
    let total = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(total), Err)
}

#[test]
fn groups_lose_nothing_and_serve_again() {
    if let Some(seed) = number("HOWDAH_SEED") {
        match run(seed, true, None) {
            Ok(ended) => println!("seed {seed} ends well: {:#?}", ended.tally),
            Err(story) => panic!("{story}"),
        }
        return;
    }
    let seeds = number("HOWDAH_SEEDS").unwrap_or(SEEDS);
    let clock = howdah::host::clock::Clock::start();
    match run_many(seeds) {
        Ok(tally) => {
            let took = Duration::from_millis(clock.now().0).as_secs_f64();
            println!("{seeds} simulated seeds without a violation in {took:.0} s: {tally:#?}");
            assert!(tally.failovers > 0 && tally.kept > 0 && tally.snapshots > 0, "nothing happened: {tally:#?}");
        }
        Err(seed) => {
            let story = run(seed, true, None).err().unwrap_or_else(|| "it does not fail twice: no replay".to_owned());
            panic!("seed {seed} failed; HOWDAH_SEED={seed} tells this again:\n{story}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        let hash = |tell| run(seed, tell, None).map_err(|story| panic!("{story}")).map(|ended| ended.hash);
        assert_eq!(hash(false), hash(true), "seed {seed}");
    }
}
