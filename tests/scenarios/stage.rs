//! The stage a scenario plays on: the real state and planner, members that go on saying what they said
//! last, and time.

use std::collections::{BTreeMap, BTreeSet};

use howdah::{
    coordinator::core::{
        command::{Command, OperationKind, Outcome, Proposal},
        invariants,
        observed::{Connection, Observed},
        planner::{World, plan},
        report,
        state::State,
    },
    model::{
        group::{Cohort, Container, Group, GroupKind, Phase, Reign, USUAL_PRIORITY},
        ids::{GroupId, MemberId, RouterId},
        numbers::{Epoch, Millis, Revision, Timeline},
        observed::{DataState, PostgresSeen, Recruited, Report, RouterReport},
        policy::{AckZones, Policy},
    },
};

const TURN: u64 = 20;
/// Every member's, in scenarios.
pub const SYSTEM: u64 = 7;

/// What a member says with every heartbeat until it says something else; `None`: it is silent.
type Said = Option<(DataState, PostgresSeen, Option<Recruited>)>;

pub struct Stage {
    pub now: u64,
    pub state: State,
    observed: Observed,
    said: BTreeMap<MemberId, Said>,
    routers: BTreeMap<RouterId, (Option<Revision>, u32)>,
    sequence: u64,
}

impl Stage {
    pub fn new(policy: Policy) -> Self {
        let mut stage = Self {
            now: 10_000,
            state: State::default(),
            observed: Observed::default(),
            said: BTreeMap::new(),
            routers: BTreeMap::new(),
            sequence: 0,
        };
        let cluster = "herd".parse().expect("a name");
        stage.command(Command::Initialise { cluster, policy });
        stage.observed.note_leadership(Millis(stage.now));
        stage
    }

    pub fn command(&mut self, command: Command) -> Outcome {
        self.apply(&Proposal { command, reason: "the scenario says so".to_owned(), time_ms: 0, based_on: None })
    }

    pub fn apply(&mut self, proposal: &Proposal) -> Outcome {
        let before = self.state.clone();
        let outcome = self.state.apply(self.state.revision.next(), proposal);
        assert_eq!(invariants::check(&before, &self.state), Ok(()));
        outcome
    }

    /// A container that has registered. Its wish is its name's beginning, where that names a group.
    pub fn connect(&mut self, name: &str, zone: &str, wish: Option<&str>, priority: Option<u32>, birth: u64) {
        self.sequence += 1;
        let kind = if name.starts_with('q') { GroupKind::Query } else { GroupKind::Shard };
        let container = Container {
            id: name.parse().expect("a name"),
            host: "127.0.0.1".to_owned(),
            port: 7500,
            kind,
            zone: zone.to_owned(),
            wish: wish.map(|wish| wish.parse().expect("a name")),
            priority: priority.unwrap_or(USUAL_PRIORITY),
            birth,
        };
        self.observed.member_connected(container, Connection(self.sequence), Millis(self.now));
    }

    /// `shard-1` of these members, serving since a while: the first one reigns. What was said of one as a
    /// container before stands.
    pub fn serve(&mut self, members: &[&str], acks: u32) {
        for member in members {
            if !self.observed.members.contains_key(&id(member)) {
                self.connect(member, "", None, None, 0);
            }
            let container = self.observed.members[&id(member)].container.clone();
            self.command(Command::Register { container });
        }
        self.state.membership.extend(members.iter().map(|member| (id(member), group_id())));
        let all: BTreeMap<_, _> = members.iter().map(|m| (id(m), self.state.containers[&id(m)].clone())).collect();
        let zone = all[&id(members[0])].zone.clone();
        let other = self.state.policy.ack_zones == AckZones::Other;
        let counts = |it: &&Container| it.id.as_str() != members[0] && !(other && it.zone == zone);
        let standbys = all.values().filter(counts).map(|it| it.id.clone()).collect();
        let cohort = Cohort { standbys, acks, ordered_at: Revision(1) };
        let (recorded, ordered) = (cohort.clone(), cohort);
        let reign = Reign { epoch: Epoch(1), primary: id(members[0]), timeline: Timeline(2), recorded, ordered };
        let group = Group {
            id: group_id(),
            kind: GroupKind::Shard,
            members: all,
            epoch: Epoch(1),
            phase: Phase::Serving,
            reign: Some(reign),
            last_timeline: Timeline(2),
            replicas: None,
            leaving: BTreeSet::new(),
            paused: false,
            hasty: 0,
            system_identifier: Some(SYSTEM),
            revision: self.state.revision,
            reason: String::new(),
        };
        self.state.groups.insert(group_id(), group);
    }

