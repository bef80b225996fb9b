//! A whole coordinator: the real replica over a modelled disk, the real state and planner, and the driver's
//! loop of inputs, steps, plan and publication, in which it may die between any two steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use howdah::{
    coordinator::core::{
        command::{Command, Proposal},
        observed::{Connection, Observed},
        planner::{World as PlannersWorld, plan},
        replica::{Replica, Saved, Step, StepError, TICK_MS, Tuning},
        state::State,
        succession::{Succession, Verdict},
    },
    model::{
        ids::CoordinatorId,
        numbers::{Millis, Revision},
        observed::{Report, RouterReport},
    },
};
use raft::eraftpb::Message;
use serde::{Deserialize, Serialize};

use super::{
    control::Says,
    disk::{Disk, Write},
    machine::Machine,
    network::Node,
    random::Random,
    world::{Event, Sabotage, World},
};

/// As in the driver.
const PLAN_EVERY: Millis = Millis(20);
const TICK: Millis = Millis(TICK_MS);

pub struct Coordinator {
    pub machine: Machine,
    pub disk: Disk,
    pub process: Option<Box<Process>>,
    /// Dies when it has taken so many more steps.
    pub dies_after: Option<u64>,
    /// Dies in the middle of its next write.
    pub dies_writing: bool,
    /// Its clients and peers were told of a broken connection lately.
    pub told_broken: BTreeMap<usize, u64>,
}

/// What is lost with the process.
pub struct Process {
    pub replica: Replica,
    pub state: State,
    pub observed: Observed,
    pub inbox: Vec<Input>,
    pub attending: BTreeMap<usize, Attending>,
    pub reigning: Option<u64>,
    pub goals_at: Option<Revision>,
    pub topology_told: Option<Revision>,
    heard: BTreeMap<CoordinatorId, Millis>,
    succession: Succession,
    planned: BTreeSet<u64>,
    origin: u64,
    next_number: u64,
    steps: VecDeque<Step>,
    stage: Stage,
    writing: bool,
    wake_at: Option<u64>,
    next_tick: Millis,
    next_plan: Millis,
}

pub struct Attending {
    pub stream: u64,
    pub told: Option<Says>,
}

#[derive(Debug)]
pub enum Input {
    Raft(Message),
    Broken(usize),
    Connected { stream: u64, member: usize },
    Report { stream: u64, report: Box<Report> },
    Disconnected { stream: u64, member: usize },
    Router { router: usize, report: RouterReport },
    Ask(Command),
}

/// Where the loop stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waits,
    SettlesInputs,
    SettlesPlans,
}

/// What an entry of the log contains, as the driver writes it.
#[derive(Serialize, Deserialize)]
struct Entry {
    origin: u64,
    number: u64,
    proposal: Proposal,
}

pub fn raft_id(index: usize) -> CoordinatorId {
    CoordinatorId(index as u64 + 1)
}

pub fn index_of(id: u64) -> usize {
    usize::try_from(id).expect("few") - 1
}

impl Coordinator {
    pub fn new(machine: Machine, random: &mut Random) -> Self {
        let mut disk = Disk::default();
        disk.latency = random.between(0, 3);
        Self { machine, disk, process: None, dies_after: None, dies_writing: false, told_broken: BTreeMap::new() }
    }

    pub fn describe(&self, now: u64) -> String {
        let state = if self.machine.is_frozen(now) { "frozen" } else { "there" };
        match &self.process {
            None => format!("down until {}, log to {}", self.machine.down_until, self.disk.last()),
            Some(process) => format!(
                "{state}, {:?}, applied {}, disk latency {}, attended by {:?}",
                process.replica.leadership(),
                process.state.revision,
                self.disk.latency,
                process.attending.keys().collect::<Vec<_>>()
            ),
        }
    }
}

impl Process {
    fn new(index: usize, count: usize, saved: Saved, election_ticks: usize, origin: u64, now: Millis) -> Self {
        let voters: Vec<_> = (0..count).map(raft_id).collect();
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let tuning = Tuning { election_ticks: election_ticks..election_ticks + 1, compact_after: 12, trailing: 3 };
        let state = match saved.snapshot.get_metadata().index {
            0 => State::default(),
            _ => serde_json::from_slice(&saved.snapshot.data).expect("a coordinator reads its own snapshot"),
        };
        let replica = Replica::new(raft_id(index), &voters, saved, tuning, &logger).expect("a valid configuration");
        Self {
            replica,
            state,
            observed: Observed::default(),
            inbox: Vec::new(),
            attending: BTreeMap::new(),
            reigning: None,
            goals_at: None,
            topology_told: None,
            heard: BTreeMap::new(),
            succession: Succession::default(),
            planned: BTreeSet::new(),
            origin,
            next_number: 0,
            steps: VecDeque::new(),
            stage: Stage::Waits,
            writing: false,
            wake_at: None,
            next_tick: now.plus(TICK),
            next_plan: now,
        }
    }

