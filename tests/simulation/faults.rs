//! What goes wrong, and how it is mended.

use howdah::{
    coordinator::core::command::{Command, OperationKind},
    model::{group::Phase, ids::GroupId, numbers::Epoch},
};

use super::{
    coordinator::Input,
    member::Memory,
    network::Node,
    postgres::{Postgres, Waiter},
    router::Answer,
    world::{Event, World},
};

/// Between one fault and the next, at most.
const EVERY: u64 = 700;
/// How long one lasts, at most.
const LASTS: u64 = 3_000;

impl World {
    /// Breaks one thing.
    pub fn break_something(&mut self) {
        if self.now >= self.faults_end {
            return;
        }
        let wait = self.random.between(1, EVERY);
        self.after(wait, Event::Fault);
        self.tally.faults += 1;
        let member = self.victim();
        let coordinator = self.leader_or_any();
        let span = self.random.between(50, LASTS);
        let until = self.now + span;
        let fault = self.random.index(23);
        self.tell(|| format!("FAULT {fault}: member {member}, coordinator {coordinator}, for {span} ms"));
        match fault {
            0 | 1 => self.crash_postgres(member, "killed"),
            2 | 3 => self.crash_container(member, until),
            4 => self.crash_agent(member, until),
            5 => {
                let suspended = self.random.chance(30);
                self.members[member].machine.freeze(self.now, until, suspended);
            }
            6 => self.members[member].postgres.trouble.stopped_until = until,
            7 | 8 => self.isolate_member(member, until),
            9 => self.cut_pair(member, until),
            10 if self.random.chance(50) => self.coordinators[coordinator].dies_writing = true,
            10 => self.coordinators[coordinator].dies_after = Some(self.random.between(1, 30)),
            11 => self.crash_coordinator(coordinator, until),
            12 => {
                let suspended = self.random.chance(30);
                self.coordinators[coordinator].machine.freeze(self.now, until, suspended);
            }
            13 | 14 => self.isolate_coordinator(coordinator, until),
            15 => self.jump_a_clock(member, coordinator),
            16 => self.trouble_disk(member, coordinator, until),
            17 => self.lose_zone(until),
            18 | 19 => self.ask(member),
            20 => self.trouble_router(until),
            21 => self.spoil_connections(member),
            _ => self.wipe(member, until),
        }
    }

    /// A primary half of the time: that is where it hurts.
    fn victim(&mut self) -> usize {
        let groups = self.checker.newest().groups.values();
        let primaries: Vec<_> = groups.filter_map(|group| group.primary().cloned()).collect();
        if primaries.is_empty() || self.random.chance(50) {
            return self.random.index(self.members.len());
        }
        let place = self.random.index(primaries.len());
        self.index(&primaries[place])
    }

    fn leader_or_any(&mut self) -> usize {
        let leads = |index: &usize| self.coordinators[*index].process.as_ref().is_some_and(|it| it.reigning.is_some());
        let leader = (0..self.coordinators.len()).find(leads);
        let any = self.random.index(self.coordinators.len());
        leader.filter(|_| self.random.chance(60)).unwrap_or(any)
    }

    /// In one direction, or both, from some or all others.
    fn isolate(&mut self, me: Node, others: &[Node], until: u64) {
        let direction = self.random.index(4);
        for other in others {
            if direction != 1 {
                self.network.cut(me, *other, until);
            }
            if direction != 2 {
                self.network.cut(*other, me, until);
            }
        }
    }

    fn isolate_member(&mut self, member: usize, until: u64) {
        let mut others: Vec<_> = (0..self.coordinators.len()).map(Node::Coordinator).collect();
        let members: Vec<_> = (0..self.members.len()).filter(|other| *other != member).map(Node::Member).collect();
        match self.random.index(4) {
            // From the coordinators only.
            0 => {}
            // From one of them only.
            1 => others = vec![others[self.random.index(others.len())]],
            // From the other members only.
            2 => others = members,
            _ => {
                others.extend(members);
                others.extend((0..self.routers.len()).map(Node::Router));
            }
        }
        self.isolate(Node::Member(member), &others, until);
    }

    fn cut_pair(&mut self, member: usize, until: u64) {
        let other = self.random.index(self.members.len());
        if other != member {
            self.isolate(Node::Member(member), &[Node::Member(other)], until);
        }
    }

    fn isolate_coordinator(&mut self, coordinator: usize, until: u64) {
        let peers = (0..self.coordinators.len()).filter(|other| *other != coordinator).map(Node::Coordinator);
        let mut others: Vec<_> = peers.collect();
        match self.random.index(4) {
            0 => {}
            1 => others.truncate(1),
            2 => others = (0..self.members.len()).map(Node::Member).collect(),
            _ => {
                others.extend((0..self.members.len()).map(Node::Member));
                others.extend((0..self.routers.len()).map(Node::Router));
            }
        }
        self.isolate(Node::Coordinator(coordinator), &others, until);
    }

    fn jump_a_clock(&mut self, member: usize, coordinator: usize) {
        let span = self.random.between(10, 5_000);
        if self.random.chance(50) {
            self.members[member].machine.jump(span);
        } else {
            self.coordinators[coordinator].machine.jump(span);
        }
    }

