//! Agents with real PostgreSQL under a coordinator whose orders the test writes: what an agent does with
//! each order, and how fast.

mod fake;
mod interrupted;
mod released;

use std::{fs, time::Duration};

use howdah::model::{goal::Order, numbers::Timeline, observed::PostgresSeen};

use fake::{Group, follow, reign};

/// Founds a group of `a` and lets the others follow and count.
async fn group(names: &[&str]) -> Group {
    let mut group = Group::new(names).await;
    group.found("a").await;
    for name in &names[1..] {
        group.start(name);
        group.order(name, 1, follow("a", 2, true));
        group.streams(name, "a").await;
    }
    if names.len() > 1 {
        group.order("a", 1, reign(2, &names[1..], 1));
        group.reigns("a", 1).await;
    }
    group.sql("a", "CREATE TABLE t (n int PRIMARY KEY)").await.expect("the owner may create");
    group
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_takes_over_and_the_old_primary_is_rewound() {
    let mut group = group(&["a", "b", "c"]).await;
    group.sql("a", "INSERT INTO t VALUES (1)").await.expect("acknowledged");

    let killed = group.clock.now();
    group.kill_postmaster("a");
    let report =
        group.until("a", "is reported down", |report| matches!(report.postgres, PostgresSeen::Down { .. })).await;
    let known = group.clock.now();
    assert!(matches!(report.postgres, PostgresSeen::Down { crashed: Some(_) }), "{report:?}");
    for name in ["b", "c"] {
        group.order(name, 2, Order::Recruit);
    }
    let (b, c) = tokio::join!(group.recruited("b", 2), group.recruited("c", 2));
    let recruited = group.clock.now();
    assert_eq!(b.recruited.map(|it| it.position.timeline), Some(Timeline(2)), "{b:?}");
    let (winner, other) =
        if b.recruited.map(|it| it.position) >= c.recruited.map(|it| it.position) { ("b", "c") } else { ("c", "b") };
    group.order(winner, 2, reign(4, &[other], 1));
    group.order(other, 2, follow(winner, 4, false));
    let served = group.until(
        winner,
        "reigns",
        |report| matches!(&report.postgres, PostgresSeen::Primary { epoch, .. } if epoch.0 == 2),
    );
    let served = served.await;
    let acknowledged = group.clock.now();
    eprintln!(
        "down reported after {} ms, recruited after {} ms more, reigns (promoted, followed, acknowledged) after {} ms more",
        known.since(killed),
        recruited.since(known),
        acknowledged.since(recruited),
    );
    assert_eq!(served.timeline(), Some(Timeline(4)), "exactly the timeline that was ordered, skipping 3");
    assert!(known.since(killed).duration() < Duration::from_secs(1), "a lost postmaster is reported at once");
    group.sql(winner, "INSERT INTO t VALUES (2)").await.expect("acknowledged by the other");

    // The old primary has written what nobody has: it comes back fenced, and is rewound.
    group.order("a", 2, Order::Recruit);
    group.recruited("a", 2).await;
    group.order("a", 2, follow(winner, 4, true));
    let rejoined = group.streams("a", winner).await;
    assert_eq!(rejoined.timeline(), Some(Timeline(4)));
    let rows = group.sql(winner, "SELECT count(*) FROM t").await.expect("it serves");
    assert_eq!(rows.as_deref(), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_divergent_primary_is_rewound_and_its_lost_rows_are_gone() {
    let mut group = group(&["a", "b"]).await;
    group.order("b", 2, Order::Recruit);
    group.recruited("b", 2).await;
    // Nobody acknowledges any more: the commit waits, on the old primary alone.
    let lost = tokio::time::timeout(Duration::from_secs(1), group.sql("a", "INSERT INTO t VALUES (7)")).await;
    assert!(lost.is_err(), "a commit without its standby must not return: {lost:?}");
    group.order("b", 2, reign(3, &[], 0));
    group.reigns("b", 2).await;
    group.sql("b", "INSERT INTO t VALUES (8)").await.expect("it serves");
    group.order("a", 2, follow("b", 3, true));
    group.streams("a", "b").await;
    let log = fs::read_to_string(group.data_dir("a").join("../a.log")).expect("its log");
    assert!(log.contains("rewinding to b"), "{log}");
    let rows = group.sql("a", "SELECT string_agg(n::text, ',') FROM t").await.expect("a hot standby");
    assert_eq!(rows.as_deref(), Some("8"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_primary_is_elected_again_without_a_restart() {
    let mut group = group(&["a", "b"]).await;
    let before = group.report("a").expect("it reports").postmaster_pid;
    for name in ["a", "b"] {
        group.order(name, 2, Order::Recruit);
    }
    let report = group.recruited("a", 2).await;
    assert!(report.recruited.is_some_and(|it| it.live_primary), "{report:?}");
    group.recruited("b", 2).await;
    group.order("a", 2, reign(2, &["b"], 1));
    group.order("b", 2, follow("a", 2, false));
    let report = group.reigns("a", 2).await;
    assert_eq!(report.postmaster_pid, before);
    group.streams("b", "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_leaves_nothing_to_rewind() {
    let mut group = group(&["a", "b"]).await;
    group.order("a", 1, Order::StandDown);
    group.until("a", "stands down", |report| report.state == "fenced" && report.healthy).await;
    for name in ["a", "b"] {
        group.order(name, 2, Order::Recruit);
    }
    let (a, b) = tokio::join!(group.recruited("a", 2), group.recruited("b", 2));
    let position = |report: &howdah::model::observed::Report| report.recruited.map(|it| it.position);
    assert_eq!(position(&a), position(&b), "every byte was handed over");
    group.order("b", 2, reign(3, &["a"], 1));
    group.order("a", 2, follow("b", 3, false));
    group.reigns("b", 2).await;
    group.streams("a", "b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_agent_takes_over_a_running_postgresql() {
    let mut group = group(&["a"]).await;
    let before = group.report("a").expect("it reports").postmaster_pid;
    group.kill_agent("a");
    group.start("a");
    let report = group.reigns("a", 1).await;
    assert_eq!(report.postmaster_pid, before);
    let killed = group.clock.now();
    group.kill_postmaster("a");
    group.until("a", "is reported down", |report| matches!(report.postgres, PostgresSeen::Down { .. })).await;
    eprintln!("the end of a stranger was reported after {} ms", group.clock.now().since(killed));
    group.until("a", "comes back fenced", |report| report.state == "fenced").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_of_others_are_refused() {
    let group = Group::new(&["a"]).await;
    fs::create_dir(group.data_dir("a")).expect("a scratch directory");
    fs::write(group.data_dir("a").join("precious"), "data").expect("a scratch directory");
    let output = group.command("a").output().expect("the binary is built");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not empty") && said.contains("choose another"), "{said}");

    fs::remove_file(group.data_dir("a").join("precious")).expect("it is there");
    let memory =
        r#"{"cluster":"other","member":"a","group":null,"promise":3,"system_identifier":null,"unfinished":null}"#;
    fs::write(group.data_dir("a").join("agent.json"), memory).expect("a scratch directory");
    let output = group.command("a").output().expect("the binary is built");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("belongs to member a of cluster other"), "{said}");
}
