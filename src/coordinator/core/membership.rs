//! How coordinators are added, removed and replaced while the others go on. Pure; called by the leader's
//! driver after the planner, and by whoever asks for a change.
//!
//! ```text
//! asked for ─► Expected ─ its process comes ─► Learner ─ has caught up ─► Voter ─► removed, for ever
//! ```
//!
//! One step at a time, each an entry of the log that Raft and the state take in together; the next is
//! decided only once the last is applied. A newcomer counts in no majority before it has the log, so a
//! change never makes the group wait for a copy. No step is taken that would leave fewer live voters than
//! a majority needs; a leader that is to go hands over first.
//!
//! A coordinator that lost its directory is *replaced*, never let in again: with its log it has lost its
//! votes and its word for entries that others count on. It gets a new number, the old one is retired:
//! a dead one before the newcomer votes (so that three with one dead are never four that need three), a
//! live one after it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    command::{CoordinatorChange, OperationKind, OperationOutcome, Refusal},
    operations::Operation,
    replica::Progress,
    state::State,
};
use crate::model::{
    coordinator::{Coordinator, CoordinatorRole},
    ids::{CoordinatorId, OperationId},
    numbers::Revision,
};

/// A learner this close to the newest entry has caught up: the rest takes it one round trip.
const CLOSE: u64 = 100;

/// What the leader knows of the others.
#[derive(Debug, Clone)]
pub struct Attendance {
    /// The leader itself.
    pub me: CoordinatorId,
    /// Newest entry applied.
    pub applied: Revision,
    /// How far everybody is.
    pub progress: BTreeMap<CoordinatorId, Progress>,
    /// Who was heard of lately, the leader included.
    pub alive: BTreeSet<CoordinatorId>,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Propose this, with this reason.
    Change(CoordinatorChange, String),
    /// Let another lead: this one is to be removed.
    HandOver,
}

/// The next step, and what each operation waits for that has none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// At most one at a time.
    pub step: Option<Step>,
    /// Sentences for people.
    pub waits: BTreeMap<OperationId, String>,
}

/// What an operation can do next.
type Next = Result<Step, String>;

/// Plans the change of the coordinators, in the order in which it was asked for.
pub fn plan(state: &State, attendance: &Attendance) -> Plan {
    let mut plan = Plan::default();
    for operation in state.operations.iter().filter(|operation| operation.runs()) {
        match next(state, attendance, operation) {
            Some(Ok(step)) if plan.step.is_none() => plan.step = Some(step),
            Some(Ok(_)) => drop(plan.waits.insert(operation.id.clone(), "waits for its turn".to_owned())),
            Some(Err(wait)) => drop(plan.waits.insert(operation.id.clone(), wait)),
            None => {}
        }
    }
    plan
}

/// `None`: the operation is not about coordinators, or is about to end.
fn next(state: &State, attendance: &Attendance, operation: &Operation) -> Option<Next> {
    match &operation.kind {
        OperationKind::AddCoordinator { .. } => newcomer(state, attendance, operation, None),
        OperationKind::RemoveCoordinator { coordinator, force } => {
            state.coordinators.get(coordinator).map(|_| remove(state, attendance, *coordinator, *force))
        }
        OperationKind::ReplaceCoordinator { coordinator, .. } => {
            let old = state.coordinators.contains_key(coordinator).then_some(*coordinator);
            newcomer(state, attendance, operation, old)
        }
        _ => None,
    }
}

/// Brings in the coordinator that an operation is about, and retires the `old` one it replaces.
fn newcomer(state: &State, attendance: &Attendance, operation: &Operation, old: Option<CoordinatorId>) -> Option<Next> {
    let (id, coordinator) = subject(state, operation)?;
    let url = &coordinator.url;
    Some(match (coordinator.role, old) {
        (CoordinatorRole::Expected, _) if coordinator.directory.is_none() => Err(format!(
            "waits for {id} to be started with an empty directory: `howdah coordinator --join … --url {url}`"
        )),
        (CoordinatorRole::Expected, _) => Ok(Step::Change(
            CoordinatorChange::AddLearner { coordinator: id },
            format!("it has come to {url} and is given the log"),
        )),
        (CoordinatorRole::Learner, _) if !caught_up(attendance, id) => Err(format!("{id} is given the log")),
        (CoordinatorRole::Learner, Some(old)) if !attendance.alive.contains(&old) => {
            remove(state, attendance, old, true)
        }
        (CoordinatorRole::Learner, _) => keeps_majority(attendance, &with(state, id)).map(|()| {
            let reason = "it has the log and counts from now on".to_owned();
            Step::Change(CoordinatorChange::Promote { coordinator: id }, reason)
        }),
        (CoordinatorRole::Voter, Some(old)) => remove(state, attendance, old, true),
        (CoordinatorRole::Voter, None) => return None,
    })
}

