//! What follows from what, one case at a time. That every goal is reached from every state is proved with
//! the coordinator's real goals, in `tests/model/reach.rs`.

use std::collections::BTreeSet;

use super::*;
use crate::{
    agent::core::{
        goals::{self, Refusal},
        history::Lineage,
        inputs::{Ancestry, Failure},
        report,
    },
    model::{
        goal::GoalSettings,
        group::{Container, GroupKind, Storage},
        numbers::{Epoch, Lsn, Position, Revision},
        observed::StandbySeen,
        policy::Reads,
    },
};

const EPOCH: Epoch = Epoch(7);
const TIMELINE: Timeline = Timeline(9);

fn member(name: &str) -> MemberId {
    name.parse().expect("valid")
}

fn container(name: &str) -> Container {
    let id = member(name);
    let (host, zone) = ("127.0.0.1".to_owned(), String::new());
    Container { id, host, port: 5432, kind: GroupKind::Shard, zone, wish: None, priority: 50, birth: 0 }
}

fn cohort() -> Cohort {
    Cohort { standbys: BTreeSet::from([member("b")]), acks: 1, ordered_at: Revision(40) }
}

fn goal(order: Order) -> Goal {
    Goal {
        cluster: "c".parse().expect("valid"),
        group: "shard-1".parse().expect("valid"),
        kind: GroupKind::Shard,
        epoch: EPOCH,
        revision: Revision(41),
        joined: Revision(30),
        order,
        members: vec![container("a"), container("b")],
        system_identifier: Some(1),
        settings: GoalSettings {
            database: "howdah".to_owned(),
            owner: "howdah".to_owned(),
            heartbeat: Millis(100),
            isolation_timeout: Millis(3_000),
            reads: Reads::Available,
            slot_wal_keep_mb: 100,
        },
    }
}

fn follow_b(serving: bool) -> Order {
    Order::Follow { primary: member("b"), timeline: TIMELINE, serving }
}

fn reign_here() -> Order {
    Order::Reign { timeline: TIMELINE, cohort: cohort() }
}

fn standby(upstream: Option<&str>) -> Standby {
    let position = Position { timeline: Timeline(5), lsn: Lsn(500) };
    let (still, receiver) = (upstream.is_none(), upstream.is_some());
    Standby { position, upstream: upstream.map(member), still, receiver, ..Standby::default() }
}

fn primary_on(timeline: Timeline) -> Primary {
    Primary { position: Position { timeline, lsn: Lsn(500) }, ..Primary::default() }
}

/// A container in `state`, with no goal yet.
fn inputs(state: State) -> Inputs {
    let ready = Data::Ready { system_identifier: 1 };
    let down = Postgres::Down { crashed: None };
    let (data, postgres) = match state {
        State::Empty => (Data::Empty, down),
        State::Unfinished => (Data::Unfinished(Unfinished::Cloning), down),
        State::Settling => (Data::Unfinished(Unfinished::Settling), down),
        State::Stopped => (ready, down),
        State::Starting => (ready, Postgres::Starting),
        State::Hung => (ready, Postgres::Hung),
        State::Fenced => (ready, Postgres::Standby(standby(None))),
        State::Standby => (ready, Postgres::Standby(standby(Some("old")))),
        State::Primary => (ready, Postgres::Primary(primary_on(Timeline(5)))),
    };
    let (cluster, me) = ("c".parse().expect("valid"), member("a"));
    let joined = Revision(30);
    Inputs { birth: 5, joined, data, postgres, ..Inputs::new(cluster, me, Millis(10_000)) }
}

