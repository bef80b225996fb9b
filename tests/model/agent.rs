//! The real agent's deciding code on a member: what it sees, what it decides, and what its actions do.
//! An agent acts as soon as anything changes; what takes time ends later, by a step of its own.

use howdah::{
    agent::core::{
        action::Action,
        decide::{decide, slots_of},
        history::Lineage,
        inputs::{Ancestry, Data as Held, Inputs, Postgres as Seen, Primary, Standby, Unfinished},
        report,
    },
    model::{
        goal::{Goal, Order},
        numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
        observed::{Report, StandbySeen},
    },
};

use super::{
    coordinator::once,
    hashed::Hashed,
    system::System,
    world::{Data, Line, Member, Office, Postgres, Record, What, Who, World, group_id, id, who},
};

/// All limits that follow a loss have passed; those of a loss of every coordinator have not.
const NOW: Millis = Millis(10_000_000);
/// Actions in a row without any that takes time: more is a circle.
const IN_A_ROW: usize = 20;

/// What an agent makes of its facts.
#[derive(Clone)]
pub struct Mind {
    action: Option<Action>,
    report: Hashed<Report>,
}

/// All that an agent knows: itself, and the log of the primary it is to follow, where that reigns.
pub type Facts = (Who, Member, Option<Vec<Record>>);

impl System {
    /// Everything the agent's decision rests on.
    fn inputs(world: &World, me: Who) -> Inputs {
        let member = &world.members[me];
        inputs(member, me, member.goal.as_ref().and_then(|goal| ancestry(world, goal)))
    }

    /// What the agent decides and says now: the same on the same facts, so computed once.
    fn mind(&self, world: &World, me: Who) -> Mind {
        let member = Member { line: Line::Prompt, ..world.members[me].clone() };
        let follows = member.goal.as_ref().and_then(|goal| match &goal.order {
            Order::Follow { primary, .. } => Some(&world.members[who(primary)]),
            Order::Found | Order::Recruit | Order::Reign { .. } | Order::StandDown => None,
        });
        let source = follows.filter(|source| matches!(source.postgres, Postgres::Primary(_)));
        let facts = (me, member, source.map(|source| source.wal.clone()));
        once(&self.minds, facts, || {
            let inputs = Self::inputs(world, me);
            let decision = decide(&inputs);
            let report = Hashed::new(self.said(&inputs, me, decision.healthy));
            Mind { action: decision.action, report }
        })
    }

    /// What the agent says now.
    pub fn report(&self, world: &World, me: Who) -> Hashed<Report> {
        self.mind(world, me).report
    }

    fn said(&self, inputs: &Inputs, me: Who, healthy: bool) -> Report {
        Report {
            member: id(me),
            incarnation: 1,
            sequence: 0,
            promise: inputs.promise,
            goal_revision: inputs.newest_revision,
            data: report::data(inputs),
            postgres: report::postgres(inputs),
            recruited: self.broken().recruited(inputs),
            state: String::new(),
            healthy,
            note: String::new(),
            pid: 1,
            postmaster_pid: None,
            router_pid: None,
            data_dir: String::new(),
        }
    }

    /// Whether the agent takes this goal.
    pub fn takes(&self, world: &World, me: Who, goal: &Goal) -> bool {
        let member = &world.members[me];
        // What the check rests on, and nothing else.
        let bare =
            Member { goal: None, under_way: None, postgres: Postgres::Down { crashed: false }, ..member.clone() };
        self.broken().takes(&inputs(&bare, me, None), goal)
    }

    /// A goal arrives. False: it is refused.
    pub fn obey(&self, world: &mut World, me: Who, goal: &Hashed<Goal>) -> bool {
        if !self.takes(world, me, goal) {
            return false;
        }
        world.ledger.serves(me, goal.epoch.0);
        let member = &mut world.members[me];
        member.newest = goal.revision.0;
        member.goal = Some(goal.clone());
        self.settle(world, me);
        true
    }

    /// Decides and acts until something takes time, or nothing is to be done.
    pub fn settle(&self, world: &mut World, me: Who) {
        for _ in 0..IN_A_ROW {
            let Some(action) = self.mind(world, me).action else {
                return;
            };
            if !self.begin(world, me, action) {
                return;
            }
        }
        panic!("{} goes round in circles: {:?}", id(me), world.members[me]);
    }

