//! The coordinators themselves: who they are now, what may be asked of them, and the next step of a change
//! of them. Called by the driver's loop.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    super::{
        core::{
            command::{Command, CoordinatorChange, OperationKind, Outcome, Proposal},
            membership::{self, Attendance, Step},
        },
        roster::Roster,
    },
    Driver, DriverError,
};
use crate::{
    host::clock,
    model::{
        coordinator::{Coordinator, CoordinatorRole},
        ids::CoordinatorId,
        numbers::Millis,
        status::CoordinatorStatus,
    },
};

/// A peer not heard of for this long is shown as unhealthy, and counts as down where a majority must be
/// kept: twenty heartbeats.
const PEER_SILENCE: Millis = Millis(1_000);

impl Driver {
    /// gRPC URLs of all that take part: out of the state, and before that knows, as the process was started.
    pub(super) fn addresses(&self) -> BTreeMap<CoordinatorId, String> {
        if self.state.coordinators.is_empty() {
            return self.identity.known.clone();
        }
        let part = |it: &&Coordinator| it.role != CoordinatorRole::Expected;
        let members = self.state.coordinators.iter().filter(|(_, it)| part(it));
        members.map(|(id, it)| (*id, it.url.clone())).collect()
    }

    /// Lets peers' streams and everybody's lists follow the state.
    pub(super) fn follow_members(&mut self) {
        let stamp = (self.state.coordinators.clone(), self.state.last_coordinator);
        if self.rostered.as_ref() == Some(&stamp) {
            return;
        }
        self.rostered = Some(stamp);
        let urls = self.addresses();
        let mut others = urls.clone();
        others.remove(&self.identity.me);
        let state = &self.state;
        self.peers.follow(&others, |id| !state.coordinators.contains_key(&id) && !state.was_removed(id));
        let roster = Roster {
            me: Some(self.identity.me),
            urls,
            channels: self.peers.channels(),
            last: self.state.last_coordinator,
            given: self.state.coordinators.keys().copied().collect(),
        };
        self.published.call(Arc::new(roster));
    }

    /// What the leader knows of the others.
    fn attendance(&self, now: Millis) -> Attendance {
        let me = self.identity.me;
        let heard = self.heard.iter().filter(|(_, (at, _))| now.since(*at) < PEER_SILENCE);
        let alive: BTreeSet<_> = heard.map(|(id, _)| *id).chain([me]).collect();
        Attendance { me, applied: self.replica.applied(), progress: self.replica.progress(), alive }
    }

    /// The answer to a change that need not, or must not, be proposed.
    pub(super) fn answered_already(&self, command: &Command, now: Millis) -> Option<Outcome> {
        match command {
            Command::ClaimCoordinator { url, directory } => match self.state.number_of(url, *directory) {
                Ok(number) => number.map(Outcome::Coordinator),
                Err(refusal) => Some(Outcome::Refused(refusal)),
            },
            Command::BeginOperation { key, kind: OperationKind::RemoveCoordinator { coordinator, force } } => {
                // Who is down is known to the leader alone, not to the state.
                let known = self.state.operations.iter().any(|operation| operation.key == *key);
                let check = membership::check_removal(&self.state, &self.attendance(now), *coordinator, *force);
                check.err().filter(|_| !known).map(Outcome::Refused)
            }
            _ => None,
        }
    }

    /// The next step of a change of the coordinators; nothing that was planned earlier is under way.
    pub(super) fn plan_members(&mut self, now: Millis) {
        if self.state.cluster.is_none() {
            return;
        }
        if self.state.coordinators.is_empty() {
            let coordinators = self.identity.founders.clone();
            let reason = "from now on the coordinators are known to the state".to_owned();
            return self.plan_one(Command::RecordCoordinators { coordinators }, reason);
        }
        let plan = membership::plan(&self.state, &self.attendance(now));
        self.observed.waits = plan.waits;
        match plan.step {
            Some(Step::Change(change, reason)) => self.plan_one(Command::ChangeCoordinators { change }, reason),
            Some(Step::HandOver) => drop(self.replica.hand_over()),
            None => {}
        }
    }

    fn plan_one(&mut self, command: Command, reason: String) {
        self.plan_proposal(Proposal { command, reason, time_ms: clock::unix_ms(), based_on: None });
    }

    /// A change of the coordinators that the state took in is Raft's as well.
    pub(super) fn change_members(&mut self, proposal: &Proposal, outcome: &Outcome) -> Result<(), DriverError> {
        if let (Command::ChangeCoordinators { change }, Outcome::Applied) = (&proposal.command, outcome) {
            self.replica.change(change)?;
            if *change == (CoordinatorChange::Remove { coordinator: self.identity.me }) {
                return Err(self.removed());
            }
        }
        Ok(())
    }

    /// This coordinator is none any more: it ends, and does not start again.
    pub(super) fn removed(&self) -> DriverError {
        if let Err(error) = self.store.retire() {
            tracing::warn!(%error, "the directory could not be marked as retired");
        }
        DriverError::Removed { me: self.identity.me, cluster: self.identity.cluster.clone() }
    }

    /// What this coordinator knows of itself and its peers.
    pub(super) fn coordinators(&self, now: Millis) -> Vec<CoordinatorStatus> {
        let leadership = self.replica.leadership();
        let mut urls = self.addresses();
        urls.extend(self.state.coordinators.iter().map(|(id, it)| (*id, it.url.clone())));
        let describe = |(id, url): (CoordinatorId, String)| {
            let me = id == self.identity.me;
            let heard = self.heard.get(&id).filter(|(at, _)| now.since(*at) < PEER_SILENCE);
            let role = match self.state.coordinators.get(&id).map(|it| it.role) {
                Some(CoordinatorRole::Expected) => "expected",
                Some(CoordinatorRole::Learner) => "learner",
                _ if leadership.leader == Some(id) => "leader",
                _ => "follower",
            };
            CoordinatorStatus {
                id: id.0,
                address: url.trim_start_matches("http://").trim_start_matches("https://").to_owned(),
                role: role.to_owned(),
                term: leadership.term,
                healthy: me || heard.is_some(),
                pid: if me { Some(std::process::id()) } else { heard.map(|(_, pid)| *pid) },
            }
        };
        urls.into_iter().map(describe).collect()
    }
}
