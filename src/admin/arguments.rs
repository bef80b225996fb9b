//! Arguments of the admin commands. Called by `cli` (parsing) and `commands` (running).

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::client::Client;
use crate::{
    config::{ServiceUrl, urls},
    model::ids::{GroupId, MemberId, OperationId},
};

/// How long a call may take, all coordinators tried in turn: an election of theirs takes less.
const CALL_DEADLINE: Duration = Duration::from_secs(5);

/// Whom to ask.
#[derive(Debug, Clone, Args)]
pub struct Connection {
    /// Coordinators to ask; any of them answers
    #[arg(
        long = "coordinator",
        env = "HOWDAH_COORDINATORS",
        value_delimiter = ',',
        value_name = "URL,…",
        default_value = "http://127.0.0.1:7400,http://127.0.0.1:7401,http://127.0.0.1:7402"
    )]
    coordinators: Vec<ServiceUrl>,
}

impl Connection {
    /// A client that tries them all.
    pub fn client(&self) -> Client {
        Client::new(urls(&self.coordinators), CALL_DEADLINE)
    }
}

/// How to show what was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For programs; the fields are stable (`proto/status.schema.json`)
    Json,
    /// The same as YAML
    Yaml,
}

/// A command that reads.
#[derive(Debug, Clone, Args)]
pub struct Reading {
    /// Whom to ask.
    #[command(flatten)]
    pub connection: Connection,
    /// How to show it
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// A command that changes something and can wait until that is done.
#[derive(Debug, Clone, Args)]
pub struct Changing {
    /// Whom to ask, how to show it.
    #[command(flatten)]
    pub reading: Reading,
    /// Return as soon as the operation is recorded
    #[arg(long)]
    pub no_wait: bool,
    /// Repeating a command with the same key gives the same operation [default: a new one]
    #[arg(long, value_name = "TEXT", value_parser = idempotency_key)]
    pub idempotency_key: Option<String>,
}

fn idempotency_key(text: &str) -> Result<String, String> {
    if (1..=100).contains(&text.chars().count()) { Ok(text.to_owned()) } else { Err("use 1 to 100 characters".into()) }
}

/// The admin commands.
#[derive(Debug, Clone, Subcommand)]
pub enum AdminCommand {
    /// Who is who, epochs, lag, health, operations, warnings
    Status {
        /// Whom to ask, how to show it.
        #[command(flatten)]
        reading: Reading,
        /// Show it again every second, until interrupted
        #[arg(long, short)]
        watch: bool,
    },
    /// What happened, oldest first
    Events {
        /// Whom to ask, how to show it.
        #[command(flatten)]
        reading: Reading,
        /// Only events after this revision
        #[arg(long, default_value_t = 0, value_name = "REVISION")]
        after: u64,
    },
    /// Shards
    #[command(subcommand)]
    Shard(ShardCommand),
    /// Groups: the query group and the shards
    #[command(subcommand)]
    Group(GroupCommand),
    /// Members of groups, and containers without one
    #[command(subcommand)]
    Member(MemberCommand),
    /// Distributed and reference tables
    #[command(subcommand)]
    Table(TableCommand),
    /// Long pieces of work
    #[command(subcommand)]
    Operation(OperationCommand),
    /// Coordinators: add, remove and replace them while they run
    #[command(subcommand)]
    CoordinatorMember(CoordinatorCommand),
    /// Change a group's primary as planned: no client sees an error
    Switchover {
        /// The group
        group: GroupId,
        /// Member to become primary [default: the best standby]
        #[arg(long, value_name = "MEMBER")]
        to: Option<MemberId>,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// Change a group's primary without waiting for the old one
    Failover {
        /// The group
        group: GroupId,
        /// Go on although acknowledged commits may be lost
        #[arg(long)]
        accept_data_loss: bool,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// Maintenance: change no primary and no members but as people ask; a lost primary is not replaced
    Pause {
        /// The group [default: every group there is]
        group: Option<GroupId>,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// End maintenance
    Resume {
        /// The group [default: every group there is]
        group: Option<GroupId>,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
}

/// `howdah shard`.
#[derive(Debug, Clone, Subcommand)]
pub enum ShardCommand {
    /// Add a shard, out of containers that have no group yet
    Add {
        /// Standbys of the new shard [default: the cluster's policy]
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=9))]
        replicas: Option<u32>,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// List shards and their members
    List(Reading),
}

/// `howdah coordinator-member`.
#[derive(Debug, Clone, Subcommand)]
pub enum CoordinatorCommand {
    /// Add a coordinator, and wait until it votes: start it with `howdah coordinator --join … --url URL`
    Add {
        /// Its address, as everybody will reach it: http://host:port
        url: ServiceUrl,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// Remove a coordinator: its process ends
    Remove {
        /// Its number
        id: u64,
        /// Also while others are down, as long as a majority of the rest answers
        #[arg(long)]
        force: bool,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// Replace a coordinator, for example one that lost its disk, by one with an empty directory and a new number
    Replace {
        /// Its number
        id: u64,
        /// Address of the new one [default: the same]
        url: Option<ServiceUrl>,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
    /// List coordinators
    List(Reading),
}

/// `howdah group`.
#[derive(Debug, Clone, Subcommand)]
pub enum GroupCommand {
    /// List groups
    List(Reading),
    /// Set the number of a group's standbys: grows from containers without a group, shrinks by the least useful
    Set {
        /// The group
        group: GroupId,
        /// Standbys
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=9))]
        replicas: u32,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
}

/// `howdah member`.
#[derive(Debug, Clone, Subcommand)]
pub enum MemberCommand {
    /// List members of groups, and containers without one
    List(Reading),
    /// Let go of a standby that will not come back, or is to be used elsewhere; its place is taken by a
    /// container without a group
    Remove {
        /// The member
        member: MemberId,
        /// Whom to ask, and whether to wait.
        #[command(flatten)]
        changing: Changing,
    },
}

/// `howdah table`.
#[derive(Debug, Clone, Subcommand)]
pub enum TableCommand {
    /// List distributed and reference tables
    List(Reading),
}

/// `howdah operation`.
#[derive(Debug, Clone, Subcommand)]
pub enum OperationCommand {
    /// List operations in progress, and the last that ended
    List(Reading),
    /// Follow an operation until it is done or failed
    Watch {
        /// The operation, as `operation list` names it
        id: OperationId,
        /// Whom to ask, how to show it.
        #[command(flatten)]
        reading: Reading,
    },
}
