//! One state of the model: small, hashable, and the same for what is the same.

use std::collections::{BTreeMap, BTreeSet};

use howdah::{
    agent::core::action::Action,
    coordinator::core::{command::Proposal, state::State},
    model::{
        goal::Goal,
        group::{Cohort, Group},
        ids::{GroupId, MemberId},
        observed::Report,
    },
};

use super::{checker::Ledger, hashed::Hashed};

/// A member's place in [`World::members`].
pub type Who = usize;

pub const NAMES: [&str; 3] = ["a", "b", "c"];

pub fn id(who: Who) -> MemberId {
    NAMES[who].parse().expect("a name")
}

pub fn who(id: &MemberId) -> Who {
    NAMES.iter().position(|name| *name == id.as_str()).expect("a member of the model")
}

pub fn group_id() -> GroupId {
    "shard-1".parse().expect("a name")
}

/// One record of write-ahead log. Two logs are the same history as far as their records are equal: a
/// timeline has one writer, unless the rule that says so is broken, and then the writer tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Record {
    pub timeline: u32,
    pub writer: Who,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// The timeline begins.
    Begun,
    /// The row of an epoch.
    Row(u64),
    /// A client's.
    Write,
}

/// What is on disk, but for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Data {
    Empty,
    Ready,
    Cloning,
    Rewinding,
    Settling,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Postgres {
    Down { crashed: bool },
    Standby { upstream: Option<Who>, streaming: bool },
    Primary(Office),
}

/// What a primary's processes remember.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Office {
    /// The cohort its processes use; two while they are told of another, one after the other.
    pub effective: Vec<Hashed<Cohort>>,
    pub senders: BTreeMap<Who, Sender>,
    /// Clients are connected: they stay so for as long as this runs.
    pub sessions: bool,
    /// Ends of the client's and the agent's commits that wait for acknowledgements.
    pub waiting: Option<usize>,
    pub row: Option<(usize, u64)>,
}

/// A standby's acknowledgements, as its primary has them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Sender {
    pub flushed: usize,
    /// Flushed as well, but the word is still on its way.
    pub under_way: usize,
    pub connected: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// Durable.
    pub promise: u64,
    pub remembered: u64,
    pub data: Data,
    pub wal: Vec<Record>,
    /// Lost with the agent.
    pub goal: Option<Hashed<Goal>>,
    pub newest: u64,
    pub acknowledged: u64,
    pub applied: Option<Hashed<Cohort>>,
    pub cut: Option<u64>,
    pub under_way: Option<Hashed<Action>>,
    pub awaiting: Option<u64>,
    /// Lost with the postmaster.
    pub postgres: Postgres,
    /// Its line to the leader.
    pub line: Line,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Line {
    /// What changes is reported at once.
    Prompt,
    /// Nothing new arrives for now; but perhaps what was sent before.
    Slow { sent: Option<Hashed<Report>> },
}

/// What the leader remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct View {
    pub said: Vec<Option<Hashed<Report>>>,
    /// The newest cohort that the primary said it has applied, and where its log ended in a later report.
    pub applied: Option<(u64, Option<u64>)>,
}

/// What may still go wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Client writes.
    pub writes: u8,
    /// `PostgreSQL`, agent or container crashes and starts again.
    pub crashes: u8,
    /// A WAL receiver loses its connection, without any reason in the model.
    pub breaks: u8,
    /// Messages that take long: reports, while the leader goes by older ones, and acknowledgements.
    pub delays: u8,
    /// Another coordinator leads.
    pub leaders: u8,
    /// A person asks for a switchover.
    pub switchovers: u8,
    /// A primary is cut off for longer than `isolation_timeout`, and fences itself.
    pub isolations: u8,
    /// A container comes back without its disk, which held its promise.
    pub wipes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// States that were decided and whose goals may still be under way; the last is the newest.
    pub log: Vec<Hashed<State>>,
    pub view: View,
    /// What a deposed leader had proposed and nobody has seen applied.
    pub straggler: Option<Hashed<Proposal>>,
    pub members: Vec<Member>,
    /// Primaries, with their timelines, that routers were ever told of: a router may be far behind.
    pub announced: BTreeSet<(Who, u32)>,
    pub ledger: Ledger,
    pub budget: Budget,
}

impl World {
    pub fn state(&self) -> &Hashed<State> {
        self.log.last().expect("there is always a newest state")
    }

    pub fn group(&self) -> &Group {
        &self.state().groups[&group_id()]
    }
}

impl Member {
    pub fn timeline(&self) -> u32 {
        self.wal.last().map_or(0, |record| record.timeline)
    }

    pub fn office(&mut self) -> Option<&mut Office> {
        if let Postgres::Primary(office) = &mut self.postgres { Some(office) } else { None }
    }

    /// Where its log leaves a timeline.
    pub fn end_of(&self, timeline: u32) -> Option<usize> {
        self.wal.iter().rposition(|record| record.timeline == timeline).map(|last| last + 1)
    }
}