/// `force`: also while others are down.
fn remove(state: &State, attendance: &Attendance, id: CoordinatorId, force: bool) -> Next {
    check_removal(state, attendance, id, force).map_err(|refusal| refusal.to_string())?;
    if id == attendance.me {
        return Ok(Step::HandOver);
    }
    let reason = "a person asked for it".to_owned();
    Ok(Step::Change(CoordinatorChange::Remove { coordinator: id }, reason))
}

/// May this coordinator be removed now? Asked before the operation begins, and again before its step.
pub fn check_removal(state: &State, attendance: &Attendance, id: CoordinatorId, force: bool) -> Result<(), Refusal> {
    if state.coordinator(id)?.role != CoordinatorRole::Voter {
        return Ok(());
    }
    let left: BTreeSet<_> = state.voters().filter(|voter| *voter != id).collect();
    if left.is_empty() {
        return Err(Refusal::Precondition(format!("{id} is the only coordinator that votes: add another one first")));
    }
    keeps_majority(attendance, &left)
        .map_err(|why| Refusal::Precondition(format!("without {id}, {why}; or remove one that is down instead")))?;
    let down: Vec<_> = left.difference(&attendance.alive).map(ToString::to_string).collect();
    if down.is_empty() || force || !attendance.alive.contains(&id) {
        return Ok(());
    }
    Err(Refusal::Precondition(format!(
        "{} of the others does not answer: without {id}, fewer of them may be lost than now. Bring it back, remove it \
         instead, or say --force",
        down.join(", ")
    )))
}

/// Do more than half of these answer?
fn keeps_majority(attendance: &Attendance, voters: &BTreeSet<CoordinatorId>) -> Result<(), String> {
    let alive = voters.intersection(&attendance.alive).count();
    if 2 * alive > voters.len() {
        return Ok(());
    }
    let down: Vec<_> = voters.difference(&attendance.alive).map(ToString::to_string).collect();
    let (down, all) = (down.join(", "), voters.len());
    Err(format!(
        "{alive} of {all} voters would answer, which is no majority, and nothing could be decided: bring {down} back first"
    ))
}

fn with(state: &State, id: CoordinatorId) -> BTreeSet<CoordinatorId> {
    state.voters().chain([id]).collect()
}

fn caught_up(attendance: &Attendance, id: CoordinatorId) -> bool {
    let matched = attendance.progress.get(&id).map_or(0, |progress| progress.matched);
    matched > 0 && matched + CLOSE >= attendance.applied.0 && attendance.alive.contains(&id)
}

/// The coordinator that an operation has given a number.
fn subject<'a>(state: &'a State, operation: &Operation) -> Option<(CoordinatorId, &'a Coordinator)> {
    let found = state.coordinators.iter().find(|(id, _)| id.to_string() == operation.target.as_str());
    found.map(|(id, coordinator)| (*id, coordinator))
}

/// How an operation about coordinators has ended, if it has.
pub fn outcome(state: &State, operation: &Operation) -> Option<OperationOutcome> {
    let id = &operation.target;
    let (done, failed) = (|message| OperationOutcome::Done { message }, |message| OperationOutcome::Failed { message });
    let newcomer = subject(state, operation).map(|(_, it)| (it.role, &it.url));
    match &operation.kind {
        OperationKind::RemoveCoordinator { coordinator, .. } => {
            (!state.coordinators.contains_key(coordinator)).then(|| done(format!("{coordinator} is removed")))
        }
        OperationKind::AddCoordinator { .. } => match newcomer {
            None => Some(failed(format!("{id} was removed before it voted"))),
            Some((CoordinatorRole::Voter, url)) => Some(done(format!("{id} at {url} votes"))),
            Some(_) => None,
        },
        OperationKind::ReplaceCoordinator { coordinator, .. } => match newcomer {
            None => Some(failed(format!("{id}, which was to replace {coordinator}, was removed"))),
            Some((CoordinatorRole::Voter, url)) if !state.coordinators.contains_key(coordinator) => {
                Some(done(format!("{id} at {url} votes instead of {coordinator}")))
            }
            Some(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
