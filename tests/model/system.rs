//! The model: what may happen in a world, and what comes of it.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
};

use howdah::{
    coordinator::core::{
        command::{Command, OperationKind, Proposal},
        goals,
        topology::topology,
    },
    model::{goal::Goal, topology::Access},
};
use stateright::{Model, Property};

use super::{
    agent::{Facts, Mind},
    broken::Broken,
    checker::{self, Violation},
    coordinator::{Choice, Coordinators, Memo, asked},
    hashed::Hashed,
    sights,
    start::{self, Start},
    world::{Data, Line, Postgres, What, Who, World, group_id, id, who},
};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// The leader proposes this, and it is applied.
    Decide(Hashed<Proposal>, u8),
    /// Another coordinator leads. What the old leader has just proposed may be applied later.
    Depose(Option<Hashed<Proposal>>),
    /// It is.
    Straggle,
    /// A person asks for a switchover.
    Ask,
    /// A member's reports arrive again, its newest first.
    Report(Who),
    /// They do not for a while.
    Slow(Who),
    /// One is sent meanwhile.
    Send(Who),
    /// It arrives now.
    Arrive(Who),
    /// An order arrives: of the newest state or of an older one.
    Order(Who, Hashed<Goal>),
    /// What a member's agent has begun ends.
    End(Who),
    /// An agent looks at its primary again.
    Look(Who),
    /// A client writes.
    Write(Who),
    /// A standby receives everything, and its primary hears of it.
    Stream(Who),
    /// A standby receives everything; its word is under way.
    StreamUnheard(Who),
    /// The word of a standby (the second) arrives at its primary.
    Heard(Who, Who),
    /// A standby loses its connection.
    Break(Who),
    /// `PostgreSQL` is killed.
    KillPostgres(Who),
    /// The agent is killed and begins again.
    KillAgent(Who),
    /// Both.
    KillContainer(Who),
    /// Both, and the container comes back with an empty disk.
    Wipe(Who),
    /// A primary has been cut off from everyone for long.
    Isolate(Who),
}

/// A model with its bounds.
pub struct System {
    pub start: Start,
    pub coordinators: Coordinators,
    /// Proposals of deposed leaders that were refused, because the group had changed.
    pub stale: AtomicUsize,
    /// The first world in which anything is violated: the checker goes on for a while, and would tell of a
    /// later one, by a longer way.
    first: OnceLock<World>,
    /// In one of how many states it is tried whether the group can serve again; 0: in none.
    calm_in: u64,
    first_revision: u64,
    pub minds: Memo<Facts, Mind>,
    pub rules: Memo<(u64, u64), bool>,
}

impl System {
    pub fn new(start: Start, broken: Broken, calm_in: u64) -> Self {
        let coordinators = Coordinators::new(broken, start.members);
        let mut system = Self {
            start,
            coordinators,
            stale: AtomicUsize::new(0),
            first: OnceLock::new(),
            calm_in,
            first_revision: 0,
            minds: Memo::default(),
            rules: Memo::default(),
        };
        system.first_revision = start::world(&system, &start).group().revision.0;
        system
    }

    pub fn broken(&self) -> Broken {
        self.coordinators.broken
    }

    /// Whether this is the first world, breadth first, in which something is violated.
    pub fn is_first(&self, world: &World) -> bool {
        self.first.get_or_init(|| world.clone()) == world
    }

    pub fn tries_calm(&self, world: &World) -> bool {
        let mut hasher = DefaultHasher::new();
        world.hash(&mut hasher);
        self.calm_in > 0 && hasher.finish().is_multiple_of(self.calm_in)
    }

    pub fn choices(&self, world: &World) -> std::sync::Arc<Vec<Choice>> {
        self.coordinators.choices(world.state(), &world.view)
    }

    /// A member's report reaches the leader.
    pub fn hear(&self, world: &mut World, member: Who) {
        world.view.said[member] = Some(self.report(world, member));
        Self::heard(world, member);
    }

    /// What is reported at once. Heartbeats go on: what takes two reports to know is known.
    fn hear_all(&self, world: &mut World) {
        for member in 0..world.members.len() {
            if world.members[member].line != Line::Prompt {
                continue;
            }
            if world.view.said[member].as_ref() != Some(&self.report(world, member)) {
                self.hear(world, member);
            }
            let reigns = matches!(world.members[member].postgres, Postgres::Primary(_));
            if reigns && matches!(world.view.applied, Some((_, None))) {
                self.hear(world, member);
            }
        }
    }

    fn heard(world: &mut World, member: Who) {
        world.view.applied = Coordinators::applied_seen(world.state(), &world.view, member);
    }

