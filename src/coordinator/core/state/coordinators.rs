//! Who the coordinators are. Numbers are given once and never again; a number belongs to the one
//! directory that claimed it, because whoever comes with another one has lost what it promised.

use std::collections::BTreeMap;

use super::State;
use crate::{
    coordinator::core::command::{CoordinatorChange, OperationKind, Outcome, Proposal, Refusal},
    model::{
        coordinator::{Coordinator, CoordinatorRole},
        ids::{CoordinatorId, GroupId},
    },
};

/// Coordinators that may be there at once. Each voter makes every decision wait for one more; more than
/// seven make nothing safer, and twice as many leave room to replace them all.
const COORDINATORS: usize = 14;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal::Precondition(why.into()))
}

impl State {
    /// The coordinator of this number.
    pub fn coordinator(&self, id: CoordinatorId) -> Result<&Coordinator, Refusal> {
        let missing = || format!("there is no {id}; see `howdah coordinator-member list`");
        self.coordinators.get(&id).ok_or_else(|| Refusal::NotFound(missing()))
    }

    /// Those that count in majorities.
    pub fn voters(&self) -> impl Iterator<Item = CoordinatorId> {
        self.coordinators.iter().filter(|(_, it)| it.role == CoordinatorRole::Voter).map(|(id, _)| *id)
    }

    /// This number was among the coordinators and will never be again.
    pub fn was_removed(&self, id: CoordinatorId) -> bool {
        id.0 <= self.last_coordinator && !self.coordinators.contains_key(&id)
    }

    pub(super) fn record_coordinators(
        &mut self,
        coordinators: &BTreeMap<CoordinatorId, Coordinator>,
    ) -> Result<Outcome, Refusal> {
        if !self.coordinators.is_empty() {
            return refuse("the coordinators are written down already");
        }
        let Some(last) = coordinators.keys().next_back() else { return refuse("no coordinators are given") };
        self.last_coordinator = last.0;
        self.coordinators = coordinators.clone();
        Ok(Outcome::Applied)
    }

    /// Which number a process at this address with this directory may have: `Ok(None)` is an expected one
    /// that it has to claim first.
    pub fn number_of(&self, url: &str, directory: u64) -> Result<Option<CoordinatorId>, Refusal> {
        let mut here = self.coordinators.iter().filter(|(_, it)| it.url == url).peekable();
        if here.peek().is_none() {
            return Err(Refusal::NotFound(format!(
                "no coordinator is expected at {url}: run `howdah coordinator-member add {url}`"
            )));
        }
        let known: Vec<_> = here.collect();
        if let Some((id, _)) = known.iter().find(|(_, it)| it.directory == Some(directory)) {
            return Ok(Some(**id));
        }
        if known.iter().any(|(_, it)| it.directory.is_none()) {
            return Ok(None);
        }
        let id = known[0].0;
        refuse(format!(
            "{id} at {url} had another directory, and with it this one has lost what it promised: put that directory \
             back, or run `howdah coordinator-member replace {}`",
            id.0
        ))
    }

    pub(super) fn claim_coordinator(
        &mut self,
        url: &str,
        directory: u64,
        proposal: &Proposal,
    ) -> Result<Outcome, Refusal> {
        if let Some(id) = self.number_of(url, directory)? {
            return Ok(Outcome::Coordinator(id));
        }
        let mut expected = self.coordinators.iter_mut().filter(|(_, it)| it.url == url && it.directory.is_none());
        let (id, coordinator) = expected.next().expect("number_of has found it");
        let id = *id;
        coordinator.directory = Some(directory);
        self.event("", "coordinator-joined", format!("{id} has come to {url}"), proposal);
        Ok(Outcome::Coordinator(id))
    }