    /// Begins an action, and ends it if it takes no time. False: it cannot be done now.
    fn begin(&self, world: &mut World, me: Who, action: Action) -> bool {
        match &action {
            Action::Promise(epoch) => {
                (world.members[me].promise, world.members[me].awaiting) = (epoch.0, None);
            }
            Action::Cut(epoch) => {
                let order = world.members[me].goal.as_ref().map(|goal| goal.order.clone());
                if self.broken().cuts(order.as_ref()) {
                    Self::point(world, me, None);
                }
                world.members[me].cut = Some(epoch.0);
            }
            Action::Repoint(primary) | Action::StartFollowing(primary) => {
                Self::point(world, me, Some(who(primary)));
                world.members[me].cut = None;
            }
            Action::StopFast | Action::StopImmediate => Self::stop(world, me, false),
            Action::Finish => world.members[me].data = Data::Ready,
            Action::WriteEpoch(epoch) => {
                world.members[me].awaiting = Some(epoch.0);
                Self::write(world, me, What::Row(epoch.0));
            }
            Action::SetAside => unreachable!("no group lets go of anybody here"),
            Action::Abort => world.members[me].under_way = None,
            // Only its primary could answer.
            Action::Examine { .. } => return false,
            Action::ApplyCohort(cohort) => {
                let member = &mut world.members[me];
                member.remembered = member.newest;
                if let Some(office) = member.office() {
                    office.effective.push(Hashed::new(cohort.clone()));
                }
                member.under_way = Some(Hashed::new(action));
                Self::release(world, me);
            }
            Action::Rewind(_) | Action::Clone(_) => {
                Self::stop(world, me, false);
                let member = &mut world.members[me];
                member.data = if matches!(action, Action::Clone(_)) { Data::Cloning } else { Data::Rewinding };
                member.under_way = Some(Hashed::new(action));
            }
            Action::StartFenced | Action::Promote { .. } => world.members[me].under_way = Some(Hashed::new(action)),
            Action::MakeDataDirectory | Action::EnsureObjects(_) | Action::SetSlots(_) => {
                panic!("not in this model: {action}")
            }
        }
        true
    }

    /// What takes time ends, well if it still can.
    pub fn end(&self, world: &mut World, me: Who) {
        let Some(action) = world.members[me].under_way.take() else {
            return;
        };
        match &*action {
            Action::StartFenced => {
                world.members[me].postgres = Postgres::Standby { upstream: None, streaming: false };
                world.members[me].cut = None;
            }
            Action::Promote { timeline, cohort } => {
                if let Postgres::Standby { .. } = world.members[me].postgres {
                    Self::point(world, me, None);
                    world.ledger.promoted(me, timeline.0);
                    let member = &mut world.members[me];
                    member.wal.push(Record { timeline: timeline.0, writer: me, what: What::Begun });
                    member.postgres = Postgres::Primary(Office::new(Hashed::new(cohort.clone())));
                }
            }
            Action::ApplyCohort(cohort) => {
                let cohort = Hashed::new(cohort.clone());
                if let Some(office) = world.members[me].office() {
                    office.effective = vec![cohort.clone()];
                    world.members[me].applied = Some(cohort);
                }
                Self::release(world, me);
            }
            Action::Rewind(from) | Action::Clone(from) => {
                let source = &world.members[who(from)];
                if let Postgres::Primary(_) = source.postgres {
                    let wal = source.wal.clone();
                    (world.members[me].wal, world.members[me].data) = (wal, Data::Settling);
                }
            }
            other => unreachable!("{other} takes no time"),
        }
        self.settle(world, me);
    }

    /// The agent's process ends and begins again; its `PostgreSQL` goes on.
    pub fn restart_agent(&self, world: &mut World, me: Who) {
        let member = &mut world.members[me];
        (member.goal, member.under_way, member.awaiting) = (None, None, None);
        (member.applied, member.cut, member.acknowledged) = (None, None, 0);
        member.newest = member.remembered;
        self.broken().restarted(member);
        self.settle(world, me);
    }