    fn trouble_disk(&mut self, member: usize, coordinator: usize, until: u64) {
        let slow = self.random.between(20, 400);
        let trouble = &mut self.members[member].postgres.trouble;
        match self.random.index(6) {
            0 => self.coordinators[coordinator].disk.latency = slow,
            1 => self.coordinators[coordinator].disk.latency = 0,
            2 => trouble.slow = if trouble.slow == 0 { slow } else { 0 },
            3 => trouble.hung_until = until,
            4 => trouble.full_until = until,
            _ => trouble.slow_replay_until = until,
        }
    }

    /// Everything in a zone at once: its power, or its network.
    fn lose_zone(&mut self, until: u64) {
        let zone = self.random.index(3);
        let power = self.random.chance(50);
        let members: Vec<_> = (0..self.members.len()).filter(|it| self.members[*it].machine.zone == zone).collect();
        let coordinators: Vec<_> =
            (0..self.coordinators.len()).filter(|it| self.coordinators[*it].machine.zone == zone).collect();
        // A zone that holds everything would only stop the world for a while.
        if coordinators.len() > 1 || members.len() * 2 > self.members.len() {
            return;
        }
        for member in members {
            if power {
                self.crash_container(member, until);
            } else {
                self.isolate_member(member, until);
            }
        }
        for coordinator in coordinators {
            if power {
                self.crash_coordinator(coordinator, until);
            } else {
                self.isolate_coordinator(coordinator, until);
            }
        }
    }

    /// What people ask for now and then.
    fn ask(&mut self, member: usize) {
        let groups = self.groups();
        if groups.is_empty() {
            return;
        }
        let group = groups[self.random.index(groups.len())].clone();
        let to = self.random.chance(50).then(|| self.members[member].id.clone());
        let to = to.filter(|id| self.checker.newest().membership.get(id) == Some(&group));
        let kind = match self.random.index(20) {
            0..=11 => OperationKind::Switchover { group, to },
            12..=17 => OperationKind::Failover { group, accept_data_loss: false },
            18 => OperationKind::Failover { group, accept_data_loss: true },
            _ => OperationKind::AddShard { replicas: self.policy.replicas },
        };
        let key = format!("key-{}", self.id());
        let command = Command::BeginOperation { key, kind };
        for coordinator in 0..self.coordinators.len() {
            self.input(coordinator, Input::Ask(command.clone()));
        }
    }

    fn trouble_router(&mut self, until: u64) {
        let router = self.random.index(self.routers.len());
        if self.random.chance(30) {
            return self.routers[router].machine.freeze(self.now, until, false);
        }
        // It goes on by the topology it has.
        let others: Vec<_> = (0..self.coordinators.len()).map(Node::Coordinator).collect();
        self.isolate(Node::Router(router), &others, until);
    }

    /// Waits for acknowledgements are cancelled; or the WAL that a standby still needs is recycled.
    fn spoil_connections(&mut self, member: usize) {
        let postgres = &mut self.members[member].postgres;
        let flushed = postgres.flushed;
        let Some(primary) = postgres.primary_mut() else { return };
        if self.now.is_multiple_of(3) {
            postgres.kept_from = postgres.kept_from.max(flushed.saturating_sub(2));
            return;
        }
        let clients = |commit: &super::postgres::Commit| matches!(commit.who, Waiter::Client { .. });
        let (cancelled, waiting) = std::mem::take(&mut primary.waiting).into_iter().partition::<Vec<_>, _>(clients);
        primary.waiting = waiting;
        for commit in cancelled {
            if let Waiter::Client { router, group, number } = commit.who {
                self.answer(member, router, group, number, Answer::OnlyHere);
            }
        }
    }

    /// A container with storage of its own comes back empty. Only where the group is whole: what nobody else
    /// has would be gone by anyone's protocol.
    fn wipe(&mut self, member: usize, until: u64) {
        let id = self.members[member].id.clone();
        let state = self.checker.newest();
        let Some(group) = state.group_of(&id) else { return };
        let whole = group.phase == Phase::Serving
            && group.reign.as_ref().is_some_and(|reign| {
                reign.recorded.same(&reign.ordered)
                    && reign.recorded.acks > 0
                    && reign.recorded.standbys.len() + 1 == group.members.len()
            });
        if !whole || self.wiped_lately(&group.id.clone()) {
            return;
        }
        self.tell(|| format!("member {member} is wiped"));
        self.crash_container(member, until);
        self.checker.wiped(member);
        let this = &mut self.members[member];
        (this.memory, this.postgres) = (Memory { promise: Epoch(0), ..Memory::default() }, Postgres::default());
    }

    /// Some member of the group has no data.
    fn wiped_lately(&self, group: &GroupId) -> bool {
        let members = &self.checker.newest().groups[group].members;
        let empty = |member: &super::member::Member| {
            members.contains_key(&member.id)
                && (member.postgres.system_identifier.is_none() || member.memory.unfinished.is_some())
        };
        self.members.iter().any(empty)
    }
}
