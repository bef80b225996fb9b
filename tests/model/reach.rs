//! Every goal that the coordinator can give is one that an agent can reach from wherever it stands.
//!
//! All goals that `goals::goal` produces (every phase, every part in it) meet all states of a container
//! (every row of the transition table, with all that `decide` tells apart within a row), as far as the
//! agent takes the goal at all. From each pair every way is walked that its actions can lead, with every
//! answer they can get. A way may end only
//!
//! - at rest, with the goal fulfilled;
//! - at a wait that is named in [`WAITS`], with the outside event that ends it; from there it goes on;
//! - at a block that is named in [`BLOCKS`], and then the real planner, told so, opens another epoch.

use std::collections::BTreeSet;

use howdah::{
    agent::core::{
        action::Action,
        decide::{decide, slots_of},
        goals as agents_goals,
        history::Lineage,
        inputs::{Ancestry, Data, Inputs, Postgres, Primary, Standby, Unfinished},
        report,
        states::State as Stands,
    },
    coordinator::core::{
        command::Command,
        goals::goal,
        observed::{Connection, Observed},
        planner::{World, plan},
        state::State,
    },
    model::{
        goal::Order,
        group::{Cohort, Container, Group, GroupKind, Phase, Reign},
        numbers::{Epoch, Lsn, Millis, Position, Revision, Timeline},
        observed::Report,
        policy::{Durability, Policy},
    },
};

use super::world::{group_id, id};

const SYSTEM: u64 = 7;
const EPOCH: Epoch = Epoch(7);
/// The timeline of the reign that goals are about; members stand on it, before it or beside it.
const TIMELINE: Timeline = Timeline(9);
const NOW: Millis = Millis(1_000_000);

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// `PostgreSQL` answers, or dies.
    Answers,
    /// Replay reaches its end.
    Replayed,
    /// The primary streams, or patience with it ends.
    Streams,
    /// The primary comes to serve, which is another goal; or it does not, which is another epoch.
    Serves,
    /// The next goal of a group that gets a primary: to follow it.
    Order,
}

/// What an agent may wait for, by the words it reports, and what ends it.
const WAITS: [(&str, Event); 7] = [
    ("PostgreSQL is starting", Event::Answers),
    ("PostgreSQL does not answer", Event::Answers),
    ("replays its own log before following anyone", Event::Replayed),
    ("waits for b to stream", Event::Streams),
    ("waits to clone until b serves", Event::Serves),
    ("its log has parted from b's: waits to rewind until b serves", Event::Serves),
    ("a clone or rewind is unfinished: it goes on when there is a primary to follow", Event::Order),
];

/// What an agent cannot do, by the words it reports: the coordinator has to elect another.
const BLOCKS: [&str; 2] = ["has no usable data to reign with", "the number is used up"];

fn container(member: usize) -> Container {
    let host = "127.0.0.1".to_owned();
    let (kind, zone) = (GroupKind::Shard, String::new());
    Container { id: id(member), host, port: 7500, kind, zone, wish: None, priority: 50, birth: 0 }
}

fn reign(primary: usize, epoch: u64, timeline: Timeline) -> Reign {
    let standbys = (0..3).filter(|member| *member != primary).map(id).collect();
    let cohort = Cohort { standbys, acks: 1, ordered_at: Revision(40) };
    Reign { epoch: Epoch(epoch), primary: id(primary), timeline, recorded: cohort.clone(), ordered: cohort }
}

fn decided(phase: Phase, reign: Option<Reign>, durability: Durability) -> State {
    let members: Vec<_> = (0..3).map(container).collect();
    let by_id = || members.iter().map(|container| (container.id.clone(), container.clone()));
    let group = Group {
        id: group_id(),
        kind: GroupKind::Shard,
        members: by_id().collect(),
        epoch: if matches!(phase, Phase::Forming { .. }) { Epoch(0) } else { EPOCH },
        phase,
        reign,
        last_timeline: TIMELINE,
        replicas: Some(2),
        leaving: BTreeSet::new(),
        paused: false,
        hasty: 0,
        system_identifier: Some(SYSTEM),
        revision: Revision(41),
        reason: String::new(),
    };
    State {
        revision: Revision(41),
        cluster: Some("herd".parse().expect("a name")),
        policy: Policy { shards: 1, query_members: 0, durability, ..Policy::default() },
        containers: by_id().collect(),
        membership: members.iter().map(|container| (container.id.clone(), group_id())).collect(),
        groups: [(group_id(), group)].into(),
        ..State::default()
    }
}

