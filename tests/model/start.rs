//! Where every run of the model begins: a group of one primary and its standbys that serves, formed by the
//! real commands, with everything caught up.

use std::collections::BTreeSet;

use howdah::{
    coordinator::core::{
        command::{Command, Outcome},
        goals::goal,
        state::State,
    },
    model::{
        group::{Cohort, Container, GroupKind},
        ids::ClusterName,
        numbers::{Epoch, Millis, Timeline},
        policy::{Durability, Policy},
    },
};

use super::{
    checker::Ledger,
    coordinator::{apply, asked},
    hashed::Hashed,
    system::System,
    world::{Budget, Data, Line, Member, Office, Postgres, Record, Sender, View, What, Who, World, group_id, id},
};

/// Every member's system identifier.
pub const SYSTEM: u64 = 7;
/// The timeline of the first reign.
pub const FIRST: u32 = 2;

pub fn cluster() -> ClusterName {
    "herd".parse().expect("a name")
}

/// The group to begin with, and how far it goes.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    pub members: usize,
    pub acks: u32,
    pub durability: Durability,
    /// Standbys of the first cohort; others of the group stream and have not joined yet.
    pub cohort: usize,
    pub budget: Budget,
    /// Decisions that are applied after the beginning.
    pub decisions: u64,
}

fn policy(start: &Start) -> Policy {
    Policy {
        shards: 1,
        replicas: u32::try_from(start.members).expect("few") - 1,
        query_members: 0,
        acks: start.acks,
        durability: start.durability,
        // Times are choices of the model: these only have to be told apart (`coordinator::Time`).
        suspect_after: Millis(1),
        degrade_after: Millis(50),
        drain_timeout: Millis(50),
        ..Policy::default()
    }
}

fn container(member: Who) -> Container {
    let host = "127.0.0.1".to_owned();
    let (kind, zone) = (GroupKind::Shard, String::new());
    Container { id: id(member), host, port: 7500, kind, zone, wish: None, priority: 50, birth: 0 }
}

/// The decided state.
fn decided(start: &Start) -> State {
    let group = group_id;
    let standbys = |count: usize| (1..=count).map(id).collect::<BTreeSet<_>>();
    let full = Cohort {
        standbys: standbys(start.cohort),
        acks: start.acks.min(u32::try_from(start.cohort).expect("few")),
        ..Cohort::default()
    };
    let joined = Cohort { acks: 0, ..full.clone() };
    let mut commands = vec![Command::Initialise { cluster: cluster(), policy: policy(start) }];
    commands.extend((0..start.members).map(|member| Command::Register { container: container(member) }));
    commands.extend([
        Command::CreateGroup {
            group: group(),
            kind: GroupKind::Shard,
            members: (0..start.members).map(id).collect(),
            founder: id(0),
        },
        Command::Found { group: group(), system_identifier: SYSTEM },
        Command::OpenEpoch { group: group(), epoch: Epoch(1), target: None, accept_data_loss: false, hasty: 0 },
        Command::Elect {
            group: group(),
            epoch: Epoch(1),
            primary: id(0),
            timeline: Timeline(FIRST),
            cohort: Cohort::default(),
        },
        Command::Serving { group: group(), epoch: Epoch(1) },
        Command::SetCohort { group: group(), recorded: joined.clone(), ordered: joined.clone() },
        Command::SetCohort { group: group(), recorded: joined, ordered: full.clone() },
        Command::SetCohort { group: group(), recorded: full.clone(), ordered: full },
    ]);
    let mut state = State::default();
    for command in commands {
        let outcome = apply(&mut state, &asked(command.clone()));
        assert_eq!(outcome, Outcome::Applied, "{command:?}");
    }
    state
}

/// The world at the beginning.
pub fn world(system: &System, start: &Start) -> World {
    let state = Hashed::new(decided(start));
    let reign = state.groups[&group_id()].reign.clone().expect("it serves");
    let cohort = Hashed::new(reign.ordered.clone());
    let wal = vec![
        Record { timeline: 1, writer: 0, what: What::Begun },
        Record { timeline: FIRST, writer: 0, what: What::Begun },
        Record { timeline: FIRST, writer: 0, what: What::Row(1) },
    ];
    let member = |me: Who| {
        let goal = goal(&state, &id(me)).map(Hashed::new);
        let newest = goal.as_ref().expect("each has one").revision.0;
        let sender = Sender { flushed: wal.len(), under_way: wal.len(), connected: true };
        let senders = (1..start.members).map(|standby| (standby, sender)).collect();
        let postgres = match me {
            0 => Postgres::Primary(Office { senders, ..Office::new(cohort.clone()) }),
            _ => Postgres::Standby { upstream: Some(0), streaming: true },
        };
        Member {
            promise: 1,
            remembered: if me == 0 { newest } else { 0 },
            data: Data::Ready,
            wal: wal.clone(),
            goal,
            newest,
            acknowledged: u64::from(me == 0),
            applied: (me == 0).then(|| cohort.clone()),
            cut: None,
            under_way: None,
            awaiting: None,
            postgres,
            line: Line::Prompt,
        }
    };
    let mut world = World {
        members: (0..start.members).map(member).collect(),
        view: View { said: vec![None; start.members], applied: None },
        announced: BTreeSet::from([(0, FIRST)]),
        log: vec![state],
        straggler: None,
        ledger: Ledger::default(),
        budget: start.budget,
    };
    world.ledger.promoted(0, FIRST);
    for member in 0..start.members {
        system.hear(&mut world, member);
    }
    system.hear(&mut world, 0);
    world
}