/// What an action does to a container where everything goes well.
fn carry_out(world: &mut Inputs, action: Action) {
    let settled = |world: &mut Inputs, upstream: Option<MemberId>| {
        let streaming = upstream.is_some();
        world.postgres = Postgres::Standby(Standby { streaming, upstream, ..standby(None) });
    };
    match action {
        Action::Promise(epoch) => world.promise = epoch,
        Action::StartFenced => world.postgres = Postgres::Starting,
        Action::StartFollowing(primary) | Action::Repoint(primary) => settled(world, Some(primary)),
        Action::MakeDataDirectory | Action::Finish => world.data = Data::Ready { system_identifier: 1 },
        Action::Cut(epoch) => {
            settled(world, None);
            world.cut = Some(epoch);
        }
        Action::Promote { timeline, .. } => world.postgres = Postgres::Primary(primary_on(timeline)),
        Action::ApplyCohort(cohort) => world.applied = Some(cohort),
        Action::WriteEpoch(epoch) => world.acknowledged = epoch,
        Action::EnsureObjects(epoch) => world.objects = epoch,
        Action::SetSlots(slots) => match &mut world.postgres {
            Postgres::Primary(primary) => primary.slots = slots,
            Postgres::Standby(standby) => standby.slots = slots,
            Postgres::Down { .. } | Postgres::Starting | Postgres::Hung => panic!("slots need an answer"),
        },
        Action::Examine { timeline, .. } => {
            let lineage = Lineage::parse("5\t0/400\tparted before us\n").expect("valid");
            world.ancestry = Some(Ancestry { timeline, lineage, has_our_wal: true, fetched: world.now });
        }
        Action::Rewind(_) | Action::Clone(_) => {
            world.data = Data::Unfinished(Unfinished::Settling);
            world.postgres = Postgres::Down { crashed: None };
        }
        Action::SetAside => (world.group, world.released, world.data) = (None, None, Data::Empty),
        Action::StopFast | Action::StopImmediate => world.postgres = Postgres::Down { crashed: None },
        Action::Abort => panic!("nothing is under way"),
    }
}

#[test]
fn a_reign_applies_the_cohort_before_it_writes_its_epoch() {
    let mut world = inputs(State::Fenced);
    world.goal = Some(goal(reign_here()));
    let mut done = Vec::new();
    while let Some(action) = decide(&world).action {
        done.push(action.clone());
        carry_out(&mut world, action);
    }
    let place = |wanted: &Action| done.iter().position(|action| action == wanted).expect("done");
    assert!(place(&Action::ApplyCohort(cohort())) < place(&Action::WriteEpoch(EPOCH)), "{done:?}");
    assert!(matches!(report::postgres(&world), crate::model::observed::PostgresSeen::Primary { epoch: EPOCH, .. }));
}

#[test]
fn a_smaller_cohort_is_applied_while_the_epoch_row_waits() {
    let mut world = inputs(State::Primary);
    world.promise = EPOCH;
    world.postgres = Postgres::Primary(primary_on(TIMELINE));
    world.awaiting = Some(Action::WriteEpoch(EPOCH));
    world.applied = Some(Cohort { acks: 2, ..cohort() });
    world.goal = Some(goal(reign_here()));
    assert_eq!(decide(&world).action, Some(Action::ApplyCohort(cohort())));
}

#[test]
fn a_used_timeline_is_not_promoted_on_again() {
    let mut world = inputs(State::Fenced);
    world.promise = EPOCH;
    world.goal = Some(goal(reign_here()));
    let Postgres::Standby(standby) = &mut world.postgres else { panic!("fenced is in recovery") };
    standby.position.timeline = TIMELINE;
    let decision = decide(&world);
    assert_eq!((decision.action, decision.healthy), (None, false), "{}", decision.note);
}

#[test]
fn nothing_is_rewound_or_cloned_before_the_primary_serves() {
    for state in State::ALL {
        let mut world = inputs(state);
        world.goal = Some(goal(follow_b(false)));
        for _ in 0..30 {
            match decide(&world).action {
                Some(action @ (Action::Rewind(_) | Action::Clone(_))) => panic!("{state}: {action}"),
                Some(action) => carry_out(&mut world, action),
                None => break,
            }
        }
    }
}