/// Every state of a group, as far as the goal of member `a` depends on it.
fn states() -> Vec<State> {
    let mut states = Vec::new();
    for durability in [Durability::Strict, Durability::Available] {
        for primary in [0, 1] {
            let founder = id(primary);
            let mut forming = decided(Phase::Forming { founder }, None, durability);
            for group in forming.groups.values_mut() {
                group.system_identifier = None;
            }
            states.push(forming);
            let before = || Some(reign(1 - primary, 6, Timeline(5)));
            let next = reign(primary, EPOCH.0, TIMELINE);
            states.push(decided(Phase::Recruiting { target: None, accept_data_loss: false }, before(), durability));
            states.push(decided(Phase::Promoting { next: next.clone() }, before(), durability));
            for phase in [Phase::Serving, Phase::Draining { target: None }, Phase::StandingDown { target: None }] {
                states.push(decided(phase, Some(next.clone()), durability));
            }
        }
    }
    states
}

fn lineage() -> Lineage {
    Lineage::parse("5\t0/400\tleft before us\n").expect("as PostgreSQL writes it")
}

/// A container with all that `decide` tells apart within each row of the table.
fn containers() -> Vec<Inputs> {
    let nothing = Inputs::new("herd".parse().expect("a name"), id(0), NOW);
    let data = Data::Ready { system_identifier: SYSTEM };
    let base = Inputs { group: Some(group_id()), promise: Epoch(6), data, ..nothing };
    let unfinished = |it| Inputs { data: Data::Unfinished(it), ..base.clone() };
    let with = |postgres| Inputs { postgres, ..base.clone() };
    let mut all = vec![
        Inputs { data: Data::Empty, promise: Epoch(0), group: None, ..base.clone() },
        Inputs { data: Data::Empty, ..base.clone() },
        unfinished(Unfinished::Cloning),
        unfinished(Unfinished::Rewinding),
        unfinished(Unfinished::Settling),
        Inputs { postgres: Postgres::Starting, starting_since: Some(Millis(0)), ..unfinished(Unfinished::Settling) },
        with(Postgres::Down { crashed: None }),
        with(Postgres::Down { crashed: Some("killed".to_owned()) }),
        with(Postgres::Starting),
        with(Postgres::Hung),
    ];
    // Before the reign's timeline and a prefix of it; parted from it; on it.
    for (timeline, lsn) in [(5, 0x300), (5, 0x500), (TIMELINE.0, 0x500)] {
        let position = Position { timeline: Timeline(timeline), lsn: Lsn(lsn) };
        for upstream in [None, Some(id(1)), Some(id(2))] {
            for (still, receiver, streaming) in [(true, false, false), (false, false, false), (false, true, true)] {
                let upstream = upstream.clone();
                if upstream.is_none() && receiver {
                    continue;
                }
                let slots = BTreeSet::from(["left_over".to_owned()]);
                let standby = Standby { position, replayed: Lsn(lsn), receiver, streaming, upstream, still, slots };
                all.push(with(Postgres::Standby(standby)));
            }
        }
        all.push(with(Postgres::Primary(Primary { position, ..Primary::default() })));
    }
    all
}

/// What an action may lead to, where it does not fail. (What fails is tried again: nothing has changed.)
fn effects(world: &Inputs, action: &Action) -> Vec<Inputs> {
    let mut next = world.clone();
    let down = Postgres::Down { crashed: None };
    match action {
        Action::Promise(epoch) => next.promise = *epoch,
        Action::MakeDataDirectory | Action::Finish => next.data = Data::Ready { system_identifier: SYSTEM },
        Action::StartFenced => next.postgres = Postgres::Starting,
        Action::StartFollowing(primary) | Action::Repoint(primary) => {
            let mut standby = stands(world);
            (standby.upstream, standby.still) = (Some(primary.clone()), false);
            (next.postgres, next.cut, next.ancestry) = (Postgres::Standby(standby), None, None);
            next.not_streaming_since = Some(NOW);
        }
        Action::Cut(epoch) => {
            let standby = Standby { upstream: None, receiver: false, streaming: false, still: true, ..stands(world) };
            (next.postgres, next.cut) = (Postgres::Standby(standby), Some(*epoch));
        }
        Action::Promote { timeline, .. } => {
            let position = Position { timeline: *timeline, lsn: Lsn(0x600) };
            next.postgres = Postgres::Primary(Primary { position, ..Primary::default() });
        }
        Action::ApplyCohort(cohort) => next.applied = Some(cohort.clone()),
        Action::WriteEpoch(epoch) => next.acknowledged = *epoch,
        Action::EnsureObjects(epoch) => next.objects = *epoch,
        Action::SetSlots(slots) => match &mut next.postgres {
            Postgres::Primary(primary) => primary.slots.clone_from(slots),
            Postgres::Standby(standby) => standby.slots.clone_from(slots),
            Postgres::Down { .. } | Postgres::Starting | Postgres::Hung => {
                panic!("slots need an answer")
            }
        },
        Action::Examine { timeline, .. } => {
            let answer = |has_our_wal| {
                let ancestry = Ancestry { timeline: *timeline, lineage: lineage(), has_our_wal, fetched: NOW };
                Inputs { ancestry: Some(ancestry), ..world.clone() }
            };
            return vec![answer(true), answer(false)];
        }
        Action::Rewind(_) | Action::Clone(_) => {
            (next.data, next.postgres) = (Data::Unfinished(Unfinished::Settling), down);
            (next.ancestry, next.starting_since) = (None, None);
        }
        Action::StopFast | Action::StopImmediate => {
            (next.postgres, next.applied, next.cut) = (down, None, None);
        }
        Action::SetAside => panic!("nobody is let go of"),
        Action::Abort => panic!("nothing is under way"),
    }
    vec![next]
}