    fn propose(&mut self, proposal: Proposal, planned: bool) {
        self.next_number += 1;
        let number = self.next_number;
        let entry = Entry { origin: self.origin, number, proposal };
        let data = serde_json::to_vec(&entry).expect("a proposal has text keys and no failing parts");
        if self.replica.propose(data).is_ok() && planned {
            self.planned.insert(number);
        }
    }

    /// The leader's next decisions.
    fn plan(&mut self, now: Millis, time_ms: u64, world: &World) {
        self.next_plan = now.plus(if self.reigning.is_some() { PLAN_EVERY } else { TICK });
        if !self.replica.may_decide() {
            return;
        }
        self.observed.turn(&self.state, now);
        let in_flight = !self.planned.is_empty();
        let proposals = if self.state.cluster.is_some() {
            let (state, observed) = (&self.state, &self.observed);
            plan(&PlannersWorld { state, observed, now, time_ms, in_flight })
        } else if in_flight {
            Vec::new()
        } else {
            let command = Command::Initialise { cluster: cluster(), policy: world.policy.clone() };
            vec![Proposal { command, reason: "the cluster is new".to_owned(), time_ms, based_on: None }]
        };
        for proposal in proposals {
            self.propose(proposal, true);
        }
    }

    fn tick(&mut self, me: usize, count: usize, now: Millis) {
        if now < self.next_tick {
            return;
        }
        self.replica.tick();
        let leader = self.replica.leadership().leader;
        let heard = leader.and_then(|leader| self.heard.get(&leader)).copied().unwrap_or_default();
        let all: Vec<_> = (0..count).map(raft_id).collect();
        match self.succession.look(raft_id(me), all.iter(), leader, heard, now) {
            Verdict::Stay => {}
            Verdict::Forget => self.replica.forget_leader(),
            Verdict::Stand => self.replica.campaign(),
        }
        self.next_tick = now.plus(TICK).min(self.next_tick.plus(TICK)).max(now);
    }
}

pub fn cluster() -> howdah::model::ids::ClusterName {
    "herd".parse().expect("a name")
}

impl World {
    pub fn start_coordinator(&mut self, index: usize) {
        let count = self.coordinators.len();
        // Never the same for two of them: with nothing else left to chance they could split votes for ever.
        let ticks = 10 + 3 * index + self.random.index(3);
        let origin = self.id();
        let coordinator = &mut self.coordinators[index];
        let now = coordinator.machine.clock(self.now);
        let saved = coordinator.disk.synced.clone();
        self.checker.started(index, &saved);
        let process = Process::new(index, count, saved, ticks, origin, now);
        self.coordinators[index].process = Some(Box::new(process));
        self.wake(index, 0);
    }

    /// Its loop runs again after this, if not before.
    pub fn wake(&mut self, index: usize, wait: u64) {
        let at = self.now + wait;
        let coordinator = &mut self.coordinators[index];
        let life = coordinator.machine.life;
        if let Some(process) = &mut coordinator.process
            && process.wake_at.is_none_or(|known| known > at)
        {
            process.wake_at = Some(at);
            self.at(at, Event::Wake { coordinator: index, life });
        }
    }

    pub fn wake_coordinator(&mut self, index: usize, life: u64) {
        let coordinator = &mut self.coordinators[index];
        if coordinator.machine.life != life || coordinator.machine.is_down(self.now) {
            return;
        }
        let Some(process) = &mut coordinator.process else { return self.start_coordinator(index) };
        // After a freeze it comes late.
        if process.wake_at.is_some_and(|at| at <= self.now) {
            process.wake_at = None;
            self.run_coordinator(index);
        }
    }

    pub fn written(&mut self, index: usize, life: u64) {
        let coordinator = &mut self.coordinators[index];
        let Some(process) = coordinator.process.as_mut().filter(|_| coordinator.machine.life == life) else { return };
        process.writing = false;
        coordinator.disk.end();
        self.checker.written(index, &self.coordinators[index].disk.synced);
        self.run_coordinator(index);
    }

    pub fn raft_arrives(&mut self, from: usize, to: usize, message: Message) {
        if self.coordinators[to].process.is_none() {
            return self.refuse_connection(from, to);
        }
        self.input(to, Input::Raft(message));
    }

    pub fn peer_broken(&mut self, index: usize, peer: usize) {
        self.input(index, Input::Broken(peer));
    }

    pub fn input(&mut self, index: usize, input: Input) {
        if let Some(process) = &mut self.coordinators[index].process {
            process.inbox.push(input);
            // A busy machine: what comes at nearly the same time is taken together.
            let wait = self.random.between(0, 2);
            self.wake(index, wait);
        }
    }