    /// Cut off from every coordinator and from its cohort for longer than `isolation_timeout`.
    pub fn isolate(&self, world: &mut World, me: Who) -> bool {
        let cut_off = Inputs { coordinator_seen: Millis(0), cohort_seen: Millis(0), ..Self::inputs(world, me) };
        let Some(Action::StopFast) = decide(&cut_off).action else {
            return false;
        };
        Self::stop(world, me, false);
        self.settle(world, me);
        true
    }
}

/// A member's container, as its agent knows it.
fn inputs(member: &Member, me: Who, ancestry: Option<Ancestry>) -> Inputs {
    let goal = member.goal.as_ref().map(Hashed::value);
    let data = match member.data {
        Data::Empty => Held::Empty,
        Data::Ready => Held::Ready { system_identifier: super::start::SYSTEM },
        Data::Cloning => Held::Unfinished(Unfinished::Cloning),
        Data::Rewinding => Held::Unfinished(Unfinished::Rewinding),
        Data::Settling => Held::Unfinished(Unfinished::Settling),
    };
    let epoch = goal.as_ref().map_or(Epoch(0), |goal| goal.epoch);
    let stands = matches!(member.postgres, Postgres::Standby { upstream: Some(_), streaming: false });
    Inputs {
        group: Some(group_id()),
        newest_revision: Revision(member.newest),
        promise: Epoch(member.promise),
        data,
        postgres: seen(member, goal.as_ref(), me),
        under_way: member.under_way.as_ref().map(Hashed::value),
        awaiting: member.awaiting.map(|epoch| Action::WriteEpoch(Epoch(epoch))),
        acknowledged: Epoch(member.acknowledged),
        applied: member.applied.as_ref().map(Hashed::value),
        cut: member.cut.map(Epoch),
        // Roles, schema and slots are as they should be: they have no part in this.
        objects: epoch,
        ancestry,
        not_streaming_since: stands.then_some(Millis(0)),
        goal,
        ..Inputs::new(super::start::cluster(), id(me), NOW)
    }
}

/// What is known of the primary to follow, where it can be asked.
fn ancestry(world: &World, goal: &Goal) -> Option<Ancestry> {
    let Order::Follow { primary, timeline, .. } = &goal.order else {
        return None;
    };
    let source = &world.members[who(primary)];
    let reigns = matches!(source.postgres, Postgres::Primary(_)) && source.timeline() == timeline.0;
    let mut left: Vec<(u32, usize)> = Vec::new();
    for (place, record) in source.wal.iter().enumerate() {
        match left.last_mut() {
            Some((last, end)) if *last == record.timeline => *end = place + 1,
            _ => left.push((record.timeline, place + 1)),
        }
    }
    left.pop();
    let text: Vec<_> = left.iter().map(|(timeline, end)| format!("{timeline}\t0/{end:X}\tpromoted\n")).collect();
    let lineage = Lineage::parse(&text.concat()).expect("as PostgreSQL writes it");
    reigns.then_some(Ancestry { timeline: *timeline, lineage, has_our_wal: true, fetched: NOW })
}

fn seen(member: &Member, goal: Option<&Goal>, me: Who) -> Seen {
    let end = Lsn(member.wal.len() as u64);
    let position = Position { timeline: Timeline(member.timeline()), lsn: end };
    match &member.postgres {
        Postgres::Down { crashed } => Seen::Down { crashed: crashed.then(|| "killed".to_owned()) },
        Postgres::Standby { upstream, streaming } => Seen::Standby(Standby {
            position,
            replayed: end,
            receiver: *streaming,
            streaming: *streaming,
            upstream: upstream.map(id),
            still: !streaming,
            ..Standby::default()
        }),
        Postgres::Primary(office) => {
            let connected = office.senders.iter().filter(|(_, sender)| sender.connected);
            let standbys = connected.map(|(standby, sender)| StandbySeen {
                member: id(*standby),
                streaming: true,
                flushed: Lsn(sender.flushed as u64),
                synchronous: true,
            });
            Seen::Primary(Primary {
                position,
                standbys: standbys.collect(),
                slots: goal.map(|goal| slots_of(goal, &id(me))).unwrap_or_default(),
                ..Primary::default()
            })
        }
    }
}