/// This `PostgreSQL` in recovery. What was cloned or rewound has its primary's history.
fn stands(world: &Inputs) -> Standby {
    match (&world.postgres, world.data) {
        (Postgres::Standby(standby), _) => standby.clone(),
        (_, data) => {
            let copied = matches!(data, Data::Unfinished(_));
            let timeline = if copied { TIMELINE } else { Timeline(5) };
            Standby { position: Position { timeline, lsn: Lsn(0x300) }, still: true, ..Standby::default() }
        }
    }
}

/// What an event makes of a container that waits for it.
fn happens(world: &Inputs, event: Event) -> Vec<Inputs> {
    let mut next = world.clone();
    match (event, &mut next.postgres) {
        (Event::Answers, _) => {
            let dead = Inputs { postgres: Postgres::Down { crashed: Some("killed".to_owned()) }, ..world.clone() };
            next.postgres = Postgres::Standby(stands(world));
            next.starting_since = None;
            let mut ways = vec![next, dead];
            if world.postgres == Postgres::Hung {
                let position = Position { timeline: Timeline(5), lsn: Lsn(0x300) };
                let primary = Postgres::Primary(Primary { position, ..Primary::default() });
                ways.push(Inputs { postgres: primary, ..world.clone() });
            }
            ways
        }
        (Event::Replayed, Postgres::Standby(standby)) => {
            standby.still = true;
            vec![next]
        }
        (Event::Streams, Postgres::Standby(standby)) => {
            (standby.streaming, standby.receiver) = (true, true);
            let mut out_of_patience = world.clone();
            out_of_patience.not_streaming_since = Some(Millis(0));
            vec![next, out_of_patience]
        }
        (Event::Serves, _) => {
            let goal = next.goal.as_mut().expect("it waits for its goal's primary");
            let Order::Follow { serving, .. } = &mut goal.order else { panic!("{:?}", goal.order) };
            *serving = true;
            vec![next]
        }
        (Event::Order, _) => {
            let serving = decided(Phase::Serving, Some(reign(1, EPOCH.0, TIMELINE)), Durability::Available);
            next.goal = goal(&serving, &id(0));
            vec![next]
        }
        (Event::Replayed | Event::Streams, other) => panic!("{event:?} of {other:?}"),
    }
}

/// Whether what was ordered is done.
fn fulfilled(world: &Inputs) -> bool {
    let Some(goal) = &world.goal else { return true };
    let ready = matches!(world.data, Data::Ready { .. });
    let fenced = !matches!(world.postgres, Postgres::Primary(_) | Postgres::Hung);
    match (&goal.order, &world.postgres) {
        (Order::Found, _) => ready && fenced,
        (Order::Recruit, _) => report::recruited(world).is_some() || world.data == Data::Empty,
        (Order::StandDown, _) => fenced,
        (Order::Reign { timeline, cohort }, Postgres::Primary(primary)) => {
            primary.position.timeline == *timeline
                && primary.slots == slots_of(goal, &id(0))
                && world.applied.as_ref() == Some(cohort)
                && (world.acknowledged, world.objects) == (goal.epoch, goal.epoch)
        }
        (Order::Follow { primary, .. }, Postgres::Standby(standby)) => {
            ready && standby.streaming && standby.upstream.as_ref() == Some(primary) && standby.slots.is_empty()
        }
        (Order::Reign { .. } | Order::Follow { .. }, _) => false,
    }
}

/// The planner, told by this candidate's own report, opens another epoch.
fn another_is_elected(decided: &State, world: &Inputs) -> bool {
    let decision = decide(world);
    let report = Report {
        member: id(0),
        incarnation: 1,
        sequence: 1,
        promise: world.promise,
        goal_revision: Revision(41),
        data: report::data(world),
        postgres: report::postgres(world),
        recruited: report::recruited(world),
        state: decision.state.to_string(),
        healthy: decision.healthy,
        note: decision.note,
        pid: 1,
        postmaster_pid: None,
        router_pid: None,
        data_dir: String::new(),
    };
    let mut observed = Observed::default();
    observed.note_leadership(Millis(0));
    // It goes on saying so until every limit has passed.
    (1..250).any(|turn| {
        let now = Millis(turn * 100);
        observed.member_connected(container(0), Connection(1), now);
        observed.member_reported(Connection(1), Report { sequence: turn, ..report.clone() }, now);
        observed.turn(decided, now);
        let world = World { state: decided, observed: &observed, now, time_ms: 0, in_flight: false };
        plan(&world).iter().any(|proposal| matches!(proposal.command, Command::OpenEpoch { .. }))
    })
}

