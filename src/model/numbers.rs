//! Numbers that must not be mixed up: epochs, log positions, timelines, versions, times.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl $name {
            /// The next one. Panics where the number would wrap: a broken invariant, not an input.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("64 or 32 bits outlast the cluster"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Number of a group's reign: one primary at most per epoch; only ever grows. 0: none yet.
    Epoch(u64)
}
number! {
    /// A `PostgreSQL` timeline (manual, "Timelines"). 0: none.
    Timeline(u32)
}
number! {
    /// Raft log index of the state something was derived from; newer is larger.
    Revision(u64)
}
number! {
    /// Milliseconds on a monotonic clock whose origin the process chose; also spans of time.
    Millis(u64)
}

impl Millis {
    /// Time from `earlier` to `self`; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }

    /// This span as the standard library's.
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }

    /// `self` later by `span`, saturating.
    #[must_use]
    pub fn plus(self, span: Self) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A byte position in the write-ahead log (manual, `pg_lsn`); shown as `16/B374D848`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xFFFF_FFFF)
    }
}

/// A text that is not `X/X` in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a log position such as 0/3000060")]
pub struct InvalidLsn(pub String);

impl FromStr for Lsn {
    type Err = InvalidLsn;

    fn from_str(text: &str) -> Result<Self, InvalidLsn> {
        let invalid = || InvalidLsn(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(invalid)?;
        let part = |digits| u32::from_str_radix(digits, 16).map_err(|_| invalid());
        Ok(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }
}

/// How far a member's log reaches, after replay has stopped moving. Ordered: a later timeline wins
/// over any position on an earlier one, because timelines are numbered by the coordinator and a
/// member reaches a timeline only with everything acknowledged before it (`core::candidate`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The timeline of the newest WAL.
    pub timeline: Timeline,
    /// The end of the newest WAL on it.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.timeline, self.lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lsn_reads_what_it_writes() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().map(|lsn| lsn.to_string()), Ok(text.to_owned()));
        }
        assert!("16B374D848".parse::<Lsn>().is_err());
    }

    #[test]
    fn a_later_timeline_wins() {
        let old = Position { timeline: Timeline(2), lsn: Lsn(900) };
        let new = Position { timeline: Timeline(3), lsn: Lsn(100) };
        assert!(new > old);
    }
}
