//! A coordinator as the replicated state knows it. The list given at start is only what a new cluster
//! begins with; from then on this is the one list: peers, agents, routers and people learn it from here.

use serde::{Deserialize, Serialize};

/// The directory of a coordinator that was made by a version which did not number directories: whoever
/// comes with an empty one is not its owner.
pub const UNNUMBERED: u64 = 0;

/// A coordinator that a new cluster begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founder {
    /// gRPC URL by which everybody reaches it.
    pub url: String,
    /// Number drawn when its directory was made.
    pub directory: u64,
}

/// What part a coordinator has in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoordinatorRole {
    /// Asked for, has a number, but takes no part yet.
    Expected,
    /// Receives the log; does not count in any majority.
    Learner,
    /// Counts.
    Voter,
}

/// One coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coordinator {
    /// gRPC URL by which everybody reaches it.
    pub url: String,
    /// Its part.
    pub role: CoordinatorRole,
    /// Number drawn when its directory was made. A number among the coordinators belongs to one directory
    /// for ever: whoever comes with another one has lost what it promised, and must not vote.
    /// `None`: nobody has come yet.
    pub directory: Option<u64>,
}
