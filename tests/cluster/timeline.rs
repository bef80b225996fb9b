//! What happened in a cluster between two moments, step by step in milliseconds: the lines of every
//! coordinator's, container's and PostgreSQL's log in one order. For people who ask where the time of a
//! failover went: printed by the fault tests where `HOWDAH_TIMELINE` is set.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// PostgreSQL's own lines that mark a step; the others are about settings and clients.
const STEPS: [&str; 12] = [
    "received promote request",
    "selected new timeline",
    "archive recovery complete",
    "checkpoint starting",
    "checkpoint complete",
    "is ready to accept",
    "started streaming",
    "could not receive data from WAL stream",
    "fast shutdown request",
    "system is shut down",
    "starting PostgreSQL",
    "could not start WAL streaming",
];

/// A moment, in milliseconds since 1970.
type Moment = u64;

/// The steps between two moments, each with its distance from the first and from the step before it.
pub fn timeline(directory: &Path, from: Moment, to: Moment) -> String {
    let mut steps = Vec::new();
    for (name, path) in logs(directory) {
        for line in fs::read_to_string(&path).unwrap_or_default().lines() {
            let Some((at, what)) = dated(line) else { continue };
            let told = !name.starts_with("PostgreSQL") || STEPS.iter().any(|step| what.contains(step));
            if (from..=to).contains(&at) && told {
                steps.push((at, name.clone(), what.to_owned()));
            }
        }
    }
    steps.sort();
    let (mut text, mut before) = (String::new(), from);
    for (at, name, what) in steps {
        let what: String = what.chars().take(150).collect();
        writeln!(text, "{:>6} {:>+6} ms  {name:<22} {what}", at - from, at - before).expect("a string takes it");
        before = at;
    }
    text
}

/// Every log of the cluster, named after its part.
fn logs(directory: &Path) -> Vec<(String, PathBuf)> {
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let parts = entries(&directory.join("log")).filter(|path| path.extension().is_some_and(|it| it == "log"));
    let named = |path: &Path| path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let mut logs: Vec<_> = parts.map(|path| (named(&path), path)).collect();
    for part in entries(directory) {
        let log = part.join("postgres.log");
        if log.exists() {
            logs.push((format!("PostgreSQL {}", named(&part)), log));
        }
    }
    logs
}

/// A line's moment and the rest of it. Ours begin with `2026-01-31T12:30:00.123456Z`, PostgreSQL's with
/// `2026-01-31 12:30:00.123 UTC`.
fn dated(line: &str) -> Option<(Moment, &str)> {
    let (date, rest) = (line.get(..10)?, line.get(11..)?);
    let (clock, rest) = rest.split_once([' ', 'Z'])?;
    let rest = rest.trim_start().trim_start_matches("UTC").trim_start_matches("GMT").trim_start();
    let mut date = date.split('-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let (whole, fraction) = clock.split_once('.')?;
    let mut whole = whole.split(':').map(str::parse::<u64>);
    let (hour, minute, second) = (whole.next()?.ok()?, whole.next()?.ok()?, whole.next()?.ok()?);
    let thousandths: u64 = fraction.get(..3)?.parse().ok()?;
    let seconds = ((days(year, month, day)? * 24 + hour) * 60 + minute) * 60 + second;
    Some((seconds * 1_000 + thousandths, rest))
}

/// Days from 1970 to a date of the Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year.checked_sub(1)? } else { year };
    let shifted = (month + 9) % 12;
    let of_year = (153 * shifted + 2) / 5 + day.checked_sub(1)?;
    (year * 365 + year / 4 - year / 100 + year / 400 + of_year).checked_sub(719_468)
}

#[test]
fn lines_are_dated() {
    let ours = dated("2026-11-22T14:17:41.737123Z  INFO howdah::agent::runner: state");
    assert_eq!(ours, Some((1_795_357_061_737, "INFO howdah::agent::runner: state")));
    let theirs = dated("2026-11-22 14:17:41.737 UTC [1656] LOG:  shutting down");
    assert_eq!(theirs, Some((1_795_357_061_737, "[1656] LOG:  shutting down")));
    assert_eq!(dated("\tat character 13"), None);
}
