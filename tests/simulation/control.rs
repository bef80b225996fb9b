//! The streams between agents, routers and coordinators: registration, reports, goals, topologies. What is
//! cut is held back, as TCP does it, until one side's pings give the stream up.

use std::sync::Arc;

use howdah::{
    coordinator::core::{goals::goal, topology::topology},
    model::{goal::Goal, observed::Report},
};

use super::{
    coordinator::{Attending, Input, Process},
    network::Node,
    world::{Event, World},
};

/// Pings go this often; the agent gives up after this long, the coordinator's side later.
const PING_EVERY: u64 = 300;
const AGENT_GIVES_UP: u64 = 1_500;
const COORDINATOR_GIVES_UP: u64 = 3_500;
/// TCP sends again.
const AGAIN: u64 = 60;

/// One stream; its number is the coordinator's `Connection`.
pub struct Stream {
    pub coordinator: usize,
    pub member: usize,
    coordinator_life: u64,
    member_life: u64,
    agent_open: bool,
    coordinator_open: bool,
    /// The coordinator has had its first word, and numbered it then.
    registered: bool,
    pub connection: u64,
    answered: u64,
    /// When the last word of each direction arrives.
    to_coordinator: u64,
    to_agent: u64,
}

/// What an agent says.
#[derive(Debug, Clone)]
pub enum Word {
    Register,
    Report(Box<Report>),
    Close,
}

/// What a coordinator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    Idle,
    Goal(Box<Goal>),
    NotLeader(Option<usize>),
    Close,
}

impl World {
    /// An agent opens a stream and registers.
    pub fn open_stream(&mut self, member: usize, coordinator: usize) -> u64 {
        let number = self.id();
        let stream = Stream {
            coordinator,
            member,
            coordinator_life: self.coordinators[coordinator].machine.life,
            member_life: self.members[member].machine.life,
            agent_open: true,
            coordinator_open: false,
            registered: false,
            connection: 0,
            answered: self.now,
            to_coordinator: 0,
            to_agent: 0,
        };
        self.streams.insert(number, stream);
        self.say_to_coordinator(number, Word::Register);
        self.after(PING_EVERY, Event::Ping { stream: number });
        number
    }

    pub fn say_to_coordinator(&mut self, number: u64, word: Word) {
        let (delay, twice) = (self.random.delay(), self.wild && self.random.chance(3));
        let again = self.random.between(0, 300);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let mut at = self.now + delay;
        // The first word opens the stream, whatever else is reordered.
        if !self.wild || !matches!(word, Word::Report(_)) || stream.to_coordinator <= self.now {
            at = at.max(stream.to_coordinator);
        }
        stream.to_coordinator = stream.to_coordinator.max(at);
        if twice && matches!(word, Word::Report(_)) {
            self.at(at + again, Event::ToCoordinator { stream: number, word: word.clone() });
        }
        self.at(at, Event::ToCoordinator { stream: number, word });
    }

    pub fn say_to_agent(&mut self, number: u64, says: Says) {
        let (delay, twice) = (self.random.delay(), self.wild && self.random.chance(3));
        let again = self.random.between(0, 300);
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let mut at = self.now + delay;
        if !self.wild || !matches!(says, Says::Goal(_)) {
            at = at.max(stream.to_agent);
        }
        stream.to_agent = stream.to_agent.max(at);
        if matches!(says, Says::NotLeader(_) | Says::Close) {
            stream.coordinator_open = false;
        }
        if twice && matches!(says, Says::Goal(_)) {
            self.at(at + again, Event::ToAgent { stream: number, says: says.clone() });
        }
        self.at(at, Event::ToAgent { stream: number, says });
    }

    pub fn coordinator_hears(&mut self, number: u64, word: Word) {
        let (now, connection) = (self.now, self.id());
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let (coordinator, member) = (stream.coordinator, stream.member);
        if !self.network.passes(Node::Member(member), Node::Coordinator(coordinator), now) {
            if stream.agent_open {
                self.after(AGAIN, Event::ToCoordinator { stream: number, word });
            }
            return;
        }
        let there = &self.coordinators[coordinator];
        if there.process.is_none() || there.machine.life != stream.coordinator_life {
            return self.say_to_agent(number, Says::Close);
        }
        match word {
            Word::Register => {
                (stream.coordinator_open, stream.registered) = (true, true);
                stream.connection = connection;
                self.input(coordinator, Input::Connected { stream: number, member });
            }
            Word::Report(report) if stream.coordinator_open => {
                self.input(coordinator, Input::Report { stream: number, report });
            }
            Word::Close if stream.coordinator_open => {
                stream.coordinator_open = false;
                self.input(coordinator, Input::Disconnected { stream: number, member });
            }
            Word::Report(_) | Word::Close => {}
        }
    }