#[test]
fn only_a_standstill_is_reported_as_recruited() {
    let mut world = inputs(State::Standby);
    world.goal = Some(goal(Order::Recruit));
    assert_eq!(report::recruited(&world), None, "before the promise");
    world.promise = EPOCH;
    assert_eq!(report::recruited(&world), None, "before the cut");
    world.cut = Some(EPOCH);
    assert_eq!(report::recruited(&world), None, "while the log may grow");
    world.postgres = Postgres::Standby(standby(None));
    assert!(report::recruited(&world).is_some());
    world.under_way = Some(Action::Repoint(member("b")));
    assert_eq!(report::recruited(&world), None, "while something is under way");
}

#[test]
fn isolation_needs_both_the_coordinators_and_the_cohort_to_be_gone() {
    let mut world = inputs(State::Primary);
    world.promise = EPOCH;
    world.postgres = Postgres::Primary(Primary { slots: BTreeSet::from(["b".to_owned()]), ..primary_on(TIMELINE) });
    world.goal = Some(goal(reign_here()));
    (world.applied, world.acknowledged, world.objects) = (Some(cohort()), EPOCH, EPOCH);
    world.now = Millis(14_000);
    assert_eq!(decide(&world).action, Some(Action::StopFast));
    assert_eq!(decide(&Inputs { coordinator_seen: Millis(13_900), ..world.clone() }).action, None);
    assert_eq!(decide(&Inputs { cohort_seen: Millis(13_900), ..world.clone() }).action, None);
    // With strict reads a coordinator that cannot say who reigns is none.
    let mut strict = Inputs { coordinator_seen: Millis(13_900), ..world.clone() };
    strict.goal.as_mut().expect("given above").settings.reads = Reads::Strict;
    assert_eq!(decide(&strict).action, Some(Action::StopFast));
    assert_eq!(decide(&Inputs { leader_seen: Millis(13_900), ..strict }).action, None);
    let alone = Cohort { acks: 0, ..cohort() };
    let order = Order::Reign { timeline: TIMELINE, cohort: alone.clone() };
    assert_eq!(decide(&Inputs { applied: Some(alone), goal: Some(goal(order)), ..world }).action, None);
}

#[test]
fn a_failed_action_waits_and_a_clone_gives_way_to_another_order() {
    let mut world = inputs(State::Empty);
    world.promise = EPOCH;
    world.goal = Some(goal(follow_b(true)));
    let clone = Action::Clone(member("b"));
    world.failure =
        Some(Failure { action: clone.clone(), message: "refused".to_owned(), times: 1, until: Millis(10_001) });
    let decision = decide(&world);
    assert!(decision.action.is_none() && decision.note.contains("refused"), "{decision:?}");
    world.failure = None;
    world.under_way = Some(clone);
    assert_eq!(decide(&world).action, None);
    world.under_way = Some(Action::Clone(member("other")));
    assert_eq!(decide(&world).action, Some(Action::Abort));
}

#[test]
fn a_primary_that_cannot_write_is_ill_and_one_that_is_busy_is_not() {
    let mut world = inputs(State::Primary);
    world.promise = EPOCH;
    world.postgres = Postgres::Primary(primary_on(TIMELINE));
    world.goal = Some(goal(reign_here()));
    assert!(decide(&world).healthy);
    let trouble = Some("No space left on device".to_owned());
    world.postgres = Postgres::Primary(Primary { trouble, ..primary_on(TIMELINE) });
    assert!(!decide(&world).healthy);
}

#[test]
fn old_goals_and_other_peoples_goals_are_refused() {
    let mut world = inputs(State::Fenced);
    world.group = Some("shard-1".parse().expect("valid"));
    assert_eq!(goals::check(&world, &goal(Order::Recruit)), Ok(()));
    world.promise = Epoch(8);
    assert!(matches!(goals::check(&world, &goal(Order::Recruit)), Err(Refusal::OldEpoch { .. })));
    world.promise = EPOCH;
    world.newest_revision = Revision(42);
    assert!(matches!(goals::check(&world, &goal(Order::Recruit)), Err(Refusal::OldRevision { .. })));
    world.newest_revision = Revision(41);
    world.data = Data::Ready { system_identifier: 2 };
    assert!(matches!(goals::check(&world, &goal(Order::Recruit)), Err(Refusal::OtherData { .. })));
    world.group = Some("shard-2".parse().expect("valid"));
    assert!(matches!(goals::check(&world, &goal(Order::Recruit)), Err(Refusal::OtherGroup { .. })));
    world.group = Some("shard-1".parse().expect("valid"));
    let mut of_another_life = goal(Order::Recruit);
    of_another_life.members[0].birth = 4;
    assert!(matches!(goals::check(&world, &of_another_life), Err(Refusal::OtherLife { .. })));
    world.cluster = "d".parse().expect("valid");
    assert!(matches!(goals::check(&world, &goal(Order::Recruit)), Err(Refusal::OtherCluster { .. })));
}

