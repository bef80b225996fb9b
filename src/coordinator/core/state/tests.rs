//! What the state refuses, remembers and bounds.

use super::*;
use crate::{
    coordinator::core::{
        command::{OperationKind, OperationOutcome},
        goals::goal,
        invariants,
        topology::topology,
    },
    model::{
        goal::Order,
        group::{Cohort, Phase},
        numbers::{Epoch, Timeline},
        topology::Access,
    },
};

fn member(name: &str) -> MemberId {
    name.parse().expect("a name")
}

fn shard(number: u32) -> GroupId {
    shard_name(number)
}

struct Cluster(State);

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self(State::default());
        let policy = Policy { shards: 0, query_members: 0, ..Policy::default() };
        cluster.run(Command::Initialise { cluster: "herd".parse().expect("a name"), policy });
        cluster
    }

    fn try_on(&mut self, command: Command, based_on: Option<(GroupId, Revision)>) -> Outcome {
        let before = self.0.clone();
        let proposal = Proposal { command, reason: "test".to_owned(), time_ms: 1, based_on };
        let outcome = self.0.apply(self.0.revision.next(), &proposal);
        assert_eq!(invariants::check(&before, &self.0), Ok(()));
        outcome
    }

    fn try_to(&mut self, command: Command) -> Outcome {
        self.try_on(command, None)
    }

    fn run(&mut self, command: Command) {
        let outcome = self.try_to(command);
        assert_eq!(outcome, Outcome::Applied);
    }

    /// A shard of `members`, the first of which reigns in epoch 1 on timeline 2 with a cohort of nobody.
    fn shard(&mut self, number: u32, members: &[&str]) -> GroupId {
        let group = shard(number);
        for name in members {
            let container = Container {
                id: member(name),
                host: "h".to_owned(),
                port: 1,
                kind: GroupKind::Shard,
                zone: String::new(),
                wish: None,
                priority: 50,
                birth: 0,
            };
            self.run(Command::Register { container });
        }
        let founder = member(members[0]);
        self.run(Command::CreateGroup {
            group: group.clone(),
            kind: GroupKind::Shard,
            members: members.iter().map(|name| member(name)).collect(),
            founder: founder.clone(),
        });
        self.run(Command::Found { group: group.clone(), system_identifier: 7 });
        self.open(&group, 1);
        self.run(elect(&group, 1, members[0], 2, cohort("", 0)));
        self.run(Command::Serving { group: group.clone(), epoch: Epoch(1) });
        group
    }

    fn open(&mut self, group: &GroupId, epoch: u64) {
        let group = group.clone();
        self.run(Command::OpenEpoch { group, epoch: Epoch(epoch), target: None, accept_data_loss: false, hasty: 0 });
    }
}

fn cohort(standbys: &str, acks: u32) -> Cohort {
    let standbys = standbys.split_terminator(',').map(member).collect();
    Cohort { standbys, acks, ordered_at: Revision(0) }
}

fn elect(group: &GroupId, epoch: u64, primary: &str, timeline: u32, cohort: Cohort) -> Command {
    Command::Elect {
        group: group.clone(),
        epoch: Epoch(epoch),
        primary: member(primary),
        timeline: Timeline(timeline),
        cohort,
    }
}

fn set(group: &GroupId, recorded: Cohort, ordered: Cohort) -> Command {
    Command::SetCohort { group: group.clone(), recorded, ordered }
}

fn refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(Refusal::Precondition(_)))
}

#[test]
fn a_decision_on_an_older_group_is_refused() {
    let mut cluster = Cluster::new();
    let group = cluster.shard(1, &["a", "b"]);
    let based_on = Some((group.clone(), cluster.0.groups[&group].revision));
    cluster.open(&group, 2);
    let command = Command::OpenEpoch { group, epoch: Epoch(3), target: None, accept_data_loss: false, hasty: 0 };
    let outcome = cluster.try_on(command, based_on);
    assert!(matches!(outcome, Outcome::Refused(Refusal::Stale { .. })), "{outcome:?}");
}

#[test]
fn epochs_and_timelines_only_grow() {
    let mut cluster = Cluster::new();
    let group = cluster.shard(1, &["a", "b"]);
    let again =
        Command::OpenEpoch { group: group.clone(), epoch: Epoch(1), target: None, accept_data_loss: false, hasty: 0 };
    assert!(refused(&cluster.try_to(again)));
    cluster.open(&group, 2);
    assert!(refused(&cluster.try_to(elect(&group, 2, "b", 2, cohort("", 0)))), "timeline 2 is a's");
    assert!(refused(&cluster.try_to(elect(&group, 1, "b", 3, cohort("", 0)))), "epoch 1 is over");
    cluster.run(elect(&group, 2, "b", 3, cohort("a", 1)));
    assert!(refused(&cluster.try_to(elect(&group, 2, "a", 4, cohort("", 0)))), "one reign per epoch");
    cluster.open(&group, 3);
    assert!(
        refused(&cluster.try_to(elect(&group, 3, "a", 2, cohort("", 0)))),
        "a cannot go on on timeline 2 once b was told to branch off it"
    );
}

