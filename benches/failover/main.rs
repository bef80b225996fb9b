//! The failover benchmark: applications insert one numbered row every 10 ms through a router, one at each
//! shard and one at a local table, while a primary is killed, frozen or cut off, a leader is killed, a
//! switchover is asked for; again and again. It tells the pauses between acknowledgements, what errors the
//! applications saw, and whether anything acknowledged is missing, beside the targets of the design.
//! Run by a person: `cargo bench --bench failover -- --rounds 20 --timeline --json failover.json`.

mod fault;
mod place;
mod round;
mod table;
mod timeline;

#[path = "../../tests/harness/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests use the rest")]
mod harness;

use std::{env, path::PathBuf, process::ExitCode};

use clap::Parser;

use fault::{Fault, Trial};
use harness::machines::{self, Outcome};
use place::Place;
use round::Bench;

/// Measures how long a failover keeps applications waiting.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often each fault is tried on each group
    #[arg(long, default_value_t = 20)]
    rounds: u32,
    /// Only these faults
    #[arg(long, value_enum, value_delimiter = ',')]
    fault: Vec<Fault>,
    /// The groups whose primaries are struck
    #[arg(long, value_delimiter = ',', default_value = "shard-1,query")]
    group: Vec<String>,
    /// A `howdah dev` cluster instead of a machine of its own for every part; machines need root
    #[arg(long)]
    dev: bool,
    /// Where a target is missed, the time line of one failover, step by step
    #[arg(long)]
    timeline: bool,
    /// The figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let again = env::args_os().skip(1);
    let place = if arguments.dev { Outcome::Impossible("--dev".to_owned()) } else { machines::inside(again) };
    let place = match place {
        Outcome::Done(true) => return ExitCode::SUCCESS,
        Outcome::Done(false) => return ExitCode::FAILURE,
        Outcome::Inside(scratch) => Place::machines(&scratch),
        Outcome::Impossible(reason) => {
            println!("every part on one network, run by howdah dev ({reason}): nothing can be cut off");
            Place::dev()
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let lost = runtime.expect("a runtime").block_on(measure(&arguments, place));
    if lost == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Every trial in turn; gives how many acknowledged rows are missing.
async fn measure(arguments: &Arguments, place: Place) -> usize {
    let mut bench = Bench::begin(place).await;
    let mut results = Vec::new();
    for trial in Trial::all(&arguments.fault, &arguments.group) {
        if !bench.place.can(trial.fault) {
            println!("SKIPPED: {trial}: it takes a machine of its own for every part");
            continue;
        }
        let mut rounds = Vec::new();
        for number in 1..=arguments.rounds {
            let round = bench.round(&trial).await;
            println!("{trial}, round {number}: {round}");
            rounds.push(round);
        }
        results.push((trial, rounds));
    }
    println!("\n{}", table::text(&results));
    if arguments.timeline {
        for (trial, rounds) in &results {
            if let Some(round) = table::missed(trial, rounds) {
                println!("\n{}", timeline::text(trial, round, &bench.place));
            }
        }
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, table::json(&results)).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }
    results.iter().flat_map(|(_, rounds)| rounds).map(|round| round.missing).sum()
}
