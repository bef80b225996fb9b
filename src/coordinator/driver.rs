//! The one loop that owns a coordinator's Raft replica, its state and what it observes, on a thread
//! of its own: a busy runtime does not delay it and a slow disk delays nobody else. Called by `run`.
//!
//! ```text
//! inputs, ticks ─► replica ─► persist ─► send ─► apply ─► answer ─► publish
//!      ▲                                                    │
//!      └──────────── proposals ◄── plan (leader only) ◄─────┘
//! ```
//!
//! The order persist → send → apply is written once, in `Effects::steps`; `settle` takes the steps, and only
//! then are questions answered. What cannot be persisted stops the process.

mod answers;
mod members;
mod publish;

use std::{
    collections::BTreeMap,
    sync::mpsc::{Receiver, RecvTimeoutError},
};

use super::{
    core::{
        command::{Command, Outcome, Proposal},
        log_format::{self, Entry, FormatError},
        observed::Observed,
        planner::{World, plan},
        replica::{Committed, ProposeError, Replica, Step, StepError, TICK_MS},
        state::State,
        succession::{Succession, Verdict},
    },
    inbox::{Input, Outlets},
    log_store::{LogStore, WriteError},
    peers::Peers,
};
use crate::{
    host::clock::{self, Clock},
    model::{
        coordinator::Coordinator,
        ids::{ClusterName, CoordinatorId},
        numbers::{Millis, Revision},
        policy::Policy,
    },
    wire::agent::CoordinatorSays,
};
use answers::Waiting;
use publish::Published;

/// Time between two looks of the planner when nothing happens: a fiftieth of a second is less than any
/// of its time limits, and costs nothing.
const PLAN_EVERY: Millis = Millis(20);
const TICK: Millis = Millis(TICK_MS);
/// Inputs taken before their consequences are made durable together: one fsync for many proposals,
/// but ticks are not kept waiting.
const BATCH: usize = 512;
/// How long a leader that stops waits for another to take over: two heartbeats and a write.
const HAND_OVER: Millis = Millis(300);