    /// The driver's loop, until it waits for its disk or for something to happen.
    fn run_coordinator(&mut self, index: usize) {
        loop {
            let Some(mut process) = self.coordinators[index].process.take() else { return };
            let goes_on = self.one_step(index, &mut process);
            if self.coordinators[index].dies_after == Some(0) {
                self.coordinators[index].dies_after = None;
                self.coordinators[index].process = Some(process);
                let until = self.now + self.random.between(50, 2_500);
                return self.crash_coordinator(index, until);
            }
            self.coordinators[index].process = Some(process);
            if !goes_on {
                return self.sleep_coordinator(index);
            }
        }
    }

    fn sleep_coordinator(&mut self, index: usize) {
        let coordinator = &self.coordinators[index];
        let Some(process) = coordinator.process.as_ref().filter(|process| !process.writing) else { return };
        let at = coordinator.machine.when(process.next_tick.min(process.next_plan));
        self.wake(index, at.saturating_sub(self.now));
    }

    /// One thing; false: it waits.
    fn one_step(&mut self, index: usize, process: &mut Process) -> bool {
        if process.writing {
            return false;
        }
        if let Some(step) = process.steps.pop_front() {
            self.take_step(index, process, step);
            if let Some(left) = &mut self.coordinators[index].dies_after {
                *left = left.saturating_sub(1);
            }
            return true;
        }
        if let Some(effects) = process.replica.turn() {
            process.steps = effects.steps().into();
            if self.sabotage == Some(Sabotage::SendsBeforePersist)
                && let Some(place) = process.steps.iter().position(|step| matches!(step, Step::Persist(_)))
                && let Some(persist) = process.steps.remove(place)
            {
                process.steps.push_back(persist);
            }
            return true;
        }
        if process.stage != Stage::Waits && process.replica.wants_compaction() {
            let state = serde_json::to_vec(&process.state).expect("the state has text keys and no failing parts");
            let snapshot = process.replica.compact(state).expect("what is applied is in the log");
            self.tally.snapshots += 1;
            self.write_log(index, process, Write::Compaction(Box::new(snapshot)));
            return true;
        }
        let machine = &self.coordinators[index].machine;
        let now = machine.clock(self.now);
        match process.stage {
            Stage::SettlesInputs => {
                // The wall clock may be anything: only events show it.
                let time_ms = self.random.next() % 2_000_000_000_000;
                process.plan(now, time_ms, self);
                process.stage = Stage::SettlesPlans;
                true
            }
            Stage::SettlesPlans => {
                process.stage = Stage::Waits;
                self.publish(index, process);
                true
            }
            Stage::Waits => {
                if process.inbox.is_empty() && now < process.next_tick.min(process.next_plan) {
                    return false;
                }
                for input in std::mem::take(&mut process.inbox) {
                    self.take_input(index, process, input, now);
                }
                process.tick(index, self.coordinators.len(), now);
                process.stage = Stage::SettlesInputs;
                true
            }
        }
    }

    fn take_step(&mut self, index: usize, process: &mut Process, step: Step) {
        match step {
            Step::Send(messages) => {
                for message in messages {
                    self.send_raft(index, message);
                }
            }
            Step::Persist(persist) => self.write_log(index, process, Write::Turn(Box::new(persist))),
            Step::NoteLeadership => self.follow_leadership(index, process),
            Step::Restore(snapshot) => {
                process.state = serde_json::from_slice(&snapshot.data).expect("a leader's snapshot can be read");
                self.checker.restored(index, &process.state);
            }
            Step::Apply(committed) => {
                let Entry { origin, number, proposal } =
                    serde_json::from_slice(&committed.data).expect("a leader's entry can be read");
                self.apply(index, process, committed.revision, &committed.data, &proposal);
                if origin == process.origin {
                    process.planned.remove(&number);
                }
            }
            Step::Finish(number) => process.replica.finished(number),
        }
    }

    fn write_log(&mut self, index: usize, process: &mut Process, write: Write) {
        let (slow, quick) = (self.coordinators[index].disk.latency, self.random.between(0, 3));
        let coordinator = &mut self.coordinators[index];
        coordinator.disk.begin(write);
        process.writing = true;
        if std::mem::take(&mut coordinator.dies_writing) {
            coordinator.dies_after = Some(1);
        }
        let life = coordinator.machine.life;
        self.after(slow + quick, Event::Written { coordinator: index, life });
    }

    /// As the driver numbered it when it came.
    fn connection(&self, stream: u64) -> Connection {
        Connection(self.streams.get(&stream).map_or(0, |stream| stream.connection))
    }

