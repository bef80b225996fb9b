//! The simulated cluster: time, network, members, clients. One turn is 5 ms.

use std::collections::{BTreeMap, BTreeSet};

use howdah::{
    coordinator::core::{command::Proposal, topology::topology},
    model::{
        goal::Goal,
        group::{Container, Group, GroupKind, Phase},
        ids::{GroupId, MemberId},
        observed::Report,
        policy::{Durability, Policy},
        topology::Access,
    },
};

use super::{
    agent::Agent,
    checker::Checker,
    coordinator::{Coordinator, Raft},
    postgres::{Postgres, Running},
    random::Random,
    story,
};

pub const TURN: u64 = 5;
/// Faults happen until here; everything is mended then.
const FAULTS_END: u64 = 6_000;
/// From there on the group serves again within this: detection, several epochs, clones.
const RECOVERY_LIMIT: u64 = 20_000;

/// What is under way between machines.
pub enum Message {
    Register { coordinator: usize, connection: u64, member: usize },
    Report { coordinator: usize, connection: u64, report: Report },
    Gone { coordinator: usize, connection: u64, member: usize },
    Goal { member: usize, connection: u64, goal: Option<Goal> },
    Refused { member: usize, connection: u64 },
    Ack { primary: usize, run: u64, standby: MemberId, lsn: u64 },
    Commit { coordinator: usize, term: u64, proposals: Vec<Proposal> },
}

pub struct Member {
    pub id: MemberId,
    pub agent: Agent,
    pub postgres: Postgres,
    pub frozen_until: u64,
}

pub struct Cluster {
    pub now: u64,
    pub random: Random,
    pub members: Vec<Member>,
    pub coordinators: Vec<Coordinator>,
    pub raft: Raft,
    pub policy: Policy,
    pub checker: Checker,
    pub next_id: u64,
    /// Member and coordinator, member and member, that do not reach each other until then.
    pub cut_control: BTreeMap<(usize, usize), u64>,
    pub cut_data: BTreeMap<(usize, usize), u64>,
    pub tell: bool,
    queue: BTreeMap<(u64, u64), Message>,
    /// Members and runs of their `PostgreSQL` that clients have sessions with.
    sessions: BTreeSet<(usize, u64)>,
    last_ack: u64,
}

/// Runs one seed.
pub fn run(seed: u64, tell: bool) {
    let mut random = Random(seed);
    let count = random.index(3) + 2;
    let policy = Policy {
        shards: 1,
        replicas: u32::try_from(count).expect("few") - 1,
        query_members: 0,
        acks: if random.chance(25) { 2 } else { 1 },
        durability: if random.chance(25) { Durability::Strict } else { Durability::Available },
        ..Policy::default()
    };
    let mut cluster = Cluster::new(random, count, policy, tell);
    while cluster.now < FAULTS_END {
        cluster.break_something();
        cluster.turn();
    }
    cluster.mend();
    let mended = cluster.now;
    while !cluster.is_well(mended) {
        assert!(cluster.now < mended + RECOVERY_LIMIT, "does not recover: {}", story::state(&cluster));
        cluster.turn();
    }
}

impl Cluster {
    fn new(random: Random, count: usize, policy: Policy, tell: bool) -> Self {
        let member = |index: usize| Member {
            id: format!("m{index}").parse().expect("a name"),
            agent: Agent::new(index),
            postgres: Postgres::empty(),
            frozen_until: 0,
        };
        let mut cluster = Self {
            now: 1_000,
            random,
            members: (0..count).map(member).collect(),
            coordinators: (0..3).map(|_| Coordinator::default()).collect(),
            raft: Raft::default(),
            policy,
            checker: Checker::default(),
            next_id: 0,
            cut_control: BTreeMap::new(),
            cut_data: BTreeMap::new(),
            tell,
            queue: BTreeMap::new(),
            sessions: BTreeSet::new(),
            last_ack: 0,
        };
        cluster.initialise();
        cluster
    }

    pub fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub fn send(&mut self, delay: u64, message: Message) {
        let id = self.id();
        self.queue.insert((self.now + delay, id), message);
    }

    pub fn container(&self, member: usize) -> Container {
        Container {
            id: self.members[member].id.clone(),
            host: "127.0.0.1".to_owned(),
            port: 7500,
            kind: GroupKind::Shard,
            zone: String::new(),
            wish: None,
        }
    }

    pub fn index(&self, id: &MemberId) -> usize {
        self.members.iter().position(|member| member.id == *id).expect("a member")
    }

    pub fn frozen(&self, member: usize) -> bool {
        self.members[member].frozen_until > self.now
    }

    /// Members reach each other's `PostgreSQL`.
    pub fn data_link(&self, a: usize, b: usize) -> bool {
        let cut = self.cut_data.get(&(a.min(b), a.max(b))).is_some_and(|until| *until > self.now);
        !cut && !self.frozen(a) && !self.frozen(b)
    }

    pub fn control_link(&self, member: usize, coordinator: usize) -> bool {
        self.cut_control.get(&(member, coordinator)).is_none_or(|until| *until <= self.now)
    }

