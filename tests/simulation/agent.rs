//! An agent's process: the real deciding code in the runner's loop. Goals, looks and ends of actions come in;
//! actions and reports go out.

use std::collections::BTreeSet;

use howdah::{
    agent::core::{
        action::Action,
        decide::decide,
        events::News,
        goals,
        inputs::{Ancestry, Data, Inputs, Postgres},
        report,
    },
    model::{
        numbers::Millis,
        observed::{PostgresSeen, Report},
    },
};

use super::{
    actions::Doing,
    control::Says,
    coordinator::cluster,
    world::{Event, World},
};

/// As the runner's, but for fewer looks.
const HEARTBEAT: Millis = Millis(100);
const QUICK: Millis = Millis(40);
const QUICK_FOR: Millis = Millis(1_000);
/// `coordinator_client`'s: how long the first word may take, and the pauses between rounds.
const FIRST_WORD: u64 = 700;
const BACKOFF: (u64, u64) = (30, 500);

pub struct Agent {
    pub inputs: Inputs,
    pub exclusive: Option<Doing>,
    pub awaiting: Option<Doing>,
    landed: Option<Landed>,
    look_wanted: u64,
    looking: bool,
    timer: u64,
    incarnation: u64,
    sequence: u64,
    reported: Option<Box<Report>>,
    reported_at: Millis,
    quick_until: Millis,
    /// The stream it reports on.
    pub line: Option<u64>,
    /// Streams whose first word it waits for.
    asking: BTreeSet<u64>,
    hint: Option<usize>,
    backoff: u64,
    note: String,
}

/// An action that has ended, and the look that will show what it did.
struct Landed {
    look: u64,
    action: Action,
    result: Result<Option<Ancestry>, String>,
}

/// What a look saw.
#[derive(Debug)]
pub struct Seen {
    pub number: u64,
    pub postgres: Postgres,
}

impl Agent {
    pub fn describe(&self) -> String {
        let order = self.inputs.goal.as_ref().map(|goal| (goal.epoch, goal.revision, &goal.order));
        format!(
            "agent has {order:?}, {:?}, does {:?} and {:?}, failure {:?}, line {:?}; {}",
            self.inputs.data, self.exclusive, self.awaiting, self.inputs.failure, self.line, self.note
        )
    }
}

impl World {
    pub fn start_agent(&mut self, member: usize) {
        let incarnation = self.id();
        let this = &mut self.members[member];
        let now = this.machine.clock(self.now);
        let memory = &this.memory;
        let postgres = if this.postgres.is_down() { Postgres::Down { crashed: None } } else { Postgres::Starting };
        let inputs = Inputs {
            group: memory.group.clone(),
            newest_revision: memory.revision,
            promise: memory.promise,
            postgres,
            ..Inputs::new(cluster(), this.id.clone(), now)
        };
        let agent = Agent {
            inputs,
            exclusive: None,
            awaiting: None,
            landed: None,
            look_wanted: 0,
            looking: false,
            timer: 0,
            incarnation,
            sequence: 0,
            reported: None,
            reported_at: Millis(0),
            quick_until: now.plus(QUICK_FOR),
            line: None,
            asking: BTreeSet::new(),
            hint: None,
            backoff: BACKOFF.0,
            note: String::new(),
        };
        this.agent = Some(Box::new(agent));
        let life = this.machine.life;
        self.refresh_data(member);
        self.want_look(member);
        self.after(1, Event::Seek { member, life });
    }

    fn agent(&mut self, member: usize) -> Option<&mut Agent> {
        self.members[member].agent.as_deref_mut()
    }

    /// Looks for the leader: all at once, or whom it was pointed to.
    pub fn seek(&mut self, member: usize, life: u64) {
        let this = &self.members[member];
        if this.machine.life != life || this.machine.is_down(self.now) {
            return;
        }
        let Some(agent) = &this.agent else { return self.start_agent(member) };
        if agent.line.is_some() {
            return;
        }
        for stream in agent.asking.clone() {
            self.close_by_agent(stream);
        }
        let all = self.coordinators.len();
        let Some(agent) = self.agent(member) else { return };
        let asked: Vec<_> = agent.hint.take().map_or_else(|| (0..all).collect(), |one| vec![one]);
        let streams: Vec<_> = asked.into_iter().map(|coordinator| self.open_stream(member, coordinator)).collect();
        if let Some(agent) = self.agent(member) {
            agent.asking.extend(streams);
        }
        self.after(FIRST_WORD, Event::Seek { member, life });
    }

