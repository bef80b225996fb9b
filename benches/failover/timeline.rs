//! One failover step by step: what the applications saw and what the parts logged, joined by time. The
//! longest step is named, with what it waits for. Called by `main` where a target is missed.

use std::{fmt::Write as _, fs, path::Path};

use crate::{fault::Trial, place::Place, round::Round};

/// What is shown before the last acknowledgement and after the first, in milliseconds.
const MARGIN: u64 = 20;

/// What a log line says has happened, and so what was waited for until then. The first that fits.
const STEPS: [(&str, &str); 16] = [
    ("kind=\"epoch-opened\"", "the coordinators to suspect the primary and to agree on an epoch"),
    ("kind=\"elected\"", "the recruits' answers, and the coordinators to agree on one"),
    ("kind=\"serving\"", "the new primary's report, and the coordinators to agree"),
    ("kind=\"draining\"", "the coordinators to agree on the drain"),
    ("kind=\"standing-down\"", "transactions in progress to end"),
    ("PostgreSQL ended", "the agent to notice the postmaster's end"),
    ("agent disconnected", "the coordinator to notice a broken connection"),
    ("this coordinator leads", "the election of a coordinator"),
    ("registered", "the agent to find the leader"),
    ("new goal", "the order's way to the agent"),
    ("done action=promising", "the promise to be on disk"),
    ("done action=cutting", "the WAL receiver to end and replay to stand still"),
    ("done action=promoting", "PostgreSQL to leave recovery"),
    ("done action=applying", "PostgreSQL to use the cohort"),
    ("done action=waiting", "the standbys to follow and to acknowledge the epoch row"),
    ("topology", "the topology's way to the router"),
];

/// A line of the story.
struct Moment {
    /// Microseconds since 1970.
    at: u64,
    who: String,
    what: String,
}

/// The story of one round.
pub fn text(trial: &Trial, round: &Round, place: &Place) -> String {
    let [last, fault, first] = round.moments;
    let mut story = vec![
        Moment { at: last * 1_000, who: "application".to_owned(), what: "last acknowledgement".to_owned() },
        Moment { at: fault * 1_000, who: "benchmark".to_owned(), what: format!("fault: {trial}") },
        Moment { at: first * 1_000, who: "application".to_owned(), what: "first acknowledgement".to_owned() },
    ];
    let span = (last.min(fault) - MARGIN) * 1_000..(first + MARGIN) * 1_000;
    for entry in place.site().logs.iter().filter_map(|logs| fs::read_dir(logs).ok()).flatten().flatten() {
        story.extend(moments(&entry.path()).into_iter().filter(|moment| span.contains(&moment.at)));
    }
    story.sort_by_key(|moment| moment.at);
    tell(trial, round, &story)
}

fn tell(trial: &Trial, round: &Round, story: &[Moment]) -> String {
    let [last, fault, first] = round.moments.map(|at| at * 1_000);
    let mut text = format!("{trial}: {} ms, step by step (ms since the fault)\n", round.pause_ms);
    let mut longest = (0, String::new());
    // Only what something was waited for; between two of those lies a step.
    let mut step_began = last.max(fault);
    for moment in story {
        let Moment { at, who, what } = moment;
        let line = |at: u64, sign: &str| format!("{sign}{}.{:03}", at / 1_000, at % 1_000);
        let since = if *at >= fault { line(at - fault, "+") } else { line(fault - at, "-") };
        writeln!(text, "{since:>10}  {who:<14} {what}").expect("writing to a string cannot fail");
        let waited_for = match what.as_str() {
            "first acknowledgement" => Some("the router to reach the new primary, and the insert"),
            _ => STEPS.iter().find(|(sign, _)| what.contains(sign)).map(|(_, waited_for)| *waited_for),
        };
        if let Some(waited_for) = waited_for.filter(|_| (step_began..=first).contains(at)) {
            let took = at - step_began;
            if took > longest.0 {
                longest = (took, format!("until {who} said {what:?}: waited for {waited_for}"));
            }
            step_began = *at;
        }
    }
    writeln!(text, "longest step: {} ms {}", longest.0 / 1_000, longest.1).expect("writing to a string cannot fail");
    text
}

/// Every line of a log that has a time.
fn moments(log: &Path) -> Vec<Moment> {
    let who = log.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(log).unwrap_or_default();
    let parsed = text.lines().filter_map(|line| {
        let (stamp, rest) = line.split_once(' ')?;
        Some(Moment { at: micros(stamp)?, who: who.clone(), what: rest.trim().to_owned() })
    });
    parsed.collect()
}

/// `2026-01-31T12:34:56.123456Z` as microseconds since 1970.
fn micros(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.')?;
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let seconds = (clock.next()?? * 60 + clock.next()??) * 60 + clock.next()??;
    let micros = format!("{fraction:0<6}").get(..6)?.parse::<u64>().ok()?;
    // Days since 1970 of the Gregorian calendar, with years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    Some((days * 86_400 + seconds) * 1_000_000 + micros)
}
