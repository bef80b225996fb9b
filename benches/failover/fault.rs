//! What is done to the cluster, and what the design allows it to cost. Called by `main` and `round`.

use std::fmt;

use clap::ValueEnum;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// kill -9 of the primary's postmaster.
    Postmaster,
    /// The primary's container ends at once: agent and PostgreSQL.
    Container,
    /// The primary's machine stands still, until another has taken over.
    Frozen,
    /// The primary's machine is cut off from everything, until another has taken over.
    Cut,
    /// kill -9 of the leader of the coordinators.
    Leader,
    /// The leader and the primary's container end together.
    LeaderAndPrimary,
    /// A planned switchover.
    Switchover,
}

/// Milliseconds without an acknowledgement.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of all rounds.
    pub median: u64,
    /// Of the worst round.
    pub worst: u64,
}

/// What an insert every 10 ms takes in the worst of times where nothing happens: that is what "no effect"
/// must look like.
const NO_EFFECT: Limits = Limits { median: 30, worst: 100 };

impl Fault {
    /// The targets in `failover.md`.
    pub fn limits(self) -> Limits {
        match self {
            Self::Postmaster | Self::Switchover => Limits { median: 200, worst: 500 },
            Self::Container => Limits { median: 300, worst: 700 },
            Self::Frozen | Self::Cut => Limits { median: 900, worst: 1_500 },
            Self::Leader => NO_EFFECT,
            Self::LeaderAndPrimary => Limits { median: 1_500, worst: 2_500 },
        }
    }

    /// Whether it strikes a group.
    fn strikes_a_group(self) -> bool {
        self != Self::Leader
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Postmaster => "postmaster killed",
            Self::Container => "container killed",
            Self::Frozen => "machine frozen",
            Self::Cut => "machine cut off",
            Self::Leader => "coordinator leader killed",
            Self::LeaderAndPrimary => "leader and primary killed",
            Self::Switchover => "planned switchover",
        }
    }
}

/// A fault and the group that it strikes.
#[derive(Debug, Clone)]
pub struct Trial {
    /// What is done.
    pub fault: Fault,
    /// To the primary of which group; `None`: to no group.
    pub group: Option<String>,
}

impl Trial {
    /// Every fault that is wanted (all, where none is named) on every group.
    pub fn all(wanted: &[Fault], groups: &[String]) -> Vec<Self> {
        let faults = Fault::value_variants().iter().filter(|fault| wanted.is_empty() || wanted.contains(fault));
        let mut trials = Vec::new();
        for fault in faults {
            if fault.strikes_a_group() {
                trials.extend(groups.iter().map(|group| Self { fault: *fault, group: Some(group.clone()) }));
            } else {
                trials.push(Self { fault: *fault, group: None });
            }
        }
        trials
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.fault.words())?;
        self.group.as_ref().map_or(Ok(()), |group| write!(f, ", {group}"))
    }
}
