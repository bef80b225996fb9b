//! Mixed real faults from a seed, on machines of their own, under a bank's transfers and a ledger of
//! acknowledged writes. In the end every link is mended, and then: everything is well within a bound,
//! nothing acknowledged is missing, every balance is what its transfers make it, nothing is left prepared,
//! and standbys hold what their primaries hold.
//!
//! `HOWDAH_CHAOS_MINUTES=30 cargo test --release --test all chaos:: -- --nocapture`; without it a minute.
//! `HOWDAH_SEED=N` repeats the faults of a run: their order, victims and times, not the moments at which
//! the system was struck.

mod bank;
mod faults;

use std::{env, path::Path, time::Duration};

use howdah::host::{clock::Clock, entropy};

use crate::{
    harness::{
        ledger::Ledger,
        machines::{self, Machines, Shape},
        members,
    },
    simulation::random::Random,
};
use bank::Bank;
use faults::Fault;

/// How long it goes on where nobody says otherwise: part of every check of a change.
const MINUTES: u64 = 1;

/// From the last mend to everything being well. The promise is 30 s of an optimised build.
const WELL_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 90 } else { 30 });

/// In the midst of it: nothing may be wedged, but what was struck just now may have to be cloned anew.
const WELL_IN_THE_MIDST: Duration = Duration::from_mins(2);

/// A member's disk: PostgreSQL's files, kept WAL, and a clone beside what it replaces; held in memory.
const DISK_MB: u32 = 640;

/// Acknowledged rows of every writer that show that work goes on.
const PROGRESS: usize = 10;

#[test]
fn mixed_faults() {
    machines::test("chaos::mixed_faults", |scratch| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a runtime").block_on(run(scratch));
    });
}

async fn run(scratch: &Path) {
    let number = |name: &str| env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let limit = Duration::from_mins(number("HOWDAH_CHAOS_MINUTES").unwrap_or(MINUTES));
    let seed = number("HOWDAH_SEED").unwrap_or_else(|| entropy::number() % 1_000_000);
    println!("seed {seed}: repeat with HOWDAH_SEED={seed}");
    let machines = Machines::start(scratch, Shape { shards: 2, disk_mb: Some(DISK_MB), clocks: true });
    if machines.clocks().is_none() {
        println!("SKIPPED: jumps of wall clocks: there is no C compiler");
    }
    let ledger = Ledger::open(&machines.target()).await;
    let bank = Bank::open(&machines.target(), seed).await;

    let clock = Clock::start();
    let mut random = Random(seed);
    let mut struck = 0;
    while clock.now().duration() < limit {
        strike(&machines, &mut random, &clock).await;
        struck += 1;
        if random.chance(33) {
            machines.wait_until_healthy_within(WELL_IN_THE_MIDST);
            let going_on = ledger.wait_for_progress(PROGRESS).await;
            assert!(going_on, "seed {seed}: writers stand still: {:#?}\n{}", ledger.errors(), machines.report());
            ledger.begin_round();
        } else {
            tokio::time::sleep(Duration::from_millis(random.between(0, 4_000))).await;
        }
    }
    machines.mend();
    let mended = Clock::start();
    machines.wait_until_healthy_within(WELL_WITHIN);
    println!("{struck} blows in {limit:?}; everything was well {:?} after the last", mended.now().duration());
    assert!(ledger.wait_for_progress(PROGRESS).await, "seed {seed}: no progress at the end: {:#?}", ledger.errors());

    println!("{} rows and {} transfers were acknowledged", ledger.acknowledged(), bank.acknowledged());
    ledger.close().await;
    let mut wrong = bank.close().await;
    wrong.extend(members::differences(&machines.wait_until_healthy()).await);
    assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
}

/// One blow: a fault or two at once, borne for a while and mended.
async fn strike(machines: &Machines, random: &mut Random, clock: &Clock) {
    let status = machines.wait_within(WELL_IN_THE_MIDST, "a leader answers", |_| true);
    let count = if random.chance(25) { 2 } else { 1 };
    let faults: Vec<_> = (0..count).filter_map(|_| Fault::choose(random, &status, machines)).collect();
    let lasting = Duration::from_millis(random.between(200, 8_000));
    println!("{:>7} ms: {faults:?}, for {lasting:?}", clock.now().0);
    for fault in &faults {
        fault.begin(machines, &status);
    }
    if faults.iter().any(Fault::flaps) {
        let end = Clock::start();
        while end.now().duration() < lasting {
            tokio::time::sleep(Duration::from_millis(random.between(100, 1_000))).await;
            machines.network().heal();
            tokio::time::sleep(Duration::from_millis(random.between(100, 1_000))).await;
            faults.iter().filter(|fault| fault.flaps()).for_each(|fault| fault.begin(machines, &status));
        }
    } else {
        tokio::time::sleep(lasting).await;
    }
    machines.mend();
}
