//! Every message comes back as it went; a damaged one names its field.

use super::*;

fn both_ways<M, P>(message: M)
where
    M: Clone + PartialEq + std::fmt::Debug + TryFrom<P, Error = InvalidMessage>,
    P: From<M>,
{
    assert_eq!(M::try_from(P::from(message.clone())), Ok(message));
}

fn container() -> Container {
    Container {
        id: "m-1".parse().expect("a name"),
        host: "10.0.0.1".into(),
        port: 5432,
        kind: GroupKind::Shard,
        zone: "a".into(),
        wish: Some("shard-1".parse().expect("a name")),
        priority: 0,
        birth: 17,
    }
}

fn cohort() -> Cohort {
    Cohort { standbys: ["m-2".parse().expect("a name")].into(), acks: 1, ordered_at: Revision(8) }
}

fn report(postgres: PostgresSeen, data: DataState) -> Report {
    let position = Position { timeline: Timeline(3), lsn: Lsn(77) };
    Report {
        member: "m-1".parse().expect("a name"),
        incarnation: 5,
        sequence: 6,
        promise: Epoch(7),
        goal_revision: Revision(8),
        data,
        postgres,
        recruited: Some(Recruited { epoch: Epoch(7), position, live_primary: true }),
        state: "standby".into(),
        healthy: true,
        note: "fine".into(),
        pid: 1,
        postmaster_pid: Some(2),
        router_pid: None,
        data_dir: "/data".into(),
    }
}

#[test]
fn registrations_and_reports_come_back() {
    let cluster = "demo".parse().expect("a name");
    let registration = Registration { cluster, container: container(), incarnation: 9 };
    both_ways::<_, pb::AgentMessage>(AgentSays::Registration(registration));
    let position = Position { timeline: Timeline(3), lsn: Lsn(77) };
    let member: crate::model::ids::MemberId = "m-2".parse().expect("a name");
    let table = TableSeen {
        database: "d".into(),
        schema: "s".into(),
        name: "n".into(),
        kind: "distributed".into(),
        key: "k".into(),
        colocation: 1,
    };
    for postgres in [
        PostgresSeen::Down { crashed: None },
        PostgresSeen::Down { crashed: Some("signal 9".into()) },
        PostgresSeen::Starting,
        PostgresSeen::Standby { position, replayed: Lsn(70), streaming: true, upstream: Some(member.clone()) },
        PostgresSeen::Standby { position, replayed: Lsn(70), streaming: false, upstream: None },
        PostgresSeen::Primary {
            position,
            epoch: Epoch(2),
            applied: cohort(),
            standbys: vec![StandbySeen { member, streaming: true, flushed: Lsn(1), synchronous: true }],
            tables: vec![table],
        },
    ] {
        for data in [DataState::Empty, DataState::Ready { system_identifier: 1 }, DataState::Unfinished] {
            both_ways::<_, pb::AgentMessage>(AgentSays::Report(report(postgres.clone(), data)));
        }
    }
}

#[test]
fn goals_come_back() {
    let primary = "m-1".parse().expect("a name");
    for order in [
        Order::Found,
        Order::Recruit,
        Order::Reign { timeline: Timeline(2), cohort: cohort() },
        Order::Follow { primary, timeline: Timeline(2), serving: true },
        Order::StandDown,
    ] {
        both_ways::<_, pb::CoordinatorMessage>(CoordinatorSays::Goal(Box::new(Goal {
            cluster: "demo".parse().expect("a name"),
            group: "shard-1".parse().expect("a name"),
            kind: GroupKind::Shard,
            epoch: Epoch(1),
            revision: Revision(2),
            joined: Revision(3),
            order,
            members: vec![container()],
            system_identifier: Some(3),
            settings: GoalSettings {
                database: "howdah".into(),
                owner: "howdah".into(),
                heartbeat: Millis(100),
                isolation_timeout: Millis(3000),
                reads: Reads::Strict,
                slot_wal_keep_mb: 4,
            },
        })));
    }
    both_ways::<_, pb::CoordinatorMessage>(CoordinatorSays::Idle { free_since: None });
    both_ways::<_, pb::CoordinatorMessage>(CoordinatorSays::Idle { free_since: Some(Revision(0)) });
    both_ways::<_, pb::CoordinatorMessage>(CoordinatorSays::Alive);
    both_ways::<_, pb::CoordinatorMessage>(CoordinatorSays::NotLeader(None));
    both_ways::<_, pb::CoordinatorMessage>(CoordinatorSays::NotLeader(Some("http://a:1".into())));
}

#[test]
fn a_bad_field_is_named() {
    let field = |change: fn(&mut pb::Container)| {
        let mut wire = pb::Container::from(container());
        change(&mut wire);
        Container::try_from(wire).expect_err("changed for the worse").field
    };
    assert_eq!(field(|it| it.id = "A".into()), "Container.id");
    assert_eq!(field(|it| it.host = "a b".into()), "Container.host");
    assert_eq!(field(|it| it.port = 0), "Container.port");
    assert_eq!(field(|it| it.port = 70_000), "Container.port");
    assert_eq!(field(|it| it.kind = 0), "Container.kind");
    assert_eq!(field(|it| it.wish = "x y".into()), "Container.wish");
}
