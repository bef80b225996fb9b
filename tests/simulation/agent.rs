//! A small, faithful model of an agent: keeps its promise, obeys the newest order, reports.

use howdah::model::{
    goal::{Goal, Order},
    group::Cohort,
    ids::MemberId,
    numbers::{Epoch, Lsn, Position, Revision, Timeline},
    observed::{DataState, PostgresSeen, Recruited, Report, StandbySeen},
};

use super::{
    cluster::{Cluster, Message},
    postgres::{Record, Running, SENDER_TIMEOUT},
};

pub struct Agent {
    /// Durable.
    pub promise: u64,
    /// What follows is lost in a crash.
    pub goal: Option<Goal>,
    pub acknowledged_epoch: u64,
    pub restart_at: u64,
    recruited: Option<Recruited>,
    /// The epoch whose row is written and not acknowledged yet.
    row: u64,
    incarnation: u64,
    sequence: u64,
    up: bool,
    /// A step takes until then; what it ends with.
    busy_until: u64,
    then: Option<Step>,
    /// Coordinator and number of its stream.
    stream: Option<(usize, u64)>,
    connect_at: u64,
    report_at: u64,
    reported: Option<(PostgresSeen, Option<Recruited>)>,
}

/// What a step that takes time ends with.
#[derive(Clone)]
enum Step {
    Founded,
    Recruited,
    Applied(Cohort),
    Copied(MemberId),
}

impl Agent {
    pub fn new(index: usize) -> Self {
        Self {
            promise: 0,
            goal: None,
            acknowledged_epoch: 0,
            restart_at: 0,
            recruited: None,
            row: 0,
            incarnation: index as u64 * 1_000,
            sequence: 0,
            up: true,
            busy_until: 0,
            then: None,
            stream: None,
            connect_at: 0,
            report_at: 0,
            reported: None,
        }
    }

    pub fn crash(&mut self, until: u64) {
        let (promise, incarnation) = (self.promise, self.incarnation + 1);
        *self = Self { promise, incarnation, restart_at: until, up: false, ..Self::new(0) };
    }

    pub fn receive(&mut self, connection: u64, goal: Option<Goal>) {
        let (Some((_, known)), Some(goal)) = (self.stream, goal) else { return };
        let old = self.goal.as_ref().map_or(Revision(0), |goal| goal.revision);
        if known != connection || goal.epoch.0 < self.promise || goal.revision < old {
            return;
        }
        if goal.epoch.0 > self.promise {
            self.promise = goal.epoch.0;
            self.recruited = None;
        }
        self.goal = Some(goal);
    }

    pub fn lose(&mut self, connection: u64, now: u64) {
        if self.stream.is_some_and(|(_, known)| known == connection) {
            self.stream = None;
            self.connect_at = now + 20;
        }
    }
}

impl Cluster {
    /// The agent's process is gone: the kernel tells its coordinator, if it can.
    pub fn hang_up(&mut self, member: usize) {
        if let Some((coordinator, connection)) = self.members[member].agent.stream.take()
            && self.control_link(member, coordinator)
        {
            let delay = self.random.delay();
            self.send(delay, Message::Gone { coordinator, connection, member });
        }
    }

    pub fn run_agent(&mut self, member: usize) {
        let now = self.now;
        let agent = &mut self.members[member].agent;
        if !agent.up {
            if agent.restart_at > now {
                return;
            }
            agent.up = true;
        }
        self.checker.promised(member, self.members[member].agent.promise);
        self.connect(member);
        if self.members[member].agent.busy_until <= now {
            match self.members[member].agent.then.take() {
                Some(step) => self.end_step(member, step),
                None => self.act(member),
            }
        }
        self.report(member);
    }

    fn connect(&mut self, member: usize) {
        let agent = &self.members[member].agent;
        if agent.stream.is_some() || agent.connect_at > self.now {
            return;
        }
        let coordinator = self.random.index(self.coordinators.len());
        let agent = &mut self.members[member].agent;
        agent.connect_at = self.now + 30;
        if !self.control_link(member, coordinator) {
            return;
        }
        let connection = self.id();
        self.members[member].agent.stream = Some((coordinator, connection));
        let delay = self.random.delay();
        self.send(delay, Message::Register { coordinator, connection, member });
    }

    fn begin(&mut self, member: usize, from: u64, to: u64, step: Step) {
        let until = self.now + self.random.between(from, to);
        let agent = &mut self.members[member].agent;
        (agent.busy_until, agent.then) = (until, Some(step));
    }

    fn start(&mut self, member: usize) {
        let until = self.now + self.random.between(20, 300);
        self.members[member].postgres.start(until);
    }

