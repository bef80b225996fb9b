//! The simulated world: time, everyone in it, and the queue of what happens next. Nothing in it knows any
//! time but `now`, or any chance but `random`: the same seed is the same run.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt,
};

use howdah::model::{
    group::{Container, GroupKind},
    ids::{GroupId, MemberId},
    policy::{Durability, Policy},
};

use super::{
    agent::Seen,
    checker::Checker,
    control::{Says, Stream, Word},
    coordinator::Coordinator,
    member::Member,
    network::{Network, Node},
    postgres::Happening,
    random::Random,
    router::{Router, Sql},
    story::{Story, Tally},
};

/// What happens at a moment. Whoever it happens to by the number of a life or a run ignores it after that
/// life or run has ended.
#[derive(Debug)]
pub enum Event {
    Fault,
    /// A coordinator's loop has something to do.
    Wake {
        coordinator: usize,
        life: u64,
    },
    /// What it wrote is durable.
    Written {
        coordinator: usize,
        life: u64,
    },
    /// A Raft message arrives.
    Raft {
        from: usize,
        to: usize,
        message: Box<raft::eraftpb::Message>,
    },
    /// A connection between coordinators broke.
    Broken {
        coordinator: usize,
        peer: usize,
    },
    /// An agent's word arrives at its coordinator.
    ToCoordinator {
        stream: u64,
        word: Word,
    },
    /// A coordinator's word arrives at an agent.
    ToAgent {
        stream: u64,
        says: Says,
    },
    /// Pings of a stream, both ways.
    Ping {
        stream: u64,
    },
    /// An agent's loop has something to do by itself.
    AgentTimer {
        member: usize,
        life: u64,
        number: u64,
    },
    /// An agent looks for the leader again.
    Seek {
        member: usize,
        life: u64,
    },
    /// What an agent saw when it looked.
    Look {
        member: usize,
        life: u64,
        seen: Box<Seen>,
    },
    /// An action of an agent has come to its end.
    ActionEnds {
        member: usize,
        life: u64,
        number: u64,
    },
    /// Something of `PostgreSQL`'s own.
    Postgres {
        member: usize,
        run: u64,
        what: Happening,
    },
    /// A standby's receiver has something to do.
    Receive {
        member: usize,
        run: u64,
    },
    /// A standby's word to its primary.
    Flushed {
        primary: usize,
        run: u64,
        standby: usize,
        flushed: usize,
    },
    /// Statements and answers.
    Sql(Sql),
    RouterTimer {
        router: usize,
    },
    RouterReport {
        coordinator: usize,
        report: Box<howdah::model::observed::RouterReport>,
        router: usize,
    },
    Topology {
        router: usize,
        topology: std::sync::Arc<howdah::model::topology::Topology>,
    },
}

struct Queued {
    at: Reverse<(u64, u64)>,
    event: Event,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

/// What is broken on purpose, to prove that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sabotage {
    /// A coordinator's disk loses what it had synced.
    DiskForgets,
    /// A coordinator sends what it has not made durable.
    SendsBeforePersist,
    /// An agent's promise is lost when it is restarted, and it obeys older goals.
    PromiseForgotten,
    /// A standby acknowledges what it has not flushed.
    AcknowledgesBeforeFlush,
    /// A primary uses a smaller cohort than it was told to.
    CommitsAlone,
}

pub struct World {
    pub now: u64,
    pub random: Random,
    pub policy: Policy,
    pub network: Network,
    pub coordinators: Vec<Coordinator>,
    pub members: Vec<Member>,
    pub routers: Vec<Router>,
    pub streams: BTreeMap<u64, Stream>,
    pub checker: Checker,
    pub story: Story,
    pub tally: Tally,
    pub sabotage: Option<Sabotage>,
    /// No fault happens from here on.
    pub faults_end: u64,
    /// Streams repeat and reorder what they carry.
    pub wild: bool,
    queue: BinaryHeap<Queued>,
    last_id: u64,
}

