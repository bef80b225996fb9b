//! What an agent can do. Each may be repeated without harm. Chosen by `decide`, carried out by the
//! runner over `postgres/`.

use std::{collections::BTreeSet, fmt};

use crate::model::{
    group::Cohort,
    ids::MemberId,
    numbers::{Epoch, Timeline},
};

use super::states::State;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Write the promise to serve no lower epoch, durably.
    Promise(Epoch),
    /// initdb.
    MakeDataDirectory,
    /// Start in recovery, following nobody.
    StartFenced,
    /// Start a cloned or rewound directory, following the primary it came from.
    StartFollowing(MemberId),
    /// Clear the mark of an unfinished clone or rewind, drop what was kept aside.
    Finish,
    /// End the WAL receiver for this epoch, and wait until nothing can start another.
    Cut(Epoch),
    /// Leave recovery on exactly this timeline, with this cohort set beforehand.
    Promote {
        /// The timeline.
        timeline: Timeline,
        /// The cohort.
        cohort: Cohort,
    },
    /// Make sure every process uses this cohort.
    ApplyCohort(Cohort),
    /// Write the epoch's row and wait for its acknowledgements.
    WriteEpoch(Epoch),
    /// Roles, database, schema: make sure of them.
    EnsureObjects(Epoch),
    /// Exactly these physical replication slots.
    SetSlots(BTreeSet<String>),
    /// Ask the primary for its history and whether it has the WAL we need.
    Examine {
        /// Whom to ask.
        primary: MemberId,
        /// Its timeline.
        timeline: Timeline,
    },
    /// Follow this primary from where we are.
    Repoint(MemberId),
    /// Stop, and take back what this primary does not have.
    Rewind(MemberId),
    /// Fetch everything from this primary.
    Clone(MemberId),
    /// Put the data of a group that has let go of us aside, and belong to none.
    SetAside,
    /// Shut down cleanly.
    StopFast,
    /// Shut down without writing anything more.
    StopImmediate,
    /// Give up the action that runs.
    Abort,
}

impl Action {
    /// Waits for standbys: runs beside the others, because they may be what it waits for.
    pub fn awaits_standbys(&self) -> bool {
        matches!(self, Self::WriteEpoch(_) | Self::EnsureObjects(_))
    }

    /// Can be given up for another without leaving anything that `Unfinished` does not record.
    pub fn interruptible(&self) -> bool {
        matches!(self, Self::Examine { .. } | Self::Clone(_))
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promise(epoch) => write!(f, "promising epoch {epoch}"),
            Self::MakeDataDirectory => f.write_str("making the data directory"),
            Self::StartFenced => f.write_str("starting PostgreSQL, fenced"),
            Self::StartFollowing(primary) => write!(f, "starting PostgreSQL, following {primary}"),
            Self::Finish => f.write_str("tidying up after a clone or rewind"),
            Self::Cut(epoch) => write!(f, "cutting the WAL receiver for epoch {epoch}"),
            Self::Promote { timeline, .. } => write!(f, "promoting on timeline {timeline}"),
            Self::ApplyCohort(cohort) => {
                write!(f, "applying the cohort of revision {} ({} acks)", cohort.ordered_at, cohort.acks)
            }
            Self::WriteEpoch(epoch) => write!(f, "waiting for the acknowledgement of epoch {epoch}"),
            Self::EnsureObjects(_) => f.write_str("making sure of roles, database and schema"),
            Self::SetSlots(slots) => write!(f, "setting {} replication slots", slots.len()),
            Self::Examine { primary, timeline } => write!(f, "asking {primary} for the history of timeline {timeline}"),
            Self::Repoint(primary) => write!(f, "pointing at {primary}"),
            Self::Rewind(primary) => write!(f, "rewinding to {primary}"),
            Self::Clone(primary) => write!(f, "cloning from {primary}"),
            Self::SetAside => f.write_str("setting the data of a former group aside"),
            Self::StopFast => f.write_str("stopping PostgreSQL"),
            Self::StopImmediate => f.write_str("stopping PostgreSQL at once"),
            Self::Abort => f.write_str("giving up what is under way"),
        }
    }
}

/// What to do, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The step; `None`: nothing to do, or nothing can be done yet.
    pub action: Option<Action>,
    /// Where the container stands.
    pub state: State,
    /// Nothing is wrong and nothing is under way.
    pub healthy: bool,
    /// What is wrong or under way, in one sentence; empty if nothing.
    pub note: String,
}