    /// Applies a proposal to the newest state. False: it is refused.
    pub fn apply(&self, world: &mut World, proposal: &Hashed<Proposal>) -> bool {
        let (after, refused, sound) = self.coordinators.apply(world.state(), proposal);
        if refused {
            return false;
        }
        if !sound {
            world.ledger.found(Violation::Asserted);
        }
        world.log.push(after);
        let open = topology(world.state()).and_then(|topology| match &topology.groups[&group_id()].access {
            Access::Open { primary } => Some(who(&primary.member)),
            Access::Draining { .. } | Access::Held => None,
        });
        if let (Some(primary), Some(reign)) = (open, world.group().reign.clone()) {
            world.announced.insert((primary, reign.timeline.0));
        }
        true
    }

    /// Forgets what makes no difference any more: states whose orders nobody would take, and what only an
    /// agent that begins again would remember.
    fn forget(&self, world: &mut World) {
        if self.broken() == Broken::ObeysOldOrders {
            return;
        }
        let restarts = world.budget.crashes > 0 || world.budget.wipes > 0;
        if !restarts {
            for member in &mut world.members {
                member.remembered = 0;
            }
        }
        let newest = world.log.len() - 1;
        let members = &world.members;
        let mut place = 0;
        world.log.retain(|state| {
            let group = &state.groups[&group_id()];
            let takes = |member: &super::world::Member| {
                let floor = if restarts { member.remembered } else { member.newest + 1 };
                group.epoch.0 >= member.promise && group.revision.0 >= floor
            };
            place += 1;
            place > newest || members.iter().any(takes)
        });
    }

    /// Whether a client of a router can write here: routers may know of any reign there ever was.
    fn has_clients(&self, world: &World, me: Who) -> bool {
        let Postgres::Primary(office) = &world.members[me].postgres else {
            return false;
        };
        let timeline = world.members[me].timeline();
        let asks = self.broken() != Broken::RoutersDoNotAskForTheTimeline;
        let announced = world.announced.iter().any(|(primary, on)| *primary == me && (*on == timeline || !asks));
        office.waiting.is_none() && (office.sessions || announced)
    }

    fn coordinators_steps(&self, world: &World, steps: &mut Vec<Step>) {
        let choices = self.choices(world);
        if world.group().revision.0 < self.first_revision + self.start.decisions {
            steps.extend(choices.iter().map(|choice| Step::Decide(choice.proposal.clone(), choice.silent)));
            if world.straggler.is_some() {
                steps.push(Step::Straggle);
            }
            if world.budget.switchovers > 0 {
                steps.push(Step::Ask);
            }
        }
        if world.budget.leaders > 0 {
            steps.push(Step::Depose(None));
            steps.extend(choices.iter().map(|choice| Step::Depose(Some(choice.proposal.clone()))));
        }
    }

    fn messages(&self, world: &World, me: Who, steps: &mut Vec<Step>) {
        let member = &world.members[me];
        match &member.line {
            Line::Prompt if world.budget.delays > 0 => steps.push(Step::Slow(me)),
            Line::Prompt => {}
            Line::Slow { sent } => {
                steps.push(Step::Report(me));
                if sent.is_some() {
                    steps.push(Step::Arrive(me));
                } else if world.view.said[me].is_some() {
                    steps.push(Step::Send(me));
                }
            }
        }
        let mut orders = Vec::new();
        for state in &world.log {
            if let Some(goal) = self.coordinators.goal(state, me).filter(|goal| member.goal.as_ref() != Some(goal))
                && self.takes(world, me, &goal)
                && !orders.contains(&goal)
            {
                orders.push(goal);
            }
        }
        steps.extend(orders.into_iter().map(|goal| Step::Order(me, goal)));
    }

    fn postgres_steps(&self, world: &World, me: Who, steps: &mut Vec<Step>) {
        let (member, budget) = (&world.members[me], &world.budget);
        if member.under_way.is_some() {
            steps.push(Step::End(me));
        }
        match &member.postgres {
            Postgres::Standby { upstream: Some(from), streaming } => {
                let news = world.members[*from].wal.len() > member.wal.len();
                if Self::may_stream(world, me, *from) && (news || !streaming) {
                    steps.push(Step::Stream(me));
                    if budget.delays > 0 {
                        steps.push(Step::StreamUnheard(me));
                    }
                }
                if *streaming && budget.breaks > 0 {
                    steps.push(Step::Break(me));
                }
                if !streaming && member.under_way.is_none() {
                    steps.push(Step::Look(me));
                }
            }
            Postgres::Primary(office) => {
                let late = office.senders.iter().filter(|(_, sender)| sender.under_way != sender.flushed);
                steps.extend(late.map(|(standby, _)| Step::Heard(me, *standby)));
                if budget.writes > 0 && self.has_clients(world, me) {
                    steps.push(Step::Write(me));
                }
                if budget.isolations > 0 {
                    steps.push(Step::Isolate(me));
                }
            }
            Postgres::Standby { .. } | Postgres::Down { .. } => {}
        }
        let runs = !matches!(member.postgres, Postgres::Down { .. });
        if budget.crashes > 0 {
            steps.push(Step::KillAgent(me));
            if runs {
                steps.extend([Step::KillPostgres(me), Step::KillContainer(me)]);
            }
        }
        if budget.wipes > 0 {
            steps.push(Step::Wipe(me));
        }
    }