/// What was seen on the way, so that the tables above hold nothing that does not happen.
#[derive(Default)]
struct Seen {
    states: BTreeSet<Stands>,
    waits: BTreeSet<&'static str>,
    blocks: BTreeSet<&'static str>,
    pairs: usize,
    worlds: usize,
}

/// Walks every way from `first`; gives the worlds it came by.
fn walk(decided: &State, first: Inputs, seen: &mut Seen) {
    let mut known = vec![first.clone()];
    let mut ahead = vec![first];
    while let Some(world) = ahead.pop() {
        let decision = decide(&world);
        let next = match &decision.action {
            Some(action) => effects(&world, action),
            None => match ending(decided, &world, &decision.note, seen) {
                Some(event) => happens(&world, event),
                None => Vec::new(),
            },
        };
        let stuck = !next.is_empty() && next.iter().all(|next| *next == world);
        assert!(!stuck, "{:?} leads nowhere from {world:?}", decision.action);
        for next in next {
            if !known.contains(&next) {
                assert!(known.len() < 300, "no end: {world:?}");
                known.push(next.clone());
                ahead.push(next);
            }
        }
    }
    seen.worlds += known.len();
}

/// The end of a way, or the event by which it goes on.
fn ending(decided: &State, world: &Inputs, note: &str, seen: &mut Seen) -> Option<Event> {
    let order = world.goal.as_ref().map(|goal| &goal.order);
    let words = note.rsplit("; ").next().unwrap_or_default();
    if words.is_empty() {
        assert!(fulfilled(world), "rests without having done {order:?}: {world:?}");
        return None;
    }
    if let Some(block) = BLOCKS.iter().find(|block| note.contains(*block)) {
        seen.blocks.insert(block);
        assert!(matches!(order, Some(Order::Reign { .. })), "only who was elected can be replaced: {world:?}");
        // What a reigning primary lacks, its own agent's report says as well (`suspicion::of_primary`).
        assert!(another_is_elected(decided, world), "nobody else is elected: {world:?}");
        return None;
    }
    let wait = WAITS.iter().find(|(wait, _)| *wait == words);
    let (wait, event) = wait.unwrap_or_else(|| panic!("waits for something without a name: {note:?} in {world:?}"));
    seen.waits.insert(wait);
    Some(*event)
}

#[test]
fn every_goal_is_reached_from_every_state() {
    let mut seen = Seen::default();
    let mut orders = Vec::new();
    for decided in states() {
        let Some(goal) = goal(&decided, &id(0)) else {
            continue;
        };
        orders.push(goal.order.clone());
        for container in containers() {
            let accepted = agents_goals::check(&container, &goal).is_ok();
            // A group forms once, of containers that never had one.
            let founding = goal.order == Order::Found;
            assert_eq!(accepted, !founding || container.group.is_none(), "{container:?} and {goal:?}");
            if accepted {
                seen.states.insert(Stands::of(&container));
                seen.pairs += 1;
                walk(&decided, Inputs { goal: Some(goal.clone()), ..container }, &mut seen);
            }
        }
    }
    for kind in [Order::Found, Order::Recruit, Order::StandDown] {
        assert!(orders.contains(&kind), "{kind:?} is never given");
    }
    assert_eq!(seen.states.len(), Stands::ALL.len(), "{:?}", seen.states);
    assert_eq!(seen.waits.len(), WAITS.len(), "only seen: {:?}", seen.waits);
    assert_eq!(seen.blocks.len(), BLOCKS.len(), "only seen: {:?}", seen.blocks);
    println!("{} pairs of a goal and a container, {} worlds on the way", seen.pairs, seen.worlds);
}

#[test]
fn without_a_goal_nothing_is_written_and_nobody_begins_to_reign() {
    for container in containers() {
        let mut seen = Seen::default();
        let primary = matches!(container.postgres, Postgres::Primary(_));
        let decided = decided(Phase::Serving, Some(reign(1, EPOCH.0, TIMELINE)), Durability::Available);
        let action = decide(&container).action;
        let starts = matches!(action, None | Some(Action::StartFenced | Action::Finish));
        assert!(starts, "{action:?} without a goal: {container:?}");
        if !primary && container.postgres != Postgres::Hung {
            walk(&decided, container, &mut seen);
            assert!(seen.blocks.is_empty());
        }
    }
}
