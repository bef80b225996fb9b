//! Routers and their clients: a client writes where its router's topology says, waits while the group is held,
//! and is told success only by the primary's own answer. A router may live by an old topology.

use std::{collections::BTreeMap, sync::Arc};

use howdah::{
    coordinator::core::topology::topology,
    model::{
        ids::GroupId,
        numbers::Epoch,
        observed::RouterReport,
        topology::{Access, Topology},
    },
};

use super::{
    machine::Machine,
    network::Node,
    postgres::Waiter,
    world::{Event, World},
};

/// As the router's.
const REPORT_EVERY: u64 = 200;
/// No answer for so long: the connection is given up.
const GIVES_UP: u64 = 8_000;

pub struct Router {
    pub machine: Machine,
    pub topology: Option<Arc<Topology>>,
    pub clients: BTreeMap<GroupId, Client>,
}

/// One client, which writes one row after another.
#[derive(Debug)]
pub struct Client {
    number: u64,
    doing: Doing,
    /// When it was last told success.
    pub succeeded: u64,
}

#[derive(Debug)]
enum Doing {
    Rests,
    /// It waits for the group to open.
    Held {
        since: u64,
    },
    /// In a transaction, on a connection to one run of one member's `PostgreSQL`.
    Works {
        member: usize,
        run: u64,
        epoch: Epoch,
        commits_at: u64,
    },
    Commits {
        epoch: Epoch,
        since: u64,
    },
}

#[derive(Debug)]
pub enum Sql {
    Client { router: usize, group: GroupId },
    Statement { router: usize, group: GroupId, number: u64, member: usize, run: u64 },
    Answer { router: usize, member: usize, group: GroupId, number: u64, answer: Answer },
}

#[derive(Debug)]
pub enum Answer {
    /// It has every acknowledgement it asked for.
    Committed(u64),
    /// It was not done.
    Refused,
    /// The connection broke: it may have been done.
    Broken,
    /// The wait for acknowledgements was cancelled: done here, and perhaps nowhere else.
    OnlyHere,
}

impl Router {
    pub fn new(machine: Machine) -> Self {
        Self { machine, topology: None, clients: BTreeMap::new() }
    }

    pub fn describe(&self) -> String {
        let access = |topology: &Arc<Topology>| {
            let views = topology.groups.values();
            (topology.revision, views.map(|view| (view.epoch, view.access.clone())).collect::<Vec<_>>())
        };
        format!("router: {:?}, clients {:?}", self.topology.as_ref().map(access), self.clients)
    }
}

impl World {
    pub fn router_timer(&mut self, router: usize) {
        self.after(REPORT_EVERY, Event::RouterTimer { router });
        let this = &self.routers[router];
        let known = this.topology.as_ref().map(|topology| topology.revision);
        let working = |client: &Client| u32::from(matches!(client.doing, Doing::Works { .. } | Doing::Commits { .. }));
        let open_transactions: Vec<_> =
            this.clients.iter().map(|(group, client)| (group.clone(), working(client))).collect();
        let report = RouterReport {
            router: format!("r{router}").parse().expect("a name"),
            host: "127.0.0.1".to_owned(),
            port: 7432,
            read_only_port: 0,
            topology: known.unwrap_or_default(),
            sessions: 1,
            open_transactions: open_transactions.into_iter().filter(|(_, count)| *count > 0).collect(),
            pid: 1,
        };
        for coordinator in 0..self.coordinators.len() {
            if self.network.both_ways(Node::Router(router), Node::Coordinator(coordinator), self.now) {
                let delay = self.random.delay();
                let report = Box::new(report.clone());
                self.after(delay, Event::RouterReport { coordinator, router, report });
            }
            // A watch that broke begins anew, with the newest.
            let Some(process) = &self.coordinators[coordinator].process else { continue };
            if !self.coordinators[coordinator].machine.is_frozen(self.now)
                && Some(process.state.topology_revision) > known
                && let Some(topology) = topology(&process.state)
            {
                self.tell_router(coordinator, router, &Arc::new(topology));
            }
        }
    }

    pub fn tell_router(&mut self, coordinator: usize, router: usize, topology: &Arc<Topology>) {
        if self.network.both_ways(Node::Coordinator(coordinator), Node::Router(router), self.now) {
            let delay = self.random.delay();
            self.after(delay, Event::Topology { router, topology: topology.clone() });
        }
    }