    fn turn(&mut self) {
        self.now += TURN;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let message = entry.remove();
            self.deliver(message);
        }
        for member in 0..self.members.len() {
            if !self.frozen(member) {
                self.run_postgres(member);
                self.run_agent(member);
            }
        }
        self.clients();
        self.run_coordinators();
    }

    fn deliver(&mut self, message: Message) {
        match message {
            Message::Goal { member, .. } | Message::Refused { member, .. } if self.frozen(member) => {
                // It is read after the thaw.
                let wait = self.members[member].frozen_until - self.now;
                self.send(wait, message);
            }
            Message::Goal { member, connection, goal } => self.members[member].agent.receive(connection, goal),
            Message::Refused { member, connection } => self.members[member].agent.lose(connection, self.now),
            Message::Ack { primary, run, standby, lsn } => {
                let (now, frozen) = (self.now, self.frozen(primary));
                let postgres = &mut self.members[primary].postgres;
                if let Some(primary) = postgres.primary().filter(|primary| primary.run == run && !frozen) {
                    let flushed = primary.flushed.entry(standby).or_default();
                    *flushed = (lsn.max(flushed.0), now);
                }
            }
            message => self.deliver_to_coordinator(message),
        }
    }

    /// Time, streaming, acknowledgements of one member's `PostgreSQL`.
    fn run_postgres(&mut self, index: usize) {
        let now = self.now;
        let mut next_id = self.next_id;
        if self.members[index].postgres.tick(now, &mut next_id) {
            self.checker.promoted(index, self.members[index].postgres.timeline());
        }
        self.next_id = next_id;
        self.stream(index);
        self.acknowledge(index);
    }

    fn stream(&mut self, index: usize) {
        let Running::Standby { upstream: Some(id), streaming } = self.members[index].postgres.running.clone() else {
            return;
        };
        let from = self.index(&id);
        if !self.data_link(index, from) {
            return;
        }
        let own = &self.members[index].postgres;
        let source = &self.members[from].postgres;
        let Running::Primary(primary) = &source.running else { return self.set_streaming(index, false) };
        let run = primary.run;
        if !own.may_stream_from(source) {
            return self.set_streaming(index, false);
        }
        Checker::streams(index, own, source);
        let most = self.random.index(30);
        let have = self.members[index].postgres.wal.len();
        let records: Vec<_> = self.members[from].postgres.wal.iter().skip(have).take(most).copied().collect();
        let news = !records.is_empty() || !streaming || self.random.chance(5);
        self.members[index].postgres.wal.extend(records);
        self.set_streaming(index, true);
        if news {
            let delay = self.random.delay();
            let (standby, lsn) = (self.members[index].id.clone(), self.members[index].postgres.wal.len() as u64);
            self.send(delay, Message::Ack { primary: from, run, standby, lsn });
        }
    }

    fn set_streaming(&mut self, index: usize, now: bool) {
        if let Running::Standby { streaming, .. } = &mut self.members[index].postgres.running {
            *streaming = now;
        }
    }

    fn acknowledge(&mut self, index: usize) {
        for commit in self.members[index].postgres.acknowledged() {
            if let Some(epoch) = commit.row {
                self.members[index].agent.acknowledged_epoch = epoch;
                continue;
            }
            let reign = self.group().and_then(|group| group.reign.as_ref());
            let reigning = reign.map(|reign| self.index(&reign.primary));
            let reigning = reigning.map(|other| (other, &self.members[other].postgres));
            self.checker.committed(commit.id, index, &self.members[index].postgres, reigning);
            self.last_ack = self.now;
        }
    }

    /// Clients connect where any coordinator's topology sends them, and go on using the sessions they
    /// have, also with a primary that is none any more.
    fn clients(&mut self) {
        for coordinator in 0..self.coordinators.len() {
            let Some(topology) = topology(&self.coordinators[coordinator].state) else { continue };
            let Some(Access::Open { primary }) = topology.groups.values().next().map(|view| view.access.clone()) else {
                continue;
            };
            let index = self.index(&primary.member);
            if let Running::Primary(primary) = &self.members[index].postgres.running {
                self.sessions.insert((index, primary.run));
            }
        }
        for (index, run) in self.sessions.clone() {
            if self.frozen(index) || !self.random.chance(40) {
                continue;
            }
            let id = self.id();
            let postgres = &mut self.members[index].postgres;
            let alive = postgres.primary().is_some_and(|primary| primary.run == run);
            if !alive || postgres.write(id, None).is_none() {
                self.sessions.remove(&(index, run));
            }
        }
    }

    /// The group, by the newest committed state.
    pub fn group(&self) -> Option<&Group> {
        self.raft.newest.groups.get(&group_id())
    }

    fn is_well(&self, since: u64) -> bool {
        let Some(group) = self.group() else { return false };
        let others = u32::try_from(group.members.len()).expect("few") - 1;
        let acks = self.policy.acks.min(others);
        let full = group.reign.as_ref().is_some_and(|reign| {
            reign.recorded.same(&reign.ordered)
                && reign.recorded.acks == acks
                && reign.recorded.standbys.len() == others as usize
        });
        group.phase == Phase::Serving && full && self.last_ack > since + 1_000
    }
}

pub fn group_id() -> GroupId {
    "shard-1".parse().expect("a name")
}
