//! Coordinators: the real deciding code over a log that is simply agreed on (Raft itself is not what is
//! tested here). A deposed leader goes on for a while by the state it has.

use std::collections::BTreeMap;

use howdah::{
    coordinator::core::{
        command::{Command, OperationKind, Proposal},
        goals::goal,
        invariants,
        observed::{Connection, Observed},
        planner::{World, plan},
        state::State,
    },
    model::{
        goal::Goal,
        numbers::{Millis, Revision},
    },
};

use super::{
    cluster::{Cluster, Message, group_id},
    story,
};

#[derive(Default)]
pub struct Coordinator {
    pub state: State,
    /// It leads, or does not know yet that it does not any more: until then.
    pub leads_until: u64,
    pub term: u64,
    observed: Observed,
    applied: usize,
    in_flight: bool,
    /// Open streams of members, and the goal last sent.
    streams: BTreeMap<usize, (u64, Option<Goal>)>,
    frozen_until: u64,
}

/// What the coordinators agree on.
#[derive(Default)]
pub struct Raft {
    pub log: Vec<Proposal>,
    /// The state at the log's end.
    pub newest: State,
    pub leader: usize,
    pub term: u64,
    /// When the next leader begins, if there is none.
    pub election_at: Option<u64>,
}

const FOR_EVER: u64 = u64::MAX;

impl Cluster {
    pub fn initialise(&mut self) {
        let cluster = "herd".parse().expect("a name");
        let command = Command::Initialise { cluster, policy: self.policy.clone() };
        self.commit(Proposal { command, reason: "new".to_owned(), time_ms: 0, based_on: None });
        self.raft.election_at = Some(self.now);
    }

    fn commit(&mut self, proposal: Proposal) {
        let before = self.raft.newest.clone();
        self.raft.log.push(proposal);
        let proposal = self.raft.log.last().expect("just pushed");
        let outcome = self.raft.newest.apply(Revision(self.raft.log.len() as u64), proposal);
        if let Err(why) = invariants::check(&before, &self.raft.newest) {
            panic!("{why}");
        }
        let served = matches!(proposal.command, Command::Serving { .. });
        story::tell(self, || format!("{:?}: {} => {outcome:?}", proposal.command, proposal.reason));
        if served && let Some(reign) = self.group().and_then(|group| group.reign.clone()) {
            let member = self.index(&reign.primary);
            self.checker.serves(member, &self.members[member].postgres);
        }
    }

    /// The leader is no more; it may believe it is for a while.
    pub fn depose(&mut self, dead: bool) {
        let leader = self.raft.leader;
        let (pause, belief) = (self.random.between(200, 1_200), self.random.between(0, 1_500));
        let coordinator = &mut self.coordinators[leader];
        coordinator.leads_until = if dead { 0 } else { self.now + belief };
        if dead {
            coordinator.frozen_until = self.now + pause + 500;
            self.close_streams(leader, true);
        }
        self.raft.election_at = Some(self.now + pause);
    }

    /// The leader stops for a while without being deposed.
    pub fn pause_leader(&mut self, until: u64) {
        let leader = self.raft.leader;
        self.coordinators[leader].frozen_until = until;
    }

    fn close_streams(&mut self, coordinator: usize, tell: bool) {
        for (member, (connection, _)) in std::mem::take(&mut self.coordinators[coordinator].streams) {
            if tell {
                let delay = self.random.delay();
                self.send(delay, Message::Refused { member, connection });
            }
        }
    }

    pub fn run_coordinators(&mut self) {
        if self.raft.election_at.is_some_and(|at| at <= self.now) {
            self.begin_term();
        }
        for index in 0..self.coordinators.len() {
            if self.coordinators[index].frozen_until > self.now {
                continue;
            }
            if self.coordinators[index].leads_until <= self.now {
                self.close_streams(index, true);
                if self.random.chance(20) {
                    self.catch_up(index);
                }
            } else if self.now.is_multiple_of(20) {
                self.lead(index);
            }
        }
    }

    fn begin_term(&mut self) {
        let awake: Vec<_> =
            (0..self.coordinators.len()).filter(|index| self.coordinators[*index].frozen_until <= self.now).collect();
        if awake.is_empty() {
            return;
        }
        let leader = awake[self.random.index(awake.len())];
        self.raft.term += 1;
        self.raft.leader = leader;
        self.raft.election_at = None;
        self.close_streams(leader, true);
        self.catch_up(leader);
        let coordinator = &mut self.coordinators[leader];
        coordinator.leads_until = FOR_EVER;
        coordinator.term = self.raft.term;
        coordinator.in_flight = false;
        coordinator.observed.note_leadership(Millis(self.now));
        story::tell(self, || format!("coordinator {leader} leads"));
    }