    /// The newest revision wins.
    pub fn router_learns(&mut self, router: usize, topology: Arc<Topology>) {
        let this = &mut self.routers[router];
        if this.topology.as_ref().is_some_and(|known| known.revision >= topology.revision) {
            return;
        }
        let groups: Vec<_> = topology.groups.keys().cloned().collect();
        this.topology = Some(topology);
        for group in groups {
            let new = Client { number: 0, doing: Doing::Rests, succeeded: self.now };
            let this = &mut self.routers[router];
            if !this.clients.contains_key(&group) {
                this.clients.insert(group.clone(), new);
                self.after(1, Event::Sql(Sql::Client { router, group }));
            }
        }
    }

    pub fn sql(&mut self, sql: Sql) {
        match sql {
            Sql::Client { router, group } => {
                let wait = self.random.between(8, 60);
                self.after(wait, Event::Sql(Sql::Client { router, group: group.clone() }));
                self.client(router, &group);
            }
            Sql::Statement { router, group, number, member, run } => self.statement(router, group, number, member, run),
            Sql::Answer { router, member, group, number, answer } => {
                let passes = self.network.passes(Node::Member(member), Node::Router(router), self.now);
                if passes {
                    self.answered(router, &group, number, &answer);
                }
            }
        }
    }

    /// A server's answer sets out.
    pub fn answer(&mut self, member: usize, router: usize, group: GroupId, number: u64, answer: Answer) {
        let delay = self.random.delay();
        self.after(delay, Event::Sql(Sql::Answer { router, member, group, number, answer }));
    }

    fn client(&mut self, router: usize, group: &GroupId) {
        let now = self.now;
        let this = &self.routers[router];
        let (Some(topology), Some(client)) = (&this.topology, this.clients.get(group)) else { return };
        let Some(view) = topology.groups.get(group) else { return };
        let (epoch, wait, number) = (view.epoch, topology.failover_wait.0, client.number);
        let lost = |began: Epoch| began < epoch || view.access == Access::Held;
        let next = match (&client.doing, &view.access) {
            (Doing::Rests | Doing::Held { .. }, Access::Open { primary }) => {
                let member = self.index(&primary.member);
                let long = if self.random.chance(20) { self.random.between(20, 400) } else { 0 };
                let there = &self.members[member];
                let runs = there.postgres.primary().is_some() && there.machine.runs(now);
                if runs && self.network.both_ways(Node::Router(router), Node::Member(member), now) {
                    Doing::Works { member, run: there.postgres.run, epoch, commits_at: now + long }
                } else {
                    Doing::Rests
                }
            }
            (Doing::Rests, _) => {
                self.tally.held += 1;
                Doing::Held { since: now }
            }
            (Doing::Held { since }, _) if now > since + wait => Doing::Rests,
            (Doing::Works { epoch, .. }, _) if lost(*epoch) => {
                self.tally.refused += 1;
                Doing::Rests
            }
            (Doing::Works { member, run, epoch, commits_at }, _) if *commits_at <= now => {
                let (member, run, epoch, delay) = (*member, *run, *epoch, self.random.delay());
                let group = group.clone();
                let number = number + 1;
                self.after(delay, Event::Sql(Sql::Statement { router, group, number, member, run }));
                Doing::Commits { epoch, since: now }
            }
            (Doing::Commits { epoch, since }, _) if lost(*epoch) || now > since + GIVES_UP => {
                self.tally.unknown += 1;
                Doing::Rests
            }
            (Doing::Held { .. } | Doing::Works { .. } | Doing::Commits { .. }, _) => return,
        };
        if let Some(client) = self.routers[router].clients.get_mut(group) {
            client.number += u64::from(matches!(next, Doing::Commits { .. }));
            client.doing = next;
        }
    }

    /// A COMMIT arrives.
    fn statement(&mut self, router: usize, group: GroupId, number: u64, member: usize, run: u64) {
        if !self.network.passes(Node::Router(router), Node::Member(member), self.now) {
            return;
        }
        let postgres = &self.members[member].postgres;
        let who = Waiter::Client { router, group: group.clone(), number };
        if postgres.run != run || postgres.is_down() {
            // Before anything was done: the connection was to another run.
            self.answer(member, router, group, number, Answer::Refused);
        } else if self.write(member, None, who).is_none() {
            self.answer(member, router, group, number, Answer::Refused);
        }
    }

    fn answered(&mut self, router: usize, group: &GroupId, number: u64, answer: &Answer) {
        let now = self.now;
        let Some(client) = self.routers[router].clients.get_mut(group) else { return };
        if client.number != number || !matches!(client.doing, Doing::Commits { .. }) {
            return;
        }
        client.doing = Doing::Rests;
        match answer {
            Answer::Committed(id) => {
                client.succeeded = now;
                self.checker.told_success(group, *id);
            }
            Answer::Refused => self.tally.refused += 1,
            Answer::Broken | Answer::OnlyHere => self.tally.unknown += 1,
        }
    }
}
