//! What a run tells: a hash of everything that happened, the story in words, and what to count.

use std::fmt::Write as _;

use super::world::{Event, World};

/// Lines kept: the last seconds, which is where a failure is.
const LINES: usize = 1_500;

pub struct Story {
    tell: bool,
    /// Equal for equal runs.
    pub hash: u64,
    pub lines: std::collections::VecDeque<String>,
}

impl Story {
    pub fn new(tell: bool) -> Self {
        Self { tell, hash: 0xCBF2_9CE4_8422_2325, lines: std::collections::VecDeque::new() }
    }

    pub fn mix(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x0000_0100_0000_01B3);
    }

    pub fn note(&mut self, now: u64, event: &Event) {
        self.mix(now);
        let (kind, who) = match event {
            Event::Fault => (0, 0),
            Event::Wake { coordinator, .. } => (1, *coordinator),
            Event::Written { coordinator, .. } => (2, *coordinator),
            Event::Raft { from, to, message } => (3 + message.commit, from * 100 + to),
            Event::Broken { coordinator, peer } => (4, coordinator * 100 + peer),
            Event::ToCoordinator { stream, .. } => (5 + stream, 0),
            Event::ToAgent { stream, .. } => (6 + stream, 0),
            Event::Ping { stream } => (7 + stream, 0),
            Event::AgentTimer { member, .. } => (8, *member),
            Event::Seek { member, .. } => (9, *member),
            Event::Look { member, .. } => (10, *member),
            Event::ActionEnds { member, number, .. } => (11 + number, *member),
            Event::Postgres { member, run, .. } => (12 + run, *member),
            Event::Receive { member, .. } => (13, *member),
            Event::Flushed { primary, flushed, .. } => (14 + *flushed as u64, *primary),
            Event::Sql(_) => (15, 0),
            Event::RouterTimer { router } => (16, *router),
            Event::RouterReport { router, .. } => (18, *router),
            Event::Topology { router, topology } => (17 + topology.revision.0, *router),
        };
        self.mix(kind);
        self.mix(who as u64);
    }

    pub fn tell(&mut self, now: u64, what: impl FnOnce() -> String) {
        if !self.tell {
            return;
        }
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>6} {}", now, what()));
    }

    pub fn text(&self) -> String {
        self.lines.iter().fold(String::new(), |text, line| text + line + "\n")
    }
}

/// What happened, to show that a run was not empty.
#[derive(Debug, Default, Clone)]
pub struct Tally {
    pub events: u64,
    pub faults: u64,
    pub entries: u64,
    pub snapshots: u64,
    pub torn_writes: u64,
    pub leaders: u64,
    pub epochs: u64,
    pub failovers: u64,
    pub kept: u64,
    pub rewinds: u64,
    pub clones: u64,
    pub switchovers: u64,
    pub commits: u64,
    pub unknown: u64,
    pub refused: u64,
    pub held: u64,
    /// Commits that a candidate acknowledged before its reign was open.
    pub early: u64,
    pub slowest_recovery: u64,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        let Self { events, faults, entries, snapshots, torn_writes, leaders, epochs, failovers, kept, .. } = other;
        let Self { rewinds, clones, switchovers, commits, unknown, refused, held, early, slowest_recovery, .. } = other;
        let pairs = [
            (&mut self.events, events),
            (&mut self.faults, faults),
            (&mut self.entries, entries),
            (&mut self.snapshots, snapshots),
            (&mut self.torn_writes, torn_writes),
            (&mut self.leaders, leaders),
            (&mut self.epochs, epochs),
            (&mut self.failovers, failovers),
            (&mut self.kept, kept),
            (&mut self.rewinds, rewinds),
            (&mut self.clones, clones),
            (&mut self.switchovers, switchovers),
            (&mut self.commits, commits),
            (&mut self.unknown, unknown),
            (&mut self.refused, refused),
            (&mut self.held, held),
            (&mut self.early, early),
        ];
        for (mine, theirs) in pairs {
            *mine += theirs;
        }
        self.slowest_recovery = self.slowest_recovery.max(*slowest_recovery);
    }
}

/// Everything, for a failure.
pub fn state(world: &World) -> String {
    let mut text = String::new();
    let mut line = |words: String| writeln!(text, "{words}").expect("writing to a string cannot fail");
    for group in world.checker.newest().groups.values() {
        line(format!("{}: epoch {}, {:?}, because: {}", group.id, group.epoch, group.phase, group.reason));
        line(format!("    last reign {:?}", group.reign));
    }
    for (index, coordinator) in world.coordinators.iter().enumerate() {
        line(format!("coordinator {index}: {}", coordinator.describe(world.now)));
    }
    for member in &world.members {
        line(member.describe(world.now));
    }
    for router in &world.routers {
        line(router.describe());
    }
    text
}