    fn end_step(&mut self, member: usize, step: Step) {
        let first = Record { timeline: 1, id: self.id(), row: None };
        let Some(goal) = self.members[member].agent.goal.clone() else { return };
        let this = &mut self.members[member];
        match step {
            Step::Founded => {
                this.postgres.system_identifier = Some(77);
                this.postgres.wal.push(first);
            }
            Step::Recruited => {
                let standing = matches!(this.postgres.running, Running::Standby { upstream: None, .. });
                if standing && goal.order == Order::Recruit {
                    let position = this.postgres.position();
                    this.agent.recruited = Some(Recruited { epoch: goal.epoch, position, live_primary: false });
                }
            }
            Step::Applied(cohort) => {
                let agent = &mut this.agent;
                let epoch = goal.epoch.0;
                let reigns = matches!(goal.order, Order::Reign { .. });
                if let Some(primary) = this.postgres.primary().filter(|_| reigns) {
                    primary.applied = Some(cohort);
                    if agent.row != epoch && agent.acknowledged_epoch != epoch {
                        agent.row = epoch;
                        this.postgres.write(first.id, Some(epoch));
                    }
                }
            }
            Step::Copied(from) => self.copied(member, &from),
        }
    }

    /// A rewind or clone ends: it has what its source has now, if that is still a primary.
    fn copied(&mut self, member: usize, from: &MemberId) {
        let source = self.index(from);
        if !self.data_link(member, source) || !matches!(self.members[source].postgres.running, Running::Primary(_)) {
            return;
        }
        let wal = self.members[source].postgres.wal.clone();
        let postgres = &mut self.members[member].postgres;
        (postgres.wal, postgres.unfinished, postgres.system_identifier) = (wal, false, Some(77));
    }

    fn act(&mut self, member: usize) {
        let Some(goal) = self.members[member].agent.goal.clone() else { return };
        let has_data = self.members[member].postgres.system_identifier.is_some();
        let running = self.members[member].postgres.running.clone();
        match (&goal.order, running) {
            (Order::Found, Running::Down { .. }) if !has_data => self.begin(member, 20, 200, Step::Founded),
            (Order::Follow { primary, serving: true, .. }, Running::Down { .. })
                if !has_data || self.members[member].postgres.unfinished =>
            {
                self.copy(member, primary);
            }
            (_, Running::Down { .. }) if has_data && !self.members[member].postgres.unfinished => self.start(member),
            (Order::Recruit, Running::Standby { .. }) if self.members[member].agent.recruited.is_none() => {
                self.members[member].postgres.running = Running::Standby { upstream: None, streaming: false };
                self.begin(member, 10, 60, Step::Recruited);
            }
            (Order::Recruit, Running::Primary(_)) => {
                let position = self.members[member].postgres.position();
                let answer = Recruited { epoch: goal.epoch, position, live_primary: true };
                self.members[member].agent.recruited = Some(answer);
            }
            (Order::Reign { timeline, cohort }, running) => self.reign(member, goal.epoch, *timeline, cohort, running),
            (Order::Follow { primary, serving, .. }, running) => self.follow(member, primary, *serving, running),
            (Order::StandDown, Running::Primary(_)) => self.stand_down(member),
            _ => {}
        }
    }

    fn reign(&mut self, member: usize, epoch: Epoch, timeline: Timeline, cohort: &Cohort, running: Running) {
        let own = self.members[member].postgres.timeline();
        match running {
            Running::Standby { .. } if own < timeline.0 => {
                let slow = self.random.chance(10);
                let until = self.now + if slow { self.random.between(500, 3_000) } else { self.random.between(20, 80) };
                self.members[member].postgres.running = Running::Promoting { until, timeline: timeline.0 };
            }
            Running::Primary(_) if own != timeline.0 => self.members[member].postgres.stop(None),
            Running::Primary(primary) => {
                let stale = primary.applied.as_ref().is_some_and(|old| old.ordered_at > cohort.ordered_at);
                let to_apply = primary.applied.as_ref() != Some(cohort);
                let agent = &self.members[member].agent;
                let lacks_row = agent.row != epoch.0 && agent.acknowledged_epoch != epoch.0;
                if !stale && (to_apply || lacks_row) {
                    self.begin(member, 5, 30, Step::Applied(cohort.clone()));
                }
            }
            _ => {}
        }
    }

