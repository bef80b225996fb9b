//! A member: its machine, what its agent keeps on disk, the agent's process, and `PostgreSQL`.

use howdah::{
    agent::core::inputs::Unfinished,
    model::{
        group::GroupKind,
        ids::{GroupId, MemberId},
        numbers::{Epoch, Revision},
    },
};

use super::{
    agent::Agent,
    machine::Machine,
    postgres::Postgres,
    world::{Event, Sabotage, World},
};

pub struct Member {
    pub id: MemberId,
    pub kind: GroupKind,
    pub machine: Machine,
    pub memory: Memory,
    pub agent: Option<Box<Agent>>,
    pub postgres: Postgres,
}

/// `agent.json`: written and synced before anything depends on it.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    pub group: Option<GroupId>,
    pub promise: Epoch,
    pub revision: Revision,
    pub unfinished: Option<Unfinished>,
}

impl Member {
    pub fn new(index: usize, kind: GroupKind, machine: Machine) -> Self {
        let letter = if kind == GroupKind::Query { 'q' } else { 's' };
        Self {
            id: format!("{letter}{index}").parse().expect("a name"),
            kind,
            machine,
            memory: Memory::default(),
            agent: None,
            postgres: Postgres::default(),
        }
    }

    pub fn describe(&self, now: u64) -> String {
        let Self { id, memory, postgres, machine, agent, .. } = self;
        let state = match agent {
            _ if machine.is_frozen(now) => "frozen".to_owned(),
            None => format!("no agent until {}", machine.down_until),
            Some(agent) => agent.describe(),
        };
        format!(
            "{id}: promise {} of revision {}, {:?}, {}\n    {state}",
            memory.promise,
            memory.revision,
            memory.unfinished,
            postgres.describe()
        )
    }
}

impl World {
    /// The agent's process alone is gone; `PostgreSQL` goes on.
    pub fn crash_agent(&mut self, member: usize, until: u64) {
        if self.members[member].agent.take().is_none() {
            return;
        }
        self.tell(|| format!("agent of member {member} dies, until {until}"));
        self.hang_up_agent(member);
        let this = &mut self.members[member];
        this.machine.life += 1;
        this.machine.down_until = until;
        if self.sabotage == Some(Sabotage::PromiseForgotten) {
            (this.memory.promise, this.memory.revision) = (Epoch(0), Revision(0));
        }
        let life = this.machine.life;
        if until < u64::MAX {
            self.at(until, Event::Seek { member, life });
        }
    }

    /// The whole container.
    pub fn crash_container(&mut self, member: usize, until: u64) {
        self.crash_agent(member, until);
        self.crash_postgres(member, "the container ended");
    }
}