    fn take_input(&mut self, index: usize, process: &mut Process, input: Input, now: Millis) {
        match input {
            Input::Raft(message) => {
                let from = CoordinatorId(message.from);
                process.heard.insert(from, now);
                process.succession.heard(from);
                match process.replica.step(message) {
                    Err(StepError::Forgotten { acknowledged, ours }) => {
                        panic!("coordinator {index} acknowledged log entry {acknowledged}, but its log ends at {ours}")
                    }
                    Ok(()) | Err(StepError::Refused(_)) => {}
                }
            }
            Input::Broken(peer) => {
                process.replica.unreachable(raft_id(peer));
                process.succession.broke(raft_id(peer));
            }
            Input::Connected { stream, member } => {
                if process.reigning.is_some() {
                    process.observed.member_connected(self.container(member), self.connection(stream), now);
                    // The outbox of an earlier stream is dropped, which ends it.
                    if let Some(old) = process.attending.insert(member, Attending { stream, told: None }) {
                        self.say_to_agent(old.stream, Says::Close);
                    }
                    process.goals_at = None;
                } else {
                    let leader = process.replica.leadership().leader.map(|id| index_of(id.0));
                    self.say_to_agent(stream, Says::NotLeader(leader));
                }
            }
            Input::Report { stream, report } => {
                process.observed.member_reported(self.connection(stream), *report, now);
            }
            Input::Disconnected { stream, member } => {
                let id = self.members[member].id.clone();
                process.observed.member_disconnected(&id, self.connection(stream), now);
                if process.attending.get(&member).is_some_and(|attending| attending.stream == stream) {
                    process.attending.remove(&member);
                }
            }
            Input::Router { router, report } => {
                process.observed.router_reported(Connection(router as u64), report, now);
            }
            Input::Ask(command) if process.replica.may_decide() => {
                let reason = "a person asks".to_owned();
                process.propose(Proposal { command, reason, time_ms: 0, based_on: None }, false);
            }
            Input::Ask(_) => {}
        }
    }

    fn follow_leadership(&mut self, index: usize, process: &mut Process) {
        let leadership = process.replica.leadership();
        let reigning = leadership.ours.then_some(leadership.term);
        if reigning == process.reigning {
            return;
        }
        process.reigning = reigning;
        process.planned.clear();
        let leader = leadership.leader.map(|id| index_of(id.0));
        for (_, attending) in std::mem::take(&mut process.attending) {
            self.say_to_agent(attending.stream, Says::NotLeader(leader));
        }
        process.observed.note_leadership(self.coordinators[index].machine.clock(self.now));
        if let Some(term) = reigning {
            self.checker.leads(index, term);
            self.tally.leaders += 1;
        }
        self.tell(|| format!("coordinator {index}: leadership {leadership:?}"));
    }

    fn send_raft(&mut self, from: usize, message: Message) {
        let to = index_of(message.to);
        if !self.network.passes(Node::Coordinator(from), Node::Coordinator(to), self.now) {
            return self.note_broken(from, to, 1_500);
        }
        if self.random.chance(1) {
            return;
        }
        if self.random.chance(2) {
            let delay = self.random.between(0, 400);
            self.after(delay, Event::Raft { from, to, message: Box::new(message.clone()) });
        }
        let delay = self.random.delay();
        self.after(delay, Event::Raft { from, to, message: Box::new(message) });
    }

    /// Nobody listens there: the kernel says so.
    fn refuse_connection(&mut self, from: usize, to: usize) {
        if self.network.passes(Node::Coordinator(to), Node::Coordinator(from), self.now) {
            self.note_broken(from, to, 2);
        }
    }

    /// A connection is tried again now and then, and fails each time.
    fn note_broken(&mut self, index: usize, peer: usize, wait: u64) {
        let now = self.now;
        let told = self.coordinators[index].told_broken.entry(peer).or_default();
        if *told <= now {
            *told = now + wait + 300;
            self.after(wait, Event::Broken { coordinator: index, peer });
        }
    }

    /// The process is gone, with everything that was not durable.
    pub fn crash_coordinator(&mut self, index: usize, until: u64) {
        if self.coordinators[index].process.take().is_none() {
            return;
        }
        self.tell(|| format!("coordinator {index} dies, until {until}"));
        let coordinator = &mut self.coordinators[index];
        coordinator.disk.crash(&mut self.random);
        self.tally.torn_writes += std::mem::take(&mut coordinator.disk.torn);
        if self.sabotage == Some(Sabotage::DiskForgets) {
            coordinator.disk.forget();
        }
        coordinator.machine.life += 1;
        coordinator.machine.down_until = until;
        let life = coordinator.machine.life;
        if until < u64::MAX {
            self.at(until, Event::Wake { coordinator: index, life });
        }
        for peer in 0..self.coordinators.len() {
            if peer != index {
                self.refuse_connection(peer, index);
            }
        }
        self.hang_up_coordinator(index);
    }
}
