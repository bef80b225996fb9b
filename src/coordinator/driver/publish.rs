//! What the driver lets others see: goals for agents, the topology for routers, who leads, how far
//! the log is applied, and vital signs. Everything is the newest value only: nobody can fall behind.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::Receiver},
};

use tokio::sync::watch;

use super::{
    super::{
        core::{
            goals::{free_since, goal},
            observed::Connection,
            replica::Leadership,
            topology::topology,
        },
        inbox::{Input, Outlets, Vitals},
        roster::Roster,
    },
    Driver,
};
use crate::{
    model::{
        ids::MemberId,
        numbers::{Millis, Revision},
        observed::RouterAddress,
        topology::Topology,
    },
    wire::agent::CoordinatorSays,
};

/// Agents hear from their leader this often: as often as it hears from them.
const PULSE_EVERY: Millis = Millis(100);
/// Health pages are read every few seconds.
const VITALS_EVERY: Millis = Millis(1_000);

/// The outlets, and what went out last.
pub struct Published {
    agents: BTreeMap<MemberId, Attending>,
    /// State that the agents' goals were last derived from; `None`: someone is new.
    goals_at: Option<Revision>,
    next_vitals: Millis,
    next_pulse: Millis,
    leadership: watch::Sender<Leadership>,
    topology: watch::Sender<Option<Arc<Topology>>>,
    routers: watch::Sender<Vec<RouterAddress>>,
    applied: watch::Sender<Revision>,
    vitals: watch::Sender<Option<Vitals>>,
    roster: watch::Sender<Arc<Roster>>,
    pulse: watch::Sender<u64>,
}

struct Attending {
    connection: Connection,
    outbox: watch::Sender<CoordinatorSays>,
    /// It has been told something.
    told: bool,
}

impl Published {
    /// Nothing yet.
    pub fn new(outlets: Outlets) -> (Self, Receiver<Input>) {
        let Outlets { inbox, leadership, topology, routers, applied, vitals, roster, pulse } = outlets;
        let published = Self {
            agents: BTreeMap::new(),
            goals_at: None,
            next_vitals: Millis(0),
            next_pulse: Millis(0),
            leadership,
            topology,
            routers,
            applied,
            vitals,
            roster,
            pulse,
        };
        (published, inbox)
    }

    /// These are the coordinators from now on.
    pub fn call(&self, roster: Arc<Roster>) {
        self.roster.send_replace(roster);
    }

    /// An agent is there and gets its goal at the next publication.
    pub fn attend(&mut self, member: MemberId, connection: Connection, outbox: watch::Sender<CoordinatorSays>) {
        self.agents.insert(member, Attending { connection, outbox, told: false });
        self.goals_at = None;
    }

    /// It has gone, unless it came again meanwhile.
    pub fn leave(&mut self, member: &MemberId, connection: Connection) {
        if self.agents.get(member).is_some_and(|agent| agent.connection == connection) {
            self.agents.remove(member);
        }
    }

    /// All agents are to ask another.
    pub fn send_agents_away(&mut self, leader: Option<&String>) {
        for (_, agent) in std::mem::take(&mut self.agents) {
            agent.outbox.send_replace(CoordinatorSays::NotLeader(leader.cloned()));
        }
    }
}

impl Driver {
    /// Lets everybody see what has changed.
    pub(super) fn publish(&mut self) {
        let leadership = self.replica.leadership();
        let published = &mut self.published;
        published.leadership.send_if_modified(|seen| std::mem::replace(seen, leadership) != leadership);
        let revision = self.state.revision;
        published.applied.send_if_modified(|seen| std::mem::replace(seen, revision) != revision);
        published.topology.send_if_modified(|seen| {
            let newest = self.state.cluster.as_ref().map(|_| self.state.topology_revision);
            let changed = seen.as_ref().map(|topology| topology.revision) != newest;
            if changed {
                *seen = topology(&self.state).map(Arc::new);
            }
            changed
        });
        // Compared in place: reports come five times a second, addresses hardly ever change.
        published.routers.send_if_modified(|seen| {
            let changed = !self.observed.router_addresses().eq(seen.iter().cloned());
            if changed {
                *seen = self.observed.router_addresses().collect();
            }
            changed
        });
        // A leader that does not know yet what the one before it decided gives no orders.
        if self.replica.may_decide() && published.goals_at != Some(revision) {
            for (member, agent) in &mut published.agents {
                let says = match goal(&self.state, member) {
                    Some(goal) => CoordinatorSays::Goal(Box::new(goal)),
                    None => CoordinatorSays::Idle { free_since: free_since(&self.state, member) },
                };
                let told = std::mem::replace(&mut agent.told, true);
                agent.outbox.send_if_modified(|seen| {
                    let changed = !told || *seen != says;
                    *seen = says;
                    changed
                });
            }
            published.goals_at = Some(revision);
        }
        let now = self.clock.now();
        if leadership.ours && now >= self.published.next_pulse {
            self.published.next_pulse = now.plus(PULSE_EVERY);
            self.published.pulse.send_modify(|beats| *beats += 1);
        }
        self.publish_vitals(leadership);
    }

    fn publish_vitals(&mut self, leadership: Leadership) {
        let now = self.clock.now();
        let same = self.published.vitals.borrow().as_ref().is_some_and(|vitals| vitals.leadership == leadership);
        if same && now < self.published.next_vitals {
            return;
        }
        self.published.next_vitals = now.plus(VITALS_EVERY);
        let vitals = Vitals { leadership, applied: self.state.revision, status: Arc::new(self.status(now)) };
        self.published.vitals.send_replace(Some(vitals));
    }
}