    fn seek_later(&mut self, member: usize) {
        let wait = self.random.between(1, 20);
        let life = self.members[member].machine.life;
        let Some(agent) = self.agent(member) else { return };
        let wait = wait + agent.backoff;
        agent.backoff = (agent.backoff * 2).min(BACKOFF.1);
        self.after(wait, Event::Seek { member, life });
    }

    /// A stream of this agent is no more.
    pub fn agent_lost_stream(&mut self, member: usize, stream: u64) {
        let Some(agent) = self.agent(member) else { return };
        agent.asking.remove(&stream);
        if agent.line.take_if(|line| *line == stream).is_some() {
            self.seek_later(member);
        }
    }

    pub fn agent_told(&mut self, member: usize, stream: u64, says: Says) {
        let now = self.members[member].machine.clock(self.now);
        let Some(agent) = self.agent(member) else { return };
        if let Says::Close | Says::NotLeader(_) = says {
            let asked = agent.asking.contains(&stream);
            if let Says::NotLeader(leader) = says {
                agent.inputs.coordinator_seen = now;
                agent.hint = leader;
            }
            self.agent_lost_stream(member, stream);
            let Some(agent) = self.agent(member) else { return };
            if asked && agent.asking.is_empty() && agent.line.is_none() {
                self.seek_later(member);
            }
            return;
        }
        if agent.asking.remove(&stream) {
            if agent.line.is_some() {
                return self.close_by_agent(stream);
            }
            agent.line = Some(stream);
            (agent.backoff, agent.reported) = (BACKOFF.0, None);
            for other in std::mem::take(&mut agent.asking) {
                self.close_by_agent(other);
            }
        }
        if let Says::Goal(goal) = says {
            let Some(agent) = self.agent(member).filter(|agent| agent.line == Some(stream)) else { return };
            if goals::check(&agent.inputs, &goal).is_ok() {
                let group = goal.group.clone();
                let News { order, .. } = agent.inputs.obey(*goal);
                if order {
                    agent.quick_until = now.plus(QUICK_FOR);
                }
                self.members[member].memory.group = Some(group);
            }
        }
        self.agent_turn(member);
    }

    /// Asks for a look that begins after now; gives its number.
    fn want_look(&mut self, member: usize) -> u64 {
        let Some(agent) = self.agent(member) else { return 0 };
        agent.look_wanted += 1;
        let number = agent.look_wanted;
        if !std::mem::replace(&mut agent.looking, true) {
            self.begin_look(member, number);
        }
        number
    }

    fn begin_look(&mut self, member: usize, number: u64) {
        let (postgres, wait) = self.look_at_postgres(member);
        let life = self.members[member].machine.life;
        self.after(wait, Event::Look { member, life, seen: Box::new(Seen { number, postgres }) });
    }

    pub fn agent_sees(&mut self, member: usize, life: u64, seen: Seen) {
        let this = &mut self.members[member];
        let now = this.machine.clock(self.now);
        let alive = !this.postgres.is_down();
        let Some(agent) = this.agent.as_deref_mut().filter(|_| this.machine.life == life) else { return };
        let landed = agent.landed.take_if(|landed| seen.number >= landed.look);
        let promoting = matches!(agent.exclusive.as_ref().map(|it| &it.action), Some(Action::Promote { .. }));
        agent.inputs.see(seen.postgres, promoting, alive, now);
        let next = (agent.look_wanted > seen.number).then_some(agent.look_wanted);
        agent.looking = next.is_some();
        if let Some(Landed { action, result, .. }) = landed {
            self.agent_did(member, &action, result);
            self.refresh_data(member);
        }
        if let Some(next) = next {
            self.begin_look(member, next);
        }
        self.agent_turn(member);
    }

    fn agent_did(&mut self, member: usize, action: &Action, result: Result<Option<Ancestry>, String>) {
        let now = self.members[member].machine.clock(self.now);
        let told = result.as_ref().map(|_| ()).map_err(Clone::clone);
        self.tell(|| format!("member {member}: {action}: {told:?}"));
        let Some(agent) = self.agent(member) else { return };
        match result {
            Ok(answer) => agent.inputs.done(action, answer, now),
            Err(error) => agent.inputs.failed(action.clone(), error, now),
        }
    }

    fn refresh_data(&mut self, member: usize) {
        let this = &mut self.members[member];
        let Some(agent) = &mut this.agent else { return };
        agent.inputs.data = match (this.memory.unfinished, this.postgres.system_identifier) {
            (Some(unfinished), _) => Data::Unfinished(unfinished),
            (None, Some(system_identifier)) => Data::Ready { system_identifier },
            (None, None) => Data::Empty,
        };
    }