    fn follow(&mut self, member: usize, primary: &MemberId, serving: bool, running: Running) {
        let source = self.index(primary);
        match running {
            Running::Primary(_) => self.members[member].postgres.stop(None),
            Running::Standby { upstream, streaming } => {
                if upstream.as_ref() != Some(primary) {
                    self.members[member].agent.recruited = None;
                    let upstream = Some(primary.clone());
                    self.members[member].postgres.running = Running::Standby { upstream, streaming: false };
                } else if !streaming && serving && self.data_link(member, source) {
                    let (own, other) = (&self.members[member].postgres, &self.members[source].postgres);
                    if matches!(other.running, Running::Primary(_)) && !own.may_stream_from(other) {
                        self.copy(member, primary);
                    }
                }
            }
            _ => {}
        }
    }

    fn copy(&mut self, member: usize, from: &MemberId) {
        let postgres = &mut self.members[member].postgres;
        postgres.stop(None);
        postgres.unfinished = true;
        self.begin(member, 50, 600, Step::Copied(from.clone()));
    }

    /// A clean shutdown waits until every standby that streams has all.
    fn stand_down(&mut self, member: usize) {
        let now = self.now;
        let postgres = &mut self.members[member].postgres;
        let end = postgres.wal.len() as u64;
        let Some(primary) = postgres.primary() else { return };
        let since = *primary.stopping.get_or_insert(now);
        let streaming = primary.flushed.values().filter(|(_, heard)| heard + SENDER_TIMEOUT > now);
        if streaming.into_iter().all(|(flushed, _)| *flushed >= end) || now > since + 1_500 {
            postgres.stop(None);
        }
    }

    fn seen(&self, member: usize) -> PostgresSeen {
        let this = &self.members[member];
        let position = this.postgres.position();
        match &this.postgres.running {
            Running::Down { crashed } => PostgresSeen::Down { crashed: crashed.clone() },
            Running::Starting { .. } => PostgresSeen::Starting,
            Running::Standby { upstream, streaming } => PostgresSeen::Standby {
                position,
                replayed: position.lsn,
                streaming: *streaming,
                upstream: upstream.clone(),
            },
            Running::Promoting { until, timeline } => {
                // The new timeline's first file is there before recovery ends.
                let begun = self.now + 30 > *until;
                let timeline = if begun { Timeline(*timeline) } else { position.timeline };
                let position = Position { timeline, ..position };
                PostgresSeen::Standby { position, replayed: position.lsn, streaming: false, upstream: None }
            }
            Running::Primary(primary) => {
                let alive = |heard: u64| heard + SENDER_TIMEOUT > self.now;
                let standbys = primary.flushed.iter().map(|(id, (flushed, heard))| StandbySeen {
                    member: id.clone(),
                    streaming: alive(*heard),
                    flushed: Lsn(*flushed),
                    synchronous: true,
                });
                let standbys = standbys.filter(|standby| standby.streaming).collect();
                let applied = primary.applied.clone().unwrap_or_default();
                let epoch = Epoch(this.agent.acknowledged_epoch);
                PostgresSeen::Primary { position, epoch, applied, standbys, tables: Vec::new() }
            }
        }
    }

    fn report(&mut self, member: usize) {
        let agent = &self.members[member].agent;
        let Some((coordinator, connection)) = agent.stream else { return };
        let seen = self.seen(member);
        let kind = |seen: &PostgresSeen| std::mem::discriminant(seen);
        let same = |old: &(PostgresSeen, _)| kind(&old.0) == kind(&seen) && old.1 == agent.recruited;
        let changed = !agent.reported.as_ref().is_some_and(same);
        if agent.report_at > self.now && !changed {
            return;
        }
        if !self.control_link(member, coordinator) {
            self.members[member].agent.lose(connection, self.now);
            return;
        }
        let this = &mut self.members[member];
        this.agent.report_at = self.now + 100;
        this.agent.reported = Some((seen.clone(), this.agent.recruited));
        this.agent.sequence += 1;
        let data = match (this.postgres.system_identifier, this.postgres.unfinished) {
            (Some(system_identifier), false) => DataState::Ready { system_identifier },
            (_, true) => DataState::Unfinished,
            (None, false) => DataState::Empty,
        };
        let report = Report {
            member: this.id.clone(),
            incarnation: this.agent.incarnation,
            sequence: this.agent.sequence,
            promise: Epoch(this.agent.promise),
            goal_revision: this.agent.goal.as_ref().map_or(Revision(0), |goal| goal.revision),
            data,
            postgres: seen,
            recruited: this.agent.recruited,
            state: String::new(),
            healthy: true,
            note: String::new(),
            pid: 1,
            postmaster_pid: None,
            router_pid: None,
            data_dir: String::new(),
        };
        let delay = self.random.delay();
        self.send(delay, Message::Report { coordinator, connection, report });
    }
}