/// Why the loop ended.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// Nothing may be promised that is not durable.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The log contains what this program does not understand.
    #[error("log entry {revision} was written by a newer version: {source}; upgrade this coordinator")]
    Entry {
        /// Its index.
        revision: Revision,
        /// Why.
        #[source]
        source: FormatError,
    },
    /// This coordinator was removed by people.
    #[error(
        "{me} was removed from cluster {cluster} and has ended; to bring this process back, give it an empty \
         directory and run `howdah coordinator-member add` with its address"
    )]
    Removed {
        /// Its number.
        me: CoordinatorId,
        /// The cluster.
        cluster: ClusterName,
    },
    /// This coordinator's log is not what it was.
    #[error(transparent)]
    Forgotten(#[from] StepError),
    /// Raft refused to go on.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

/// Who this coordinator is.
pub struct Identity {
    /// Its number.
    pub me: CoordinatorId,
    /// Number and gRPC URL of those known when it became a coordinator.
    pub known: BTreeMap<CoordinatorId, String>,
    /// Those that the cluster began with; empty where this one joined later.
    pub founders: BTreeMap<CoordinatorId, Coordinator>,
    /// The cluster.
    pub cluster: ClusterName,
    /// What a new cluster begins with.
    pub policy: Policy,
    /// Drawn when the process began: tells its own proposals from those of others.
    pub origin: u64,
}

/// A coordinator's moving parts.
pub struct Driver {
    identity: Identity,
    clock: Clock,
    replica: Replica,
    store: LogStore,
    peers: Peers,
    /// The coordinators that `peers` and everybody's lists follow.
    rostered: Option<(BTreeMap<CoordinatorId, Coordinator>, u64)>,
    state: State,
    observed: Observed,
    /// When each peer was last heard of, and its process id.
    heard: BTreeMap<CoordinatorId, (Millis, u32)>,
    /// The term in which this coordinator leads.
    reigning: Option<u64>,
    succession: Succession,
    waiting: Waiting,
    published: Published,
    next_tick: Millis,
    next_plan: Millis,
}

impl Driver {
    /// Everything as it was saved: `snapshot` is the state at the beginning of the log.
    pub fn new(
        identity: Identity,
        replica: Replica,
        store: LogStore,
        snapshot: Option<Committed>,
        peers: Peers,
        outlets: Outlets,
    ) -> Result<(Self, Receiver<Input>), DriverError> {
        let (published, inbox) = Published::new(outlets);
        let mut driver = Self {
            identity,
            clock: Clock::start(),
            replica,
            store,
            peers,
            rostered: None,
            state: State::default(),
            observed: Observed::default(),
            heard: BTreeMap::new(),
            reigning: None,
            succession: Succession::default(),
            waiting: Waiting::default(),
            published,
            next_tick: TICK,
            next_plan: Millis(0),
        };
        if let Some(snapshot) = snapshot {
            driver.restore(&snapshot)?;
        }
        driver.follow_members();
        Ok((driver, inbox))
    }

    /// Runs until it is told to stop, or cannot go on.
    pub fn run(mut self, inbox: &Receiver<Input>) -> Result<(), DriverError> {
        let mut stop_at = None;
        loop {
            let mut questions = Vec::new();
            match inbox.recv_timeout(self.next_tick.min(self.next_plan).since(self.clock.now()).duration()) {
                Ok(first) => {
                    for input in std::iter::once(first).chain(inbox.try_iter()).take(BATCH) {
                        match input {
                            // Answered once everything before it is settled.
                            Input::Ask(question) => questions.push(question),
                            Input::Stop if stop_at.is_none() => {
                                let wait = if self.replica.hand_over() { HAND_OVER } else { Millis(0) };
                                stop_at = Some(self.clock.now().plus(wait));
                            }
                            other => self.take(other)?,
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.tick();
            self.settle()?;
            for question in questions {
                self.answer(question);
            }
            self.plan();
            self.settle()?;
            self.follow_members();
            self.publish();
            if stop_at.is_some_and(|at| self.reigning.is_none() || self.clock.now() >= at) {
                return Ok(());
            }
        }
    }

    /// One input.
    fn take(&mut self, input: Input) -> Result<(), DriverError> {
        let now = self.clock.now();
        match input {
            Input::Raft(message, sender) => {
                let from = CoordinatorId(message.from);
                if self.state.was_removed(from) {
                    return Ok(());
                }
                self.heard.insert(from, (now, sender.pid));
                self.succession.heard(from);
                self.peers.meet(from, &sender.url);
                match self.replica.step(message) {
                    Err(StepError::Refused(error)) => tracing::debug!(%error, "raft message ignored"),
                    other => other?,
                }
            }
            Input::Removed(by) => {
                tracing::info!(%by, "a peer says that this coordinator was removed");
                return Err(self.removed());
            }
            Input::Unreachable(peer) => {
                self.replica.unreachable(peer);
                self.succession.broke(peer);
            }
            Input::AgentConnected(connection, registration, outbox) => {
                if self.reigning.is_some() {
                    let member = registration.container.id.clone();
                    tracing::info!(%member, incarnation = registration.incarnation, "agent connected");
                    self.observed.member_connected(registration.container, connection, now);
                    self.published.attend(member, connection, outbox);
                } else {
                    outbox.send_replace(CoordinatorSays::NotLeader(self.leader_url()));
                }
            }
            Input::AgentReported(connection, report) => self.observed.member_reported(connection, *report, now),
            Input::AgentDisconnected(connection, member) => {
                tracing::info!(%member, "agent disconnected");
                self.observed.member_disconnected(&member, connection, now);
                self.published.leave(&member, connection);
            }
            Input::RouterReported(connection, report) => self.observed.router_reported(connection, report, now),
            Input::RouterDisconnected(connection, router) => {
                self.observed.router_disconnected(&router, connection, now);
            }
            // The loop's own.
            Input::Ask(_) | Input::Stop => {}
        }
        Ok(())
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if now >= self.next_tick {
            self.replica.tick();
            self.watch_leader(now);
            // After a pause of our own the ticks that were missed do not count.
            self.next_tick = now.plus(TICK).min(self.next_tick.plus(TICK)).max(now);
        }
    }

    fn watch_leader(&mut self, now: Millis) {
        let leader = self.replica.leadership().leader;
        let heard = leader.and_then(|leader| self.heard.get(&leader)).map_or(Millis(0), |(at, _)| *at);
        let coordinators = self.addresses();
        match self.succession.look(self.identity.me, coordinators.keys(), leader, heard, now) {
            Verdict::Stay => {}
            Verdict::Forget => {
                tracing::info!(?leader, "connection to the leader is broken and its heartbeats are missing");
                self.replica.forget_leader();
            }
            Verdict::Stand => self.replica.campaign(),
        }
    }

    /// Everything that follows from the inputs so far: persist → send → apply → answer.
    fn settle(&mut self) -> Result<(), DriverError> {
        while let Some(effects) = self.replica.turn() {
            for step in effects.steps() {
                match step {
                    Step::Send(messages) => self.peers.send(messages),
                    Step::Persist(persist) => self.store.persist(&persist)?,
                    Step::NoteLeadership => self.follow_leadership(),
                    Step::Restore(snapshot) => self.restore(&snapshot)?,
                    Step::Apply(entry) => self.apply(&entry)?,
                    Step::Finish(number) => self.replica.finished(number),
                }
            }
        }
        if self.replica.wants_compaction() {
            let snapshot = self.replica.compact(log_format::encode_state(&self.state))?;
            self.store.compact(&snapshot)?;
            tracing::debug!(revision = %self.state.revision, bytes = snapshot.data.len(), "log compacted");
        }
        Ok(())
    }

    fn restore(&mut self, snapshot: &Committed) -> Result<(), DriverError> {
        let unreadable = |source| DriverError::Entry { revision: snapshot.revision, source };
        self.state = log_format::decode_state(&snapshot.data).map_err(unreadable)?;
        tracing::info!(revision = %snapshot.revision, "state restored from a snapshot");
        Ok(())
    }

    fn apply(&mut self, committed: &Committed) -> Result<(), DriverError> {
        let revision = committed.revision;
        let Entry { origin, number, proposal, .. } =
            Entry::decode(&committed.data).map_err(|source| DriverError::Entry { revision, source })?;
        let outcome = self.state.apply(revision, &proposal);
        self.change_members(&proposal, &outcome)?;
        if self.reigning.is_some() {
            self.log(revision, &proposal, &outcome);
        }
        if origin == self.identity.origin {
            self.waiting.applied(number, revision, outcome);
        }
        Ok(())
    }

    /// One line per decision, and it is the event that people see.
    fn log(&self, revision: Revision, proposal: &Proposal, outcome: &Outcome) {
        if let Outcome::Refused(refusal) = outcome {
            tracing::debug!(%revision, reason = proposal.reason, %refusal, "proposal refused");
        }
        for event in self.state.events.iter().rev().take_while(|event| event.revision == revision.0) {
            tracing::info!(%revision, group = event.group, kind = event.kind, "{}", event.message);
        }
    }

    /// Notices when this coordinator begins or ceases to lead: whatever it promised or remembered as
    /// the leader of another term is void.
    fn follow_leadership(&mut self) {
        let leadership = self.replica.leadership();
        let reigning = leadership.ours.then_some(leadership.term);
        if reigning == self.reigning {
            return;
        }
        self.reigning = reigning;
        self.waiting.give_up();
        let leader = self.leader_url();
        self.published.send_agents_away(leader.as_ref());
        self.observed.note_leadership(self.clock.now());
        let verb = if leadership.ours { "leads" } else { "no longer leads" };
        tracing::info!(term = leadership.term, "this coordinator {verb}");
    }

    fn leader_url(&self) -> Option<String> {
        self.addresses().remove(&self.replica.leadership().leader?)
    }

    /// The leader's next decisions.
    fn plan(&mut self) {
        let now = self.clock.now();
        self.next_plan = now.plus(if self.reigning.is_some() { PLAN_EVERY } else { TICK });
        if !self.replica.may_decide() {
            return;
        }
        if self.observed.turn(&self.state, now) {
            tracing::warn!("this coordinator was paused; members' time limits begin anew");
        }
        let in_flight = self.waiting.plans_in_flight();
        let proposals = if self.state.cluster.is_some() {
            plan(&World { state: &self.state, observed: &self.observed, now, time_ms: clock::unix_ms(), in_flight })
        } else if in_flight {
            Vec::new()
        } else {
            vec![self.initialise()]
        };
        for proposal in proposals {
            self.plan_proposal(proposal);
        }
        if !in_flight {
            self.plan_members(now);
        }
    }

    /// Proposes what we decided ourselves.
    fn plan_proposal(&mut self, proposal: Proposal) {
        let number = self.waiting.plan();
        if let Err(error) = self.propose(number, proposal) {
            tracing::debug!(%error, "decision not proposed");
            self.waiting.give_up_one(number);
        }
    }

    fn initialise(&self) -> Proposal {
        let Identity { cluster, policy, .. } = &self.identity;
        Proposal {
            command: Command::Initialise { cluster: cluster.clone(), policy: policy.clone() },
            reason: "the cluster is new".to_owned(),
            time_ms: clock::unix_ms(),
            based_on: None,
        }
    }

    fn propose(&mut self, number: u64, proposal: Proposal) -> Result<(), ProposeError> {
        let entry = Entry::new(self.identity.origin, number, proposal);
        match &entry.proposal.command {
            Command::ChangeCoordinators { change } => self.replica.propose_change(entry.encode(), change),
            _ => self.replica.propose(entry.encode()),
        }
    }
}