    /// `PostgreSQL` has ended, with or without the agent's doing.
    pub fn postmaster_ended(&mut self, member: usize, crashed: Option<String>) {
        let now = self.members[member].machine.clock(self.now);
        let Some(agent) = self.agent(member) else { return };
        agent.quick_until = now.plus(QUICK_FOR);
        agent.inputs.postmaster_ended(crashed);
        self.want_look(member);
        // Not at once: what ended it is still at work.
        let life = self.members[member].machine.life;
        if let Some(agent) = self.agent(member) {
            agent.timer += 1;
            let number = agent.timer;
            self.after(0, Event::AgentTimer { member, life, number });
        }
    }

    pub fn agent_timer(&mut self, member: usize, life: u64, number: u64) {
        if self.members[member].machine.life != life {
            return;
        }
        let Some(agent) = self.agent(member).filter(|agent| agent.timer == number) else { return };
        // What it sees makes it decide; while a look takes its time it goes on without.
        let looking = agent.looking;
        self.want_look(member);
        if looking {
            self.agent_turn(member);
        }
    }

    /// An action has ended: an exclusive one counts from the next look on.
    pub fn action_ended(&mut self, member: usize, action: Action, result: Result<Option<Ancestry>, String>) {
        if action.awaits_standbys() {
            self.agent_did(member, &action, result);
        } else {
            let now = self.members[member].machine.clock(self.now);
            let look = self.want_look(member);
            if let Some(agent) = self.agent(member) {
                agent.quick_until = now.plus(QUICK_FOR);
                agent.landed = Some(Landed { look, action, result });
            }
        }
        self.agent_turn(member);
    }

    /// Decides and acts until nothing more can begin, then reports.
    pub fn agent_turn(&mut self, member: usize) {
        let (now, life) = (self.members[member].machine.clock(self.now), self.members[member].machine.life);
        let decision = loop {
            let Some(agent) = self.agent(member) else { return };
            agent.inputs.now = now;
            if agent.line.is_some() {
                (agent.inputs.coordinator_seen, agent.inputs.leader_seen) = (now, now);
            }
            let landed = agent.landed.as_ref().map(|landed| landed.action.clone());
            agent.inputs.under_way = agent.exclusive.as_ref().map(|doing| doing.action.clone()).or(landed);
            agent.inputs.awaiting = agent.awaiting.as_ref().map(|doing| doing.action.clone());
            let decision = decide(&agent.inputs);
            match decision.action.clone() {
                None => break decision,
                Some(Action::Promise(epoch)) => {
                    agent.inputs.promise = epoch;
                    agent.awaiting = None;
                    self.members[member].memory.promise = epoch;
                    self.checker.promised(member, epoch.0);
                }
                Some(Action::Abort) if agent.landed.is_some() => break decision,
                Some(Action::Abort) => {
                    agent.exclusive = None;
                    if let Some(unfinished) = self.members[member].memory.unfinished
                        && let Some(agent) = self.agent(member)
                    {
                        agent.inputs.data = Data::Unfinished(unfinished);
                    }
                }
                Some(action) => self.begin_action(member, &action),
            }
        };
        self.report(member, &decision, now);
        let Some(agent) = self.agent(member) else { return };
        agent.timer += 1;
        let number = agent.timer;
        let pause = if now < agent.quick_until { QUICK } else { HEARTBEAT };
        self.after(pause.0, Event::AgentTimer { member, life, number });
    }

    fn report(&mut self, member: usize, decision: &howdah::agent::core::action::Decision, now: Millis) {
        let Some(agent) = self.members[member].agent.as_deref_mut() else { return };
        agent.note.clone_from(&decision.note);
        let Some(line) = agent.line else { return };
        let due = now.since(agent.reported_at) >= HEARTBEAT;
        let inputs = &agent.inputs;
        let report = Report {
            member: inputs.me.clone(),
            incarnation: agent.incarnation,
            sequence: agent.sequence + 1,
            promise: inputs.promise,
            goal_revision: inputs.newest_revision,
            data: report::data(inputs),
            postgres: report::postgres(inputs),
            recruited: report::recruited(inputs),
            state: decision.state.to_string(),
            healthy: decision.healthy,
            note: String::new(),
            pid: 1,
            postmaster_pid: None,
            router_pid: None,
            data_dir: String::new(),
        };
        if !due && agent.reported.as_ref().is_some_and(|last| !report::differ(last, &report)) {
            return;
        }
        agent.sequence += 1;
        agent.reported_at = now;
        agent.reported = Some(Box::new(report.clone()));
        if let PostgresSeen::Primary { epoch, .. } = &report.postgres {
            self.checker.reports_epoch(member, epoch.0);
        }
        self.say_to_coordinator(line, super::control::Word::Report(Box::new(report)));
    }
}
