//! The deciding code for a thousand shards: a turn of the planner, and one applied decision, must fit many
//! times into the 20 ms between two turns. A debug build on a busy machine measures nothing, so what is
//! checked is that the work grows no faster than the number of shards, and an applied decision's not at all;
//! the figures are printed.

use std::collections::{BTreeMap, BTreeSet};

use howdah::{
    coordinator::core::{
        command::{Command, Proposal},
        observed::{Connection, Observed},
        planner::{World, plan},
        state::State,
    },
    host::clock::Clock,
    model::{
        group::{Cohort, Container, Group, GroupKind, Phase, Reign},
        ids::{GroupId, MemberId},
        numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
        observed::{DataState, PostgresSeen, Report, StandbySeen},
        policy::Policy,
    },
};

const NOW: Millis = Millis(100_000);
/// The best of so many, each of so many turns.
const ROUNDS: usize = 5;
const TURNS: u32 = 5;

fn container(id: &MemberId) -> Container {
    let (host, zone) = ("127.0.0.1".to_owned(), String::new());
    Container { id: id.clone(), host, port: 7500, kind: GroupKind::Shard, zone, wish: None, priority: 50, birth: 0 }
}

fn report(member: &MemberId, postgres: PostgresSeen) -> Report {
    Report {
        member: member.clone(),
        incarnation: 1,
        sequence: 1,
        promise: Epoch(1),
        goal_revision: Revision(1),
        data: DataState::Ready { system_identifier: 7 },
        postgres,
        recruited: None,
        state: String::new(),
        healthy: true,
        note: String::new(),
        pid: 1,
        postmaster_pid: None,
        router_pid: None,
        data_dir: String::new(),
    }
}

/// So many shards of two, all well.
fn herd(shards: u32) -> (State, Observed) {
    let (mut state, mut observed) = (State::default(), Observed::default());
    observed.note_leadership(Millis(1));
    state.cluster = Some("herd".parse().expect("a name"));
    state.policy = Policy { shards, query_members: 0, ..Policy::default() };
    state.revision = Revision(1);
    let position = Position { timeline: Timeline(2), lsn: Lsn(100) };
    for shard in 1..=shards {
        let group: GroupId = format!("shard-{shard}").parse().expect("a name");
        let pair = ["a", "b"].map(|letter| format!("{letter}{shard}").parse::<MemberId>().expect("a name"));
        let [primary, standby] = pair.clone();
        let cohort = Cohort { standbys: [standby.clone()].into(), acks: 1, ordered_at: Revision(1) };
        let streams = StandbySeen { member: standby.clone(), streaming: true, flushed: Lsn(100), synchronous: true };
        let (epoch, applied, standbys) = (Epoch(1), cohort.clone(), vec![streams]);
        let primary_seen = PostgresSeen::Primary { position, epoch, applied, standbys, tables: Vec::new() };
        let (replayed, upstream) = (Lsn(100), Some(primary.clone()));
        let standby_seen = PostgresSeen::Standby { position, replayed, streaming: true, upstream };
        for (member, seen) in pair.iter().zip([primary_seen, standby_seen]) {
            let connection = Connection(u64::from(shard));
            observed.member_connected(container(member), connection, NOW);
            observed.member_reported(connection, report(member, seen), NOW);
            state.containers.insert(member.clone(), container(member));
            state.membership.insert(member.clone(), group.clone());
        }
        let (recorded, ordered) = (cohort.clone(), cohort);
        let reign = Reign { epoch, primary, timeline: Timeline(2), recorded, ordered };
        let members: BTreeMap<_, _> = pair.iter().map(|id| (id.clone(), container(id))).collect();
        let (kind, phase, last_timeline) = (GroupKind::Shard, Phase::Serving, Timeline(2));
        let (revision, system_identifier) = (Revision(1), Some(7));
        let (id, reign, reason) = (group.clone(), Some(reign), String::new());
        let (replicas, leaving, paused, hasty) = (Some(1), BTreeSet::new(), false, 0);
        let group_state = Group {
            id,
            kind,
            members,
            epoch,
            phase,
            reign,
            last_timeline,
            replicas,
            leaving,
            paused,
            hasty,
            system_identifier,
            revision,
            reason,
        };
        state.groups.insert(group, group_state);
    }
    (state, observed)
}

/// Milliseconds that one of several takes, at best.
fn best(mut act: impl FnMut()) -> f64 {
    let clock = Clock::start();
    let mut round = || {
        let before = clock.now();
        (0..TURNS).for_each(|_| act());
        let took = u32::try_from(clock.now().since(before).0).expect("a short time");
        f64::from(took) / f64::from(TURNS)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::MAX, f64::min)
}

fn turn(state: &State, observed: &mut Observed) -> Vec<Proposal> {
    observed.turn(state, NOW);
    plan(&World { state, observed, now: NOW, time_ms: 0, in_flight: false })
}

fn times(shards: u32) -> (f64, f64) {
    let (mut state, mut observed) = herd(shards);
    assert_eq!(turn(&state, &mut observed), [], "all is as it should be");
    let planned = best(|| drop(turn(&state, &mut observed)));
    let applied = best(|| {
        let group: GroupId = "shard-1".parse().expect("a name");
        let epoch = state.groups[&group].epoch.next();
        let command = Command::OpenEpoch { group, epoch, target: None, accept_data_loss: false, hasty: 0 };
        let proposal = Proposal { command, reason: "measured".to_owned(), time_ms: 0, based_on: None };
        state.apply(state.revision.next(), &proposal);
    });
    (planned, applied)
}

#[test]
fn a_thousand_shards_are_planned_in_time() {
    let (small, large) = (times(100), times(1_000));
    println!("ms for 100 and for 1,000 shards: plan {} and {}, apply {} and {}", small.0, large.0, small.1, large.1);
    // Ten times the shards; a few milliseconds are the clock's grain and other people's work.
    assert!(large.0 < 25.0 * small.0.max(1.0), "planning grows faster than the number of shards");
    assert!(large.1 < 5.0 * small.1.max(2.0), "applying one decision takes longer the more shards there are");
}
