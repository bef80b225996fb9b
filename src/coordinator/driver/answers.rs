//! Questions, and the proposals whose fate somebody waits for. Called by the driver's loop.

use std::collections::BTreeMap;

use super::{
    super::{
        core::{
            command::{Outcome, Proposal, Refusal},
            replica::ProposeError,
            report,
        },
        inbox::{AskError, Changed, Question, Reply},
    },
    Driver,
};
use crate::{
    host::clock,
    model::{
        numbers::{Millis, Revision},
        status::Status,
    },
};

/// Our proposals that are neither applied nor given up, by number.
#[derive(Default)]
pub struct Waiting {
    next: u64,
    proposals: BTreeMap<u64, Waiter>,
}

enum Waiter {
    /// The planner, which waits for its own proposals before it goes on.
    Planner,
    /// A client.
    Client(Reply<Changed>),
}

impl Waiting {
    fn add(&mut self, waiter: Waiter) -> u64 {
        self.next += 1;
        self.proposals.insert(self.next, waiter);
        self.next
    }

    /// The planner proposes something; its number.
    pub fn plan(&mut self) -> u64 {
        self.add(Waiter::Planner)
    }

    /// Is any of the planner's proposals under way?
    pub fn plans_in_flight(&self) -> bool {
        self.proposals.values().any(|waiter| matches!(waiter, Waiter::Planner))
    }

    /// Raft has committed it, and this came of it.
    pub fn applied(&mut self, number: u64, revision: Revision, outcome: Outcome) {
        if let Some(Waiter::Client(reply)) = self.proposals.remove(&number) {
            // A client that has gone needs no answer.
            let _ = reply.send(Ok(Changed { revision, outcome }));
        }
    }

    /// This one was not taken.
    pub fn give_up_one(&mut self, number: u64) {
        self.refuse(number, AskError::NotLeader);
    }

    fn refuse(&mut self, number: u64, error: AskError) {
        if let Some(Waiter::Client(reply)) = self.proposals.remove(&number) {
            let _ = reply.send(Err(error));
        }
    }

    /// Another term: whether they will ever be applied is not known here.
    pub fn give_up(&mut self) {
        for (_, waiter) in std::mem::take(&mut self.proposals) {
            if let Waiter::Client(reply) = waiter {
                let _ = reply.send(Err(AskError::NotLeader));
            }
        }
    }
}

impl Driver {
    /// Answers, or proposes and answers later. A reply that nobody takes any more is dropped.
    pub(super) fn answer(&mut self, question: Question) {
        let now = self.clock.now();
        if !self.replica.may_decide() {
            return refuse(question);
        }
        match question {
            Question::Status(reply) => {
                let _ = reply.send(Ok(self.status(now)));
            }
            Question::Events(after, reply) => {
                let events = self.state.events.iter().filter(|event| event.revision > after.0).cloned().collect();
                let _ = reply.send(Ok(events));
            }
            Question::Operation(id, reply) => {
                let operations = self.status(now).operations;
                let found = operations.into_iter().find(|operation| operation.id == id.as_str());
                let missing = || AskError::NotFound(format!("operation {id}; `howdah operation list` shows all"));
                let _ = reply.send(found.ok_or_else(missing));
            }
            Question::Change(change, reason, reply) => {
                let command = change(&self.state.policy);
                if let Some(outcome) = self.answered_already(&command, now) {
                    return drop(reply.send(Ok(Changed { revision: self.state.revision, outcome })));
                }
                let number = self.waiting.add(Waiter::Client(reply));
                let proposal = Proposal { command, reason, time_ms: clock::unix_ms(), based_on: None };
                match self.propose(number, proposal) {
                    Ok(()) => {}
                    Err(ProposeError::NotLeader) => self.waiting.refuse(number, AskError::NotLeader),
                    Err(ProposeError::Full | ProposeError::Changing) => self.waiting.refuse(number, AskError::Busy),
                }
            }
        }
    }

    pub(super) fn status(&self, now: Millis) -> Status {
        report::status(&self.state, &self.observed, now, self.coordinators(now))
    }
}

fn refuse(question: Question) {
    match question {
        Question::Status(reply) => drop(reply.send(Err(AskError::NotLeader))),
        Question::Events(_, reply) => drop(reply.send(Err(AskError::NotLeader))),
        Question::Operation(_, reply) => drop(reply.send(Err(AskError::NotLeader))),
        Question::Change(_, _, reply) => drop(reply.send(Err(AskError::NotLeader))),
    }
}

impl From<Refusal> for tonic::Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::NotFound(_) => Self::not_found(text),
            Refusal::Precondition(_) => Self::failed_precondition(text),
            Refusal::Stale { .. } => Self::aborted(text),
        }
    }
}