    /// Carries a step out. False: nothing comes of it.
    pub fn carry_out(&self, world: &mut World, step: &Step) -> bool {
        match step {
            Step::Decide(proposal, _) => return self.apply(world, proposal),
            Step::Depose(left) => self.depose(world, left.clone()),
            Step::Straggle => {
                let straggler = world.straggler.take().expect("it was seen");
                if !self.apply(world, &straggler) {
                    self.stale.fetch_add(1, Ordering::Relaxed);
                }
            }
            Step::Ask => {
                world.budget.switchovers -= 1;
                let kind = OperationKind::Switchover { group: group_id(), to: None };
                let ask = asked(Command::BeginOperation { key: "asked".to_owned(), kind });
                return self.apply(world, &Hashed::new(ask));
            }
            Step::Report(me) => world.members[*me].line = Line::Prompt,
            Step::Slow(me) => {
                world.budget.delays -= 1;
                world.members[*me].line = Line::Slow { sent: None };
            }
            Step::Send(me) => {
                let sent = Some(self.report(world, *me));
                world.members[*me].line = Line::Slow { sent };
            }
            Step::Arrive(me) => {
                if let Line::Slow { sent } = &mut world.members[*me].line {
                    world.view.said[*me] = sent.take();
                }
                Self::heard(world, *me);
            }
            Step::Order(me, goal) => return self.obey(world, *me, goal),
            Step::End(me) => self.end(world, *me),
            Step::Look(me) => self.settle(world, *me),
            Step::Write(me) => {
                world.budget.writes -= 1;
                if let Some(office) = world.members[*me].office() {
                    office.sessions = true;
                }
                Self::write(world, *me, What::Write);
            }
            Step::Stream(me) => return Self::stream(world, *me, true),
            Step::StreamUnheard(me) => {
                world.budget.delays -= 1;
                return Self::stream(world, *me, false);
            }
            Step::Heard(primary, standby) => Self::acknowledge(world, *primary, *standby),
            Step::Break(me) => {
                world.budget.breaks -= 1;
                Self::disconnect(world, *me);
            }
            Step::KillPostgres(me) | Step::KillAgent(me) | Step::KillContainer(me) => self.kill(world, *me, step),
            Step::Wipe(me) => self.wipe(world, *me),
            Step::Isolate(me) => {
                world.budget.isolations -= 1;
                return self.isolate(world, *me);
            }
        }
        true
    }

    fn depose(&self, world: &mut World, left: Option<Hashed<Proposal>>) {
        world.budget.leaders -= 1;
        world.straggler = left;
        world.view = super::world::View { said: vec![None; self.start.members], applied: None };
        for member in &mut world.members {
            // Each comes to the new leader in its own time.
            member.line = Line::Slow { sent: None };
        }
    }

    fn kill(&self, world: &mut World, me: Who, step: &Step) {
        world.budget.crashes -= 1;
        if !matches!(step, Step::KillAgent(_)) {
            Self::crash(world, me);
        }
        if matches!(step, Step::KillPostgres(_)) {
            return self.settle(world, me);
        }
        if let Postgres::Down { crashed } = &mut world.members[me].postgres {
            *crashed = false;
        }
        self.restart_agent(world, me);
    }

    fn wipe(&self, world: &mut World, me: Who) {
        world.budget.wipes -= 1;
        Self::stop(world, me, false);
        world.ledger.wiped(me);
        let member = &mut world.members[me];
        (member.promise, member.remembered, member.data) = (0, 0, Data::Empty);
        member.wal.clear();
        self.restart_agent(world, me);
    }

    /// A member's order by the newest state.
    pub fn newest_order(&self, world: &World, me: Who) -> Option<Hashed<Goal>> {
        debug_assert_eq!(
            goals::goal(world.state(), &id(me)).as_ref(),
            self.coordinators.goal(world.state(), me).as_deref()
        );
        self.coordinators.goal(world.state(), me)
    }
}

impl Model for System {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        vec![start::world(self, &self.start)]
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        // What is broken is not looked at any further.
        if world.ledger.violation.is_some() {
            return;
        }
        self.coordinators_steps(world, steps);
        for me in 0..world.members.len() {
            self.messages(world, me, steps);
            self.postgres_steps(world, me, steps);
        }
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        if !self.carry_out(&mut next, &step) {
            return None;
        }
        self.hear_all(&mut next);
        checker::look(&mut next, &self.rules);
        self.forget(&mut next);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        sights::properties()
    }
}