    pub fn reset(&mut self, name: &str) {
        let connection = self.observed.members[&id(name)].connection;
        self.observed.member_disconnected(&id(name), connection, Millis(self.now));
        self.said.insert(id(name), None);
    }

    pub fn say(&mut self, name: &str, said: Said) {
        self.said.insert(id(name), said);
        self.speak(&id(name));
    }

    pub fn router(&mut self, name: &str, topology: Option<Revision>, open: u32) {
        self.routers.insert(name.parse().expect("a name"), (topology, open));
        self.speak_routers();
    }

    pub fn ask(&mut self, kind: OperationKind) -> Outcome {
        let key = format!("key-{}", self.state.revision);
        self.command(Command::BeginOperation { key, kind })
    }

    pub fn begin_term(&mut self) {
        self.observed.note_leadership(Millis(self.now));
        self.said.clear();
    }

    /// The leader stops for so long; members went on.
    pub fn pause(&mut self, span: u64) {
        self.now += span;
    }

    /// One look of the planner at this moment.
    pub fn plan(&mut self) -> Vec<Proposal> {
        let now = Millis(self.now);
        self.observed.turn(&self.state, now);
        plan(&World { state: &self.state, observed: &self.observed, now, time_ms: 0, in_flight: false })
    }

    /// Time passes until the planner wants something, at most `span`.
    pub fn wait(&mut self, span: u64) -> Vec<Proposal> {
        let end = self.now + span;
        loop {
            let proposals = self.plan();
            if !proposals.is_empty() || self.now >= end {
                return proposals;
            }
            self.now += TURN;
            if self.now.is_multiple_of(100) {
                let members: Vec<_> = self.said.keys().cloned().collect();
                for member in &members {
                    self.speak(member);
                }
                self.speak_routers();
            }
        }
    }

    pub fn warnings(&self) -> Vec<String> {
        report::status(&self.state, &self.observed, Millis(self.now), Vec::new()).warnings
    }

    fn speak_routers(&mut self) {
        for (name, (topology, open)) in &self.routers {
            let report = RouterReport {
                router: name.clone(),
                host: "127.0.0.1".to_owned(),
                port: 7432,
                read_only_port: 7433,
                topology: topology.unwrap_or(self.state.topology_revision),
                sessions: 0,
                open_transactions: vec![(group_id(), *open)],
                pid: 1,
            };
            self.observed.router_reported(Connection(1), report, Millis(self.now));
        }
    }

    fn speak(&mut self, member: &MemberId) {
        let Some(Some((data, postgres, recruited))) = self.said.get(member).cloned() else { return };
        self.sequence += 1;
        let group = self.state.group_of(member);
        let report = Report {
            member: member.clone(),
            incarnation: 1,
            sequence: self.sequence,
            promise: group.map_or(Epoch(0), |group| group.epoch),
            goal_revision: self.state.revision,
            data,
            postgres,
            recruited,
            state: "said".to_owned(),
            healthy: true,
            note: String::new(),
            pid: 1,
            postmaster_pid: None,
            router_pid: None,
            data_dir: String::new(),
        };
        let connection = self.observed.members[member].connection;
        self.observed.member_reported(connection, report, Millis(self.now));
    }
}

pub fn id(name: &str) -> MemberId {
    name.parse().expect("a name")
}

pub fn group_id() -> GroupId {
    "shard-1".parse().expect("a name")
}