#[test]
fn a_live_primary_keeps_a_cohort_that_elections_assume() {
    let mut cluster = Cluster::new();
    let group = cluster.shard(1, &["a", "b", "c"]);
    cluster.run(set(&group, cohort("b", 0), cohort("b", 1)));
    cluster.run(set(&group, cohort("b", 1), cohort("b", 1)));
    cluster.open(&group, 2);
    assert!(refused(&cluster.try_to(elect(&group, 2, "a", 2, cohort("c", 1)))), "b could be elected without c");
    cluster.run(elect(&group, 2, "a", 2, cohort("b", 0)));
    let reign = cluster.0.groups[&group].reign.clone().expect("it has reigned");
    assert_eq!(reign.recorded.acks, 0, "recorded before the primary may use it");
}

#[test]
fn cohorts_change_in_safe_steps_only() {
    let mut cluster = Cluster::new();
    let group = cluster.shard(1, &["a", "b", "c"]);
    assert!(refused(&cluster.try_to(set(&group, cohort("b", 1), cohort("b", 1)))), "not applied yet");
    cluster.run(set(&group, cohort("b", 0), cohort("b", 1)));
    cluster.run(set(&group, cohort("b", 1), cohort("b", 1)));
    assert!(refused(&cluster.try_to(set(&group, cohort("c", 1), cohort("c", 1)))));
    assert!(refused(&cluster.try_to(set(&group, cohort("b", 1), cohort("c", 1)))));
    assert!(refused(&cluster.try_to(set(&group, cohort("b", 2), cohort("b", 2)))), "two of one");
    assert!(refused(&cluster.try_to(set(&group, cohort("a", 0), cohort("a", 0)))), "a is the primary");
    cluster.run(set(&group, cohort("b,c", 1), cohort("b,c", 1)));
}

#[test]
fn operations_are_found_by_their_key_and_bounded() {
    let mut cluster = Cluster::new();
    let begin = |key: &str, replicas| Command::BeginOperation {
        key: key.to_owned(),
        kind: OperationKind::AddShard { replicas },
    };
    let first = cluster.try_to(begin("k", 1));
    assert_eq!(cluster.try_to(begin("k", 1)), first);
    assert!(refused(&cluster.try_to(begin("k", 2))), "the key is another operation's");
    for number in 0..150 {
        let Outcome::Operation(id) = cluster.try_to(begin(&format!("n{number}"), 0)) else { panic!("refused") };
        let outcome = OperationOutcome::Done { message: String::new() };
        cluster.run(Command::FinishOperation { id, outcome });
    }
    assert_eq!(cluster.0.operations.len(), 101, "the running one and a hundred that ended");
    let unknown = OperationKind::Switchover { group: shard(9), to: None };
    let outcome = cluster.try_to(Command::BeginOperation { key: "x".to_owned(), kind: unknown });
    assert!(matches!(outcome, Outcome::Refused(Refusal::NotFound(_))));
}

#[test]
fn a_pause_is_recorded_once_and_ends() {
    let mut cluster = Cluster::new();
    let (one, two) = (cluster.shard(1, &["a"]), cluster.shard(2, &["b"]));
    let mut ask = |key: &str, kind| {
        let outcome = cluster.try_to(Command::BeginOperation { key: key.to_owned(), kind });
        (outcome, cluster.0.groups.values().map(|group| group.paused).collect::<Vec<_>>())
    };
    let all = OperationKind::Pause { group: None };
    let (first, paused) = ask("p", all.clone());
    assert_eq!(paused, [true, true]);
    assert_eq!(ask("r", OperationKind::Resume { group: Some(one) }).1, [false, true]);
    // The key was used up: the answer is that of then, and nothing is paused again.
    assert_eq!(ask("p", all), (first, vec![false, true]));
    assert_eq!(ask("s", OperationKind::Resume { group: Some(two) }).1, [false, false]);
    let unknown = ask("u", OperationKind::Pause { group: Some(shard(9)) }).0;
    assert!(matches!(unknown, Outcome::Refused(Refusal::NotFound(_))), "{unknown:?}");
    assert!(cluster.0.operations.iter().all(|operation| !operation.runs()));
}