    pub(super) fn change_coordinators(
        &mut self,
        change: &CoordinatorChange,
        proposal: &Proposal,
    ) -> Result<Outcome, Refusal> {
        let (id, kind) = match *change {
            CoordinatorChange::AddLearner { coordinator } => {
                self.promote_from(coordinator, CoordinatorRole::Expected, CoordinatorRole::Learner)?;
                (coordinator, "coordinator-learns")
            }
            CoordinatorChange::Promote { coordinator } => {
                self.promote_from(coordinator, CoordinatorRole::Learner, CoordinatorRole::Voter)?;
                (coordinator, "coordinator-votes")
            }
            CoordinatorChange::Remove { coordinator } => {
                self.check_not_last(coordinator)?;
                self.coordinators.remove(&coordinator);
                (coordinator, "coordinator-removed")
            }
        };
        self.event("", kind, format!("{id}: {}", proposal.reason), proposal);
        Ok(Outcome::Applied)
    }

    fn promote_from(&mut self, id: CoordinatorId, from: CoordinatorRole, to: CoordinatorRole) -> Result<(), Refusal> {
        self.coordinator(id)?;
        let coordinator = self.coordinators.get_mut(&id).expect("it is there");
        if coordinator.role != from || coordinator.directory.is_none() {
            return refuse(format!("{id} is {:?} and cannot become {to:?}", coordinator.role));
        }
        coordinator.role = to;
        Ok(())
    }

    fn check_not_last(&self, id: CoordinatorId) -> Result<(), Refusal> {
        self.coordinator(id)?;
        if self.voters().all(|voter| voter == id) {
            return refuse(format!("{id} is the only coordinator that votes: add another one first"));
        }
        Ok(())
    }

    /// Checks what is asked for, gives a newcomer its number, and names what the operation is about.
    pub(super) fn begin_coordinators(&mut self, kind: &OperationKind) -> Result<GroupId, Refusal> {
        if self.coordinators.is_empty() {
            return refuse("the coordinators are not written down yet: try again in a moment");
        }
        match kind {
            OperationKind::RemoveCoordinator { coordinator, .. } => {
                self.check_not_last(*coordinator)?;
                self.check_unchanged(*coordinator)?;
                Ok(name(*coordinator))
            }
            OperationKind::ReplaceCoordinator { coordinator, url } => {
                self.coordinator(*coordinator)?;
                self.check_unchanged(*coordinator)?;
                self.expect_at(url, Some(*coordinator))
            }
            OperationKind::AddCoordinator { url } => self.expect_at(url, None),
            OperationKind::AddShard { .. } | OperationKind::Switchover { .. } | OperationKind::Failover { .. } => {
                unreachable!("not about coordinators")
            }
        }
    }

    fn expect_at(&mut self, url: &str, instead_of: Option<CoordinatorId>) -> Result<GroupId, Refusal> {
        let mut others = self.coordinators.iter().filter(|(id, _)| Some(**id) != instead_of);
        if let Some((id, _)) = others.find(|(_, it)| it.url == url) {
            return refuse(format!("{id} is at {url} already: give each coordinator its own address"));
        }
        if self.coordinators.len() >= COORDINATORS {
            return refuse(format!("there are {COORDINATORS} coordinators already: remove some first"));
        }
        self.last_coordinator += 1;
        let id = CoordinatorId(self.last_coordinator);
        let coordinator = Coordinator { url: url.to_owned(), role: CoordinatorRole::Expected, directory: None };
        self.coordinators.insert(id, coordinator);
        Ok(name(id))
    }

    /// Nobody else is removing or replacing it.
    fn check_unchanged(&self, id: CoordinatorId) -> Result<(), Refusal> {
        let about = |kind: &OperationKind| match kind {
            OperationKind::RemoveCoordinator { coordinator, .. }
            | OperationKind::ReplaceCoordinator { coordinator, .. } => *coordinator == id,
            _ => false,
        };
        match self.operations.iter().find(|operation| operation.runs() && about(&operation.kind)) {
            Some(other) => refuse(format!("{} is running for {id}: wait until it has ended", other.id)),
            None => Ok(()),
        }
    }
}

/// What an operation about a coordinator is about.
fn name(id: CoordinatorId) -> GroupId {
    id.to_string().parse().expect("coordinator- and digits are a name")
}
