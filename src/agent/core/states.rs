//! The states an agent can be in, derived from what it observes and never stored. Called by `decide`;
//! their names are what `howdah status` shows.

use std::fmt;

use super::inputs::{Data, Inputs, Postgres, Unfinished};

/// Where the container stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// No data directory.
    Empty,
    /// A clone or rewind was begun and has not left a usable data directory.
    Unfinished,
    /// Cloned or rewound, but `PostgreSQL` has not yet reached consistency from it.
    Settling,
    /// A usable data directory, no postmaster.
    Stopped,
    /// A postmaster that does not answer queries yet.
    Starting,
    /// A postmaster that answered before and does not within the deadline.
    Hung,
    /// In recovery, following nobody.
    Fenced,
    /// In recovery, pointed at a primary.
    Standby,
    /// Not in recovery.
    Primary,
}

impl State {
    /// All of them, for tests of the table.
    pub const ALL: [Self; 9] = [
        Self::Empty,
        Self::Unfinished,
        Self::Settling,
        Self::Stopped,
        Self::Starting,
        Self::Hung,
        Self::Fenced,
        Self::Standby,
        Self::Primary,
    ];

    /// The state that `inputs` show.
    pub fn of(inputs: &Inputs) -> Self {
        match (&inputs.data, &inputs.postgres) {
            (Data::Empty, _) => Self::Empty,
            (Data::Unfinished(Unfinished::Cloning | Unfinished::Rewinding), _) => Self::Unfinished,
            (Data::Unfinished(Unfinished::Settling), Postgres::Down { .. }) => Self::Settling,
            (Data::Ready { .. }, Postgres::Down { .. }) => Self::Stopped,
            (_, Postgres::Starting) => Self::Starting,
            (_, Postgres::Hung) => Self::Hung,
            (_, Postgres::Standby(standby)) if standby.upstream.is_none() => Self::Fenced,
            (_, Postgres::Standby(_)) => Self::Standby,
            (_, Postgres::Primary(_)) => Self::Primary,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty",
            Self::Unfinished => "unfinished",
            Self::Settling => "settling",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Hung => "hung",
            Self::Fenced => "fenced",
            Self::Standby => "standby",
            Self::Primary => "primary",
        })
    }
}