    pub fn agent_hears(&mut self, number: u64, says: Says) {
        let now = self.now;
        let Some(stream) = self.streams.get(&number).filter(|stream| stream.agent_open) else { return };
        let (coordinator, member) = (stream.coordinator, stream.member);
        if !self.network.passes(Node::Coordinator(coordinator), Node::Member(member), now) {
            return self.after(AGAIN, Event::ToAgent { stream: number, says });
        }
        if self.members[member].machine.life != stream.member_life {
            return;
        }
        if matches!(says, Says::Close | Says::NotLeader(_))
            && let Some(stream) = self.streams.get_mut(&number)
        {
            stream.agent_open = false;
        }
        self.agent_told(member, number, says);
    }

    pub fn ping(&mut self, number: u64) {
        let now = self.now;
        let Some(stream) = self.streams.get_mut(&number) else { return };
        let (coordinator, member) = (&self.coordinators[stream.coordinator], &self.members[stream.member]);
        let coordinator_lives = coordinator.process.is_some() && coordinator.machine.life == stream.coordinator_life;
        let agent_lives = member.agent.is_some() && member.machine.life == stream.member_life;
        stream.coordinator_open &= coordinator_lives;
        stream.agent_open &= agent_lives;
        if !stream.agent_open && !stream.coordinator_open {
            self.streams.remove(&number);
            return;
        }
        let (at, from) = (Node::Coordinator(stream.coordinator), Node::Member(stream.member));
        let both_run = coordinator.machine.runs(now) && member.machine.runs(now);
        if both_run && self.network.both_ways(at, from, now) && coordinator_lives && agent_lives {
            if stream.registered && !stream.coordinator_open {
                // The other side knows nothing of it any more, and says so.
                self.after(PING_EVERY, Event::Ping { stream: number });
                return self.say_to_agent(number, Says::Close);
            }
            stream.answered = now;
        }
        let silent = now - stream.answered;
        if silent > AGENT_GIVES_UP && stream.agent_open && member.machine.runs(now) {
            self.close_by_agent(number);
        }
        let Some(stream) = self.streams.get_mut(&number) else { return };
        if silent > COORDINATOR_GIVES_UP
            && stream.coordinator_open
            && self.coordinators[stream.coordinator].machine.runs(now)
        {
            stream.coordinator_open = false;
            let (coordinator, member) = (stream.coordinator, stream.member);
            self.input(coordinator, Input::Disconnected { stream: number, member });
        }
        self.after(PING_EVERY, Event::Ping { stream: number });
    }

    /// The agent's process closes it, or no longer believes in it.
    pub fn close_by_agent(&mut self, number: u64) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.agent_open = false;
        let member = stream.member;
        self.say_to_coordinator(number, Word::Close);
        self.agent_lost_stream(member, number);
    }

    /// The agent's process is gone: its kernel closes what it had open.
    pub fn hang_up_agent(&mut self, member: usize) {
        let mut numbers = Vec::new();
        for (number, stream) in &mut self.streams {
            if stream.member == member && stream.agent_open {
                stream.agent_open = false;
                numbers.push(*number);
            }
        }
        for number in numbers {
            self.say_to_coordinator(number, Word::Close);
        }
    }

    /// The same for a coordinator's.
    pub fn hang_up_coordinator(&mut self, coordinator: usize) {
        let open = |stream: &Stream| stream.coordinator == coordinator && stream.agent_open;
        let numbers: Vec<_> =
            self.streams.iter().filter(|(_, stream)| open(stream)).map(|(number, _)| *number).collect();
        for number in numbers {
            self.say_to_agent(number, Says::Close);
        }
    }

    /// Goals to agents and the topology to routers, where they have changed.
    pub fn publish(&mut self, index: usize, process: &mut Process) {
        let revision = process.state.revision;
        if process.replica.may_decide() && process.goals_at != Some(revision) {
            let mut news = Vec::new();
            for (member, Attending { stream, told }) in &mut process.attending {
                let says = goal(&process.state, &self.members[*member].id)
                    .map_or(Says::Idle, |goal| Says::Goal(Box::new(goal)));
                if told.as_ref() != Some(&says) {
                    *told = Some(says.clone());
                    news.push((*stream, says));
                }
            }
            for (stream, says) in news {
                self.say_to_agent(stream, says);
            }
            process.goals_at = Some(revision);
        }
        let newest = process.state.cluster.as_ref().map(|_| process.state.topology_revision);
        if newest != process.topology_told {
            process.topology_told = newest;
            if let Some(topology) = topology(&process.state) {
                let topology = Arc::new(topology);
                for router in 0..self.routers.len() {
                    self.tell_router(index, router, &topology);
                }
            }
        }
    }
}