#[test]
fn new_shards_get_names_of_their_own() {
    let mut cluster = Cluster::new();
    cluster.shard(1, &["a"]);
    for name in ["shard-2", "shard-3"] {
        let kind = OperationKind::AddShard { replicas: 0 };
        cluster.try_to(Command::BeginOperation { key: name.to_owned(), kind });
        assert_eq!(cluster.0.operations.last().map(|operation| operation.target.to_string()), Some(name.to_owned()));
    }
}

#[test]
fn colocation_is_reused_only_while_it_covers_all_shards() {
    let mut cluster = Cluster::new();
    let ensure = || Command::EnsureColocation { key_type: "bigint".to_owned(), bucket_count: 4, alone: None };
    assert!(refused(&cluster.try_to(ensure())), "no shard");
    cluster.shard(1, &["a"]);
    cluster.shard(2, &["b"]);
    let Outcome::Colocation(first) = cluster.try_to(ensure()) else { panic!("refused") };
    assert_eq!(first.buckets, [shard(1), shard(2), shard(1), shard(2)]);
    assert_eq!(cluster.try_to(ensure()), Outcome::Colocation(first.clone()));
    cluster.shard(10, &["c"]);
    let Outcome::Colocation(second) = cluster.try_to(ensure()) else { panic!("refused") };
    assert_eq!(second.buckets, [shard(1), shard(2), shard(10), shard(1)]);
    assert_ne!(first.id, second.id);
}

#[test]
fn a_colocation_made_for_one_table_is_nobody_elses() {
    let mut cluster = Cluster::new();
    cluster.shard(1, &["a"]);
    let mut ensure = |alone: Option<&str>| {
        let alone = alone.map(str::to_owned);
        let command = Command::EnsureColocation { key_type: "bigint".to_owned(), bucket_count: 4, alone };
        let Outcome::Colocation(made) = cluster.try_to(command) else { panic!("refused") };
        made.id
    };
    let (first, shared) = (ensure(Some("x")), ensure(None));
    assert_ne!(first, shared, "made before any other, and still nobody else's");
    assert_eq!((ensure(Some("x")), ensure(None)), (first, shared), "asked again");
    assert!(![first, shared].contains(&ensure(Some("y"))));
}

#[test]
fn events_are_a_ring() {
    let mut cluster = Cluster::new();
    let group = cluster.shard(1, &["a"]);
    for epoch in 2..1_200 {
        cluster.open(&group, epoch);
    }
    assert_eq!(cluster.0.events.len(), EVENTS_KEPT);
}

#[test]
fn the_state_survives_a_snapshot() {
    let mut cluster = Cluster::new();
    cluster.shard(1, &["a", "b"]);
    cluster.try_to(Command::EnsureColocation { key_type: "text".to_owned(), bucket_count: 2, alone: None });
    cluster.try_to(Command::BeginOperation { key: "k".to_owned(), kind: OperationKind::AddShard { replicas: 1 } });
    let text = serde_json::to_string(&cluster.0).expect("it is plain data");
    assert_eq!(serde_json::from_str::<State>(&text).expect("it was written by us"), cluster.0);
}

#[test]
fn goals_and_topology_follow_the_phase() {
    let mut cluster = Cluster::new();
    let group = cluster.shard(1, &["a", "b"]);
    let access = |state: &State| topology(state).expect("initialised").groups[&shard(1)].access.clone();
    let order = |state: &State, name| goal(state, &member(name)).expect("in a group").order;
    assert!(matches!(access(&cluster.0), Access::Open { primary } if primary.member == member("a")));
    assert!(matches!(order(&cluster.0, "a"), Order::Reign { timeline: Timeline(2), .. }));
    assert!(matches!(order(&cluster.0, "b"), Order::Follow { serving: true, .. }));
    let open = cluster.0.topology_revision;
    cluster.run(set(&group, cohort("b", 0), cohort("b", 0)));
    assert_eq!(cluster.0.topology_revision, open, "routers do not see cohorts");
    cluster.run(Command::Drain { group: group.clone(), target: None });
    assert!(matches!(access(&cluster.0), Access::Draining { .. }));
    assert!(cluster.0.topology_revision > open);
    cluster.run(Command::StandDown { group: group.clone() });
    assert_eq!((access(&cluster.0), order(&cluster.0, "a")), (Access::Held, Order::StandDown));
    cluster.open(&group, 2);
    assert_eq!((order(&cluster.0, "a"), order(&cluster.0, "b")), (Order::Recruit, Order::Recruit));
    cluster.run(elect(&group, 2, "b", 3, cohort("", 0)));
    assert!(matches!(order(&cluster.0, "a"), Order::Follow { serving: false, .. }));
    assert!(matches!(cluster.0.groups[&group].phase, Phase::Promoting { .. }));
}
