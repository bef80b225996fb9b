//! What the write-ahead log on disk tells: which timeline a position lies on, which numbers are taken.
//!
//! `PostgreSQL` has no function for the timeline a standby has replayed. Its files do: bytes of a
//! timeline are only ever written to files that bear its number, and history files say where each
//! timeline left its parent.

use std::{collections::BTreeMap, fs, io, path::Path};

use crate::{
    agent::core::history::{Lineage, PLACEHOLDER},
    model::numbers::{Lsn, Position, Timeline},
};

/// initdb's default, which is what we make and clone.
const SEGMENT: u64 = 16 * 1024 * 1024;

/// Segments in one "xlogid", the middle part of a file's name.
const SEGMENTS_PER_ID: u64 = (1 << 32) / SEGMENT;

/// The position of a log that ends at `end`; `fallback` where no file tells its timeline.
pub fn position(data: &Path, end: Lsn, fallback: Timeline) -> io::Result<Position> {
    let mut newest: Option<Timeline> = None;
    let wanted = segment_name(end);
    for name in names(data)? {
        if name.len() == 24 && name[8..] == wanted {
            let timeline = u32::from_str_radix(&name[..8], 16).ok().map(Timeline);
            newest = newest.max(timeline);
        }
    }
    let timeline = match newest {
        None => fallback,
        Some(newest) => history(data, newest)?.timeline_at(newest, end),
    };
    Ok(Position { timeline, lsn: end })
}

/// True if `name` is the segment that holds the byte at `lsn`, on any timeline.
pub fn segment_after(lsn: Lsn) -> String {
    segment_name(Lsn(lsn.0 + 1))
}

/// The last 16 digits of the name of the segment that holds the byte before `end`.
fn segment_name(end: Lsn) -> String {
    let number = end.0.saturating_sub(1) / SEGMENT;
    format!("{:08X}{:08X}", number / SEGMENTS_PER_ID, number % SEGMENTS_PER_ID)
}

/// The ancestors of a timeline, as its history file on this disk has them; none where there is no file.
fn history(data: &Path, timeline: Timeline) -> io::Result<Lineage> {
    match fs::read_to_string(data.join(history_file(timeline))) {
        Ok(text) => Lineage::parse(&text).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Lineage::default()),
        Err(error) => Err(error),
    }
}

/// Path of a timeline's history file below the data directory.
pub fn history_file(timeline: Timeline) -> String {
    format!("pg_wal/{:08X}.history", timeline.0)
}

/// Numbers below `timeline` that have no history file here.
///
/// `PostgreSQL` takes the first number without a history file above its own for a promotion, and a
/// standby that connects wants every file up to its primary's timeline: both are served by files
/// that say nothing.
pub fn missing_below(data: &Path, timeline: Timeline) -> io::Result<Vec<Timeline>> {
    let taken = histories(data)?;
    Ok((2..timeline.0).map(Timeline).filter(|number| !taken.contains_key(number)).collect())
}

/// Removes placeholders that no real history follows: a start would take the last one for the
/// timeline to recover to, and find that it has no ancestors.
pub fn remove_leading_placeholders(data: &Path) -> io::Result<()> {
    let histories = histories(data)?;
    let newest =
        histories.iter().rev().find(|(_, placeholder)| !**placeholder).map_or(Timeline(1), |(number, _)| *number);
    for (number, placeholder) in &histories {
        if *placeholder && *number > newest {
            fs::remove_file(data.join(history_file(*number)))?;
        }
    }
    Ok(())
}

/// History files here, and whether each is a placeholder.
fn histories(data: &Path) -> io::Result<BTreeMap<Timeline, bool>> {
    let mut found = BTreeMap::new();
    for name in names(data)? {
        let number = name.strip_suffix(".history").and_then(|digits| u32::from_str_radix(digits, 16).ok());
        if let Some(timeline) = number.map(Timeline) {
            let text = fs::read_to_string(data.join(history_file(timeline)))?;
            found.insert(timeline, text == PLACEHOLDER);
        }
    }
    Ok(found)
}

fn names(data: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(data.join("pg_wal"))?;
    Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_are_named_as_postgresql_names_them() {
        assert_eq!(segment_name(Lsn(0x0100_0001)), "0000000000000001");
        assert_eq!(segment_name(Lsn(0x0100_0000)), "0000000000000000", "the byte before the boundary");
        assert_eq!(segment_name(Lsn(0x16_B374_D848)), "00000016000000B3");
        assert_eq!(segment_after(Lsn(0x0100_0000)), "0000000000000001");
    }
}
