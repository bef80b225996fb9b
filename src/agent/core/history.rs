//! Timeline history: which timeline a log position lies on, and whether one log is a prefix of
//! another (`PostgreSQL` manual, "Timelines"; the file format is that of `timeline.c`: number, switch
//! point, reason, separated by tabs). Called by `decide`, and by `postgres::wal` for own positions.

use crate::model::numbers::{Lsn, Position, Timeline};

/// What stands in a history file that only keeps a number from being used. A comment: a reader finds
/// no ancestors in it, so `PostgreSQL` never takes it for a timeline to recover to.
pub const PLACEHOLDER: &str = "# howdah: never used\n";

/// The ancestors of a timeline, oldest first, each with the position at which it was left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage {
    ancestors: Vec<(Timeline, Lsn)>,
}

/// A history file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a line of a timeline history file")]
pub struct InvalidHistory(String);

impl Lineage {
    /// Reads a history file's text.
    pub fn parse(text: &str) -> Result<Self, InvalidHistory> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let ancestors = lines.map(|line| {
            let mut fields = line.split_whitespace();
            let timeline = fields.next().and_then(|number| number.parse().ok());
            let left = fields.next().and_then(|lsn| lsn.parse().ok());
            timeline.zip(left).map(|(t, l)| (Timeline(t), l)).ok_or_else(|| InvalidHistory(line.to_owned()))
        });
        Ok(Self { ancestors: ancestors.collect::<Result<_, _>>()? })
    }

    /// The timeline that the byte before `end` was written on, for a log that ends on `newest`.
    pub fn timeline_at(&self, newest: Timeline, end: Lsn) -> Timeline {
        self.ancestors.iter().find(|(_, left)| end <= *left).map_or(newest, |(timeline, _)| *timeline)
    }

    /// True if a log that ends at `position` is a prefix of the log of `timeline`, whose ancestors
    /// these are: it lies on it, or left none of its ancestors later than the history did.
    pub fn contains(&self, timeline: Timeline, position: Position) -> bool {
        position.timeline == timeline
            || self.ancestors.iter().any(|(ancestor, left)| *ancestor == position.timeline && position.lsn <= *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(timeline: u32, lsn: u64) -> Position {
        Position { timeline: Timeline(timeline), lsn: Lsn(lsn) }
    }

    #[test]
    fn a_log_is_placed_in_a_history() {
        let text = "1\t0/100\tno recovery target specified\n\n2\t0/300\tno recovery target specified\n";
        let lineage = Lineage::parse(text).expect("as PostgreSQL writes it");
        assert!(lineage.contains(Timeline(5), at(5, 900)));
        assert!(lineage.contains(Timeline(5), at(2, 0x300)));
        assert!(!lineage.contains(Timeline(5), at(2, 0x301)), "past the switch");
        assert!(!lineage.contains(Timeline(5), at(3, 0x10)), "a timeline the history never had");
        assert_eq!(lineage.timeline_at(Timeline(5), Lsn(0x100)), Timeline(1));
        assert_eq!(lineage.timeline_at(Timeline(5), Lsn(0x101)), Timeline(2));
        assert_eq!(lineage.timeline_at(Timeline(5), Lsn(0x301)), Timeline(5));
    }

    #[test]
    fn placeholders_have_no_ancestors_and_nonsense_is_refused() {
        assert_eq!(Lineage::parse(PLACEHOLDER), Ok(Lineage::default()));
        assert!(Lineage::parse("x\t0/100\n").is_err());
    }
}