#[test]
fn standbys_seen_are_no_reason_to_act() {
    let mut world = inputs(State::Primary);
    world.promise = EPOCH;
    let seen = StandbySeen { member: member("b"), streaming: false, flushed: Lsn(1), synchronous: false };
    let slots = BTreeSet::from(["b".to_owned()]);
    world.postgres = Postgres::Primary(Primary { standbys: vec![seen], slots, ..primary_on(TIMELINE) });
    (world.applied, world.acknowledged, world.objects) = (Some(cohort()), EPOCH, EPOCH);
    world.goal = Some(goal(reign_here()));
    assert_eq!(decide(&world).action, None);
}

#[test]
fn who_is_let_go_ends_and_never_reuses_its_data_silently() {
    for storage in [Storage::Persistent, Storage::Ephemeral] {
        for state in State::ALL {
            let mut world = inputs(state);
            world.storage = storage;
            world.group = Some("shard-1".parse().expect("valid"));
            world.released = Some(Revision(31));
            let end = walk(&mut world);
            let precious = !matches!(state, State::Empty | State::Unfinished | State::Settling);
            let kept = precious && storage == Storage::Persistent;
            assert!(matches!(world.postgres, Postgres::Down { .. }), "{state}: {end:?}");
            assert_eq!((world.group.is_some(), end.healthy), (kept, !kept), "{state}: {end:?}");
            assert_eq!(world.data == Data::Empty, !kept, "{state}: {end:?}");
        }
    }
}

#[test]
fn only_a_coordinator_that_saw_it_leave_lets_a_container_go() {
    let mut world = inputs(State::Stopped);
    assert!(!goals::released(&world, Revision(31)), "it has no group");
    world.group = Some("shard-1".parse().expect("valid"));
    assert!(!goals::released(&world, Revision(0)), "a coordinator that knows nothing");
    assert!(!goals::released(&world, Revision(30)), "one that has not seen it join");
    assert!(goals::released(&world, Revision(31)));
}

#[test]
fn a_log_that_has_parted_is_rewound_and_one_whose_way_back_is_gone_is_cloned() {
    let asked = |history: &str, has_our_wal| {
        let mut world = inputs(State::Fenced);
        world.promise = EPOCH;
        world.goal = Some(goal(follow_b(true)));
        let lineage = Lineage::parse(history).expect("valid");
        world.ancestry = Some(Ancestry { timeline: TIMELINE, lineage, has_our_wal, fetched: world.now });
        decide(&world).action
    };
    // It stands at 0/1F4 on timeline 5.
    assert_eq!(asked("5\t0/400\tx\n", true), Some(Action::Repoint(member("b"))));
    assert_eq!(asked("5\t0/400\tx\n", false), Some(Action::Clone(member("b"))), "the primary lacks what comes next");
    assert_eq!(asked("5\t0/100\tx\n", true), Some(Action::Rewind(member("b"))), "it went on after the others left");
    assert_eq!(asked("4\t0/400\tx\n", true), Some(Action::Rewind(member("b"))), "they never were on its timeline");
    // Half rewound is neither the one nor the other.
    let mut world = inputs(State::Unfinished);
    world.data = Data::Unfinished(Unfinished::Rewinding);
    world.promise = EPOCH;
    world.goal = Some(goal(follow_b(true)));
    assert_eq!(decide(&world).action, Some(Action::Clone(member("b"))));
    assert_eq!(report::recruited(&world), None);
}