    fn catch_up(&mut self, index: usize) {
        let coordinator = &mut self.coordinators[index];
        while let Some(proposal) = self.raft.log.get(coordinator.applied) {
            coordinator.applied += 1;
            coordinator.state.apply(Revision(coordinator.applied as u64), proposal);
        }
    }

    /// One turn of a coordinator that believes it leads.
    fn lead(&mut self, index: usize) {
        if self.coordinators[index].term == self.raft.term {
            self.catch_up(index);
        }
        let now = Millis(self.now);
        let coordinator = &mut self.coordinators[index];
        coordinator.observed.turn(&coordinator.state, now);
        let world = World {
            state: &coordinator.state,
            observed: &coordinator.observed,
            now,
            time_ms: 0,
            in_flight: coordinator.in_flight,
        };
        let proposals = plan(&world);
        if !proposals.is_empty() {
            coordinator.in_flight = true;
            let term = coordinator.term;
            let delay = self.random.between(1, 25);
            self.send(delay, Message::Commit { coordinator: index, term, proposals });
        }
        self.send_goals(index);
    }

    fn send_goals(&mut self, index: usize) {
        for member in self.coordinators[index].streams.keys().copied().collect::<Vec<_>>() {
            if !self.control_link(member, index) {
                continue;
            }
            let goal = goal(&self.coordinators[index].state, &self.members[member].id);
            let Some((connection, sent)) = self.coordinators[index].streams.get_mut(&member) else { continue };
            if *sent != goal {
                sent.clone_from(&goal);
                let connection = *connection;
                let delay = self.random.delay();
                self.send(delay, Message::Goal { member, connection, goal });
            }
        }
    }

    pub fn deliver_to_coordinator(&mut self, message: Message) {
        let now = Millis(self.now);
        match message {
            Message::Register { coordinator, connection, member } => {
                let container = self.container(member);
                let leads = self.coordinators[coordinator].leads_until > self.now;
                if !leads || self.coordinators[coordinator].frozen_until > self.now {
                    let delay = self.random.delay();
                    return self.send(delay, Message::Refused { member, connection });
                }
                let known = self.coordinators[coordinator].streams.get(&member);
                if known.is_none_or(|(old, _)| *old < connection) {
                    self.coordinators[coordinator].streams.insert(member, (connection, None));
                }
                self.coordinators[coordinator].observed.member_connected(container, Connection(connection), now);
            }
            Message::Report { coordinator, connection, report } => {
                if self.coordinators[coordinator].frozen_until > self.now {
                    let wait = self.coordinators[coordinator].frozen_until - self.now;
                    return self.send(wait, Message::Report { coordinator, connection, report });
                }
                self.coordinators[coordinator].observed.member_reported(Connection(connection), report, now);
            }
            Message::Gone { coordinator, connection, member } => {
                let id = self.members[member].id.clone();
                let coordinator = &mut self.coordinators[coordinator];
                coordinator.observed.member_disconnected(&id, Connection(connection), now);
                if coordinator.streams.get(&member).is_some_and(|(known, _)| *known == connection) {
                    coordinator.streams.remove(&member);
                }
            }
            Message::Commit { coordinator, term, proposals } => {
                self.coordinators[coordinator].in_flight = false;
                if term == self.raft.term && self.raft.election_at.is_none() {
                    for proposal in proposals {
                        self.commit(proposal);
                    }
                }
            }
            Message::Goal { .. } | Message::Refused { .. } | Message::Ack { .. } => {
                unreachable!("not for coordinators")
            }
        }
    }

    /// What people ask for now and then.
    pub fn ask(&mut self) {
        let to = self.random.chance(50).then(|| self.random.index(self.members.len()));
        let to = to.map(|index| self.members[index].id.clone());
        let kind = if self.random.chance(70) {
            OperationKind::Switchover { group: group_id(), to }
        } else {
            OperationKind::Failover { group: group_id(), accept_data_loss: false }
        };
        let key = format!("key-{}", self.id());
        let command = Command::BeginOperation { key, kind };
        self.commit(Proposal { command, reason: "asked for".to_owned(), time_ms: 0, based_on: None });
    }
}
