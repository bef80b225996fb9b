//! The figures of all rounds, for people and as JSON. Called by `main`.

use std::collections::BTreeMap;

use comfy_table::{Table, presets};
use serde_json::json;

use crate::{fault::Trial, round::Round};

type Results = [(Trial, Vec<Round>)];

/// Pauses in order.
fn sorted(rounds: &[Round]) -> Vec<u64> {
    let mut pauses: Vec<_> = rounds.iter().map(|round| round.pause_ms).collect();
    pauses.sort_unstable();
    pauses
}

/// The middle one; of two in the middle the longer.
fn median(sorted: &[u64]) -> u64 {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn worst(sorted: &[u64]) -> u64 {
    sorted.last().copied().unwrap_or_default()
}

fn codes(rounds: &[Round]) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for (code, count) in rounds.iter().flat_map(|round| &round.codes) {
        *sum.entry(code.clone()).or_default() += count;
    }
    sum
}

/// One line for each trial.
pub fn text(results: &Results) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_header([
        "fault",
        "rounds",
        "median ms",
        "target",
        "worst ms",
        "target",
        "others ms",
        "errors",
        "missing",
    ]);
    for (trial, rounds) in results {
        let (pauses, limits) = (sorted(rounds), trial.fault.limits());
        let errors: Vec<_> = codes(rounds).iter().map(|(code, count)| format!("{count} × {code}")).collect();
        table.add_row([
            trial.to_string(),
            rounds.len().to_string(),
            median(&pauses).to_string(),
            limits.median.to_string(),
            worst(&pauses).to_string(),
            limits.worst.to_string(),
            rounds.iter().map(|round| round.others_ms).max().unwrap_or_default().to_string(),
            if errors.is_empty() { "none".to_owned() } else { errors.join(", ") },
            rounds.iter().map(|round| round.missing).sum::<usize>().to_string(),
        ]);
    }
    table.to_string()
}

/// The same, with every round.
pub fn json(results: &Results) -> String {
    let trials: Vec<_> = results
        .iter()
        .map(|(trial, rounds)| {
            let (pauses, limits) = (sorted(rounds), trial.fault.limits());
            json!({
                "fault": trial.fault.words(),
                "group": trial.group,
                "median_ms": median(&pauses),
                "median_target_ms": limits.median,
                "worst_ms": worst(&pauses),
                "worst_target_ms": limits.worst,
                "others_worst_ms": rounds.iter().map(|round| round.others_ms).max(),
                "pauses_ms": rounds.iter().map(|round| round.pause_ms).collect::<Vec<_>>(),
                "errors": codes(rounds),
                "missing": rounds.iter().map(|round| round.missing).sum::<usize>(),
            })
        })
        .collect();
    serde_json::to_string_pretty(&trials).expect("names and numbers are JSON") + "\n"
}

/// A round that shows why a target is missed: the worst, where that one is; else one in the middle.
pub fn missed<'a>(trial: &Trial, rounds: &'a [Round]) -> Option<&'a Round> {
    let (pauses, limits) = (sorted(rounds), trial.fault.limits());
    let wanted = if worst(&pauses) > limits.worst {
        worst(&pauses)
    } else if median(&pauses) > limits.median {
        median(&pauses)
    } else {
        return None;
    };
    rounds.iter().find(|round| round.pause_ms == wanted)
}