impl World {
    pub fn new(seed: u64, tell: bool, sabotage: Option<Sabotage>) -> Self {
        let mut random = Random(seed);
        let policy = policy(&mut random);
        let zones = 1 + random.index(3);
        let machine =
            |random: &mut Random| super::machine::Machine::new(random.index(zones), random.between(0, 100_000));
        let coordinators = (0..3).map(|_| Coordinator::new(machine(&mut random), &mut random)).collect();
        let mut members = Vec::new();
        let queries = policy.query_members as usize;
        let spare = random.index(2) * (1 + policy.replicas as usize);
        let shards = policy.shards as usize * (1 + policy.replicas as usize) + spare;
        for index in 0..queries + shards {
            let kind = if index < queries { GroupKind::Query } else { GroupKind::Shard };
            members.push(Member::new(index, kind, machine(&mut random)));
        }
        let routers = (0..2).map(|_| Router::new(machine(&mut random))).collect();
        let (faults_end, wild) = (random.between(5_000, 9_000), random.chance(50));
        let mut world = Self {
            now: 1_000,
            random,
            policy,
            network: Network::default(),
            coordinators,
            members,
            routers,
            streams: BTreeMap::new(),
            checker: Checker::default(),
            story: Story::new(tell),
            tally: Tally::default(),
            sabotage,
            faults_end,
            wild,
            queue: BinaryHeap::new(),
            last_id: 0,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for coordinator in 0..self.coordinators.len() {
            self.start_coordinator(coordinator);
        }
        for member in 0..self.members.len() {
            self.start_agent(member);
        }
        for router in 0..self.routers.len() {
            self.after(5, Event::RouterTimer { router });
        }
        self.after(2_000, Event::Fault);
    }

    pub fn id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// So many milliseconds from now.
    pub fn after(&mut self, wait: u64, event: Event) {
        self.at(self.now + wait, event);
    }

    pub fn at(&mut self, time: u64, event: Event) {
        let id = self.id();
        self.queue.push(Queued { at: Reverse((time.max(self.now), id)), event });
    }

    /// The next thing happens.
    pub fn step(&mut self) {
        let Queued { at: Reverse((time, _)), event } = self.queue.pop().expect("loops never end");
        self.now = time;
        self.tally.events += 1;
        self.story.note(time, &event);
        if let Some(thaw) = self.frozen_for(&event) {
            // It waits where it is, and is found after the thaw.
            return self.at(thaw, event);
        }
        self.happen(event);
        self.check();
    }

    fn frozen_for(&self, event: &Event) -> Option<u64> {
        let machine = match event {
            Event::Wake { coordinator, .. }
            | Event::Written { coordinator, .. }
            | Event::Broken { coordinator, .. }
            | Event::RouterReport { coordinator, .. }
            | Event::Raft { to: coordinator, .. } => &self.coordinators[*coordinator].machine,
            Event::ToCoordinator { stream, .. } => &self.coordinators[self.streams.get(stream)?.coordinator].machine,
            Event::ToAgent { stream, .. } => &self.members[self.streams.get(stream)?.member].machine,
            Event::AgentTimer { member, .. }
            | Event::Seek { member, .. }
            | Event::Look { member, .. }
            | Event::ActionEnds { member, .. }
            | Event::Postgres { member, .. }
            | Event::Receive { member, .. }
            | Event::Flushed { primary: member, .. }
            | Event::Sql(Sql::Statement { member, .. }) => &self.members[*member].machine,
            Event::Sql(Sql::Client { router, .. } | Sql::Answer { router, .. })
            | Event::RouterTimer { router }
            | Event::Topology { router, .. } => &self.routers[*router].machine,
            Event::Fault | Event::Ping { .. } => return None,
        };
        machine.is_frozen(self.now).then_some(machine.frozen_until)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Fault => self.break_something(),
            Event::Wake { coordinator, life } => self.wake_coordinator(coordinator, life),
            Event::Written { coordinator, life } => self.written(coordinator, life),
            Event::Raft { from, to, message } => self.raft_arrives(from, to, *message),
            Event::Broken { coordinator, peer } => self.peer_broken(coordinator, peer),
            Event::ToCoordinator { stream, word } => self.coordinator_hears(stream, word),
            Event::ToAgent { stream, says } => self.agent_hears(stream, says),
            Event::Ping { stream } => self.ping(stream),
            Event::AgentTimer { member, life, number } => self.agent_timer(member, life, number),
            Event::Seek { member, life } => self.seek(member, life),
            Event::Look { member, life, seen } => self.agent_sees(member, life, *seen),
            Event::ActionEnds { member, life, number } => self.action_ends(member, life, number),
            Event::Postgres { member, run, what } => self.postgres_happens(member, run, what),
            Event::Receive { member, run } => self.receive(member, run),
            Event::Flushed { primary, run, standby, flushed } => self.acknowledge(primary, run, standby, flushed),
            Event::Sql(sql) => self.sql(sql),
            Event::RouterTimer { router } => self.router_timer(router),
            Event::RouterReport { coordinator, router, report } => {
                self.input(coordinator, super::coordinator::Input::Router { router, report: *report });
            }
            Event::Topology { router, topology } => self.router_learns(router, topology),
        }
    }

    pub fn index(&self, id: &MemberId) -> usize {
        self.members.iter().position(|member| member.id == *id).expect("a member")
    }

    pub fn container(&self, member: usize) -> Container {
        let Member { id, kind, machine, .. } = &self.members[member];
        Container {
            id: id.clone(),
            host: "127.0.0.1".to_owned(),
            port: 7500,
            kind: *kind,
            zone: format!("z{}", machine.zone),
            wish: None,
            priority: 50,
            birth: 0,
        }
    }

    /// Members reach each other's `PostgreSQL`, both ways.
    pub fn data_link(&self, a: usize, b: usize) -> bool {
        self.network.both_ways(Node::Member(a), Node::Member(b), self.now)
    }

    pub fn tell(&mut self, what: impl FnOnce() -> String) {
        self.story.tell(self.now, what);
    }

    /// Every group there is, by the newest state that anyone has applied.
    pub fn groups(&self) -> Vec<GroupId> {
        self.checker.newest().groups.keys().cloned().collect()
    }
}

fn policy(random: &mut Random) -> Policy {
    let replicas = 1 + u32::try_from(random.index(3)).expect("few");
    Policy {
        shards: 1 + u32::from(random.chance(25)),
        replicas,
        query_members: if random.chance(40) { 2 } else { 0 },
        acks: if random.chance(25) { 2 } else { 1 },
        durability: if random.chance(25) { Durability::Strict } else { Durability::Available },
        ..Policy::default()
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::story::state(self))
    }
}
