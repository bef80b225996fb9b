//! A `PostgreSQL` that does not exit and yet does not work, or exits again and again: what its agent notices,
//! how soon, and that it goes on by itself once the cause is gone.

use std::{fs, time::Duration};

use howdah::model::{
    goal::Order,
    numbers::Millis,
    observed::{PostgresSeen, Report},
};
use rustix::process::Signal;

use super::{
    disks::Disk,
    fake::{Group, follow, id, reign, send},
    group,
};

/// What hangs is known to hang after 2.5 s at the latest (1 s between two trials, 1 s of patience, and the
/// look before); twice that on a busy machine.
const NOTICED: Millis = Millis(5_000);

fn is_primary(report: &Report) -> bool {
    matches!(report.postgres, PostgresSeen::Primary { .. }) && report.healthy
}

async fn hangs(group: &Group, name: &str) {
    let from = group.clock.now();
    group.until(name, "hangs", |report| report.state == "hung").await;
    let took = group.clock.now().since(from);
    eprintln!("{name} is known to hang after {took} ms");
    assert!(took < NOTICED, "{took} ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postmaster_that_takes_no_connections_hangs_though_its_sessions_work() {
    let group = group(&["a"]).await;
    let postmaster = group.report("a").and_then(|report| report.postmaster_pid).expect("it runs");
    send(postmaster, Signal::STOP);
    hangs(&group, "a").await;
    send(postmaster, Signal::CONT);
    let report = group.until("a", "is back", is_primary).await;
    assert_eq!(report.postmaster_pid, Some(postmaster), "it was not restarted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_writes_is_a_primary_that_hangs() {
    let mut group = Group::new(&["a"]).await;
    let Some(disk) = Disk::mount(&group.data_dir("a").with_extension("image"), &group.data_dir("a"), 400) else {
        return;
    };
    group.found("a").await;
    disk.freeze();
    hangs(&group, "a").await;
    disk.thaw();
    group.until("a", "is back", is_primary).await;
    end(group, disk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lives_through_a_full_disk_and_says_so() {
    let mut group = Group::new(&["a"]).await;
    let Some(disk) = Disk::mount(&group.data_dir("a").with_extension("image"), &group.data_dir("a"), 400) else {
        return;
    };
    group.found("a").await;
    let agent = group.report("a").map(|report| report.pid);
    let ballast = disk.fill();
    let full = group.until("a", "says that its disk is full", |report| report.note.contains("disk is full")).await;
    assert!(!full.healthy && full.signs.disk.is_some_and(howdah::model::observed::Disk::is_full), "{full:?}");
    // Nothing can be promised: nothing is said for the new epoch, and the agent does not give up.
    group.order("a", 2, Order::Recruit);
    group.until("a", "cannot promise", |report| report.note.contains("agent.json")).await;
    assert!(group.report("a").is_some_and(|report| report.recruited.is_none() && report.promise.0 == 1));
    fs::remove_file(ballast).expect("it is there");
    group.recruited("a", 2).await;
    group.order("a", 2, reign(2, &[], 0));
    let report = group.reigns("a", 2).await;
    assert_eq!(Some(report.pid), agent, "it was not restarted");
    end(group, disk).await;
}

/// The member ends before its disk is taken away.
async fn end(group: Group, disk: Disk) {
    drop(group);
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_at_every_start_is_not_started_at_full_speed() {
    const SPAN: Duration = Duration::from_secs(6);
    let group = group(&["a"]).await;
    let control = group.data_dir("a").join("postgres/global/pg_control");
    fs::rename(&control, control.with_extension("away")).expect("it is there");
    group.kill_postmaster("a");
    tokio::time::sleep(SPAN).await;
    let report = group.until("a", "counts", |report| report.signs.crashes >= 3).await;
    let log = fs::read_to_string(group.data_dir("a").join("postgres.log")).expect("its log");
    let failures = log.lines().filter(|line| line.contains("could not find the database system")).count();
    // One kill; starts at once, and after 0.5, 1, 2 and 4 s of rest.
    assert!((2..=5).contains(&failures), "{failures} starts in {SPAN:?}: {report:?}");
    fs::rename(control.with_extension("away"), &control).expect("it is there");
    group.until("a", "is fenced", |report| report.state == "fenced").await;
}

/// What a wrong suspicion asks of a live primary: it promises, pauses, and reigns again, and no client of it
/// sees more than the pause.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_wrongly_suspected_goes_on_without_a_restart() {
    let mut group = group(&["a", "b"]).await;
    let before = group.report("a").expect("it reports");
    let port = group.port("a");
    let dsn = format!("host=127.0.0.1 port={port} user=howdah password=howdah dbname=howdah");
    let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await.expect("it serves");
    tokio::spawn(connection);
    client.batch_execute("INSERT INTO t VALUES (1)").await.expect("acknowledged");

    let from = group.clock.now();
    for name in ["a", "b"] {
        group.order(name, 2, Order::Recruit);
    }
    let live = group.recruited("a", 2).await;
    assert!(live.recruited.is_some_and(|answer| answer.live_primary), "{live:?}");
    group.recruited("b", 2).await;
    // Nothing commits meanwhile: the one whose acknowledgement counts has left.
    let insert = tokio::spawn(async move { client.batch_execute("INSERT INTO t VALUES (2)").await.map(|()| client) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!insert.is_finished(), "nobody can have acknowledged it");
    group.order("a", 2, reign(2, &["b"], 1));
    group.order("b", 2, follow("a", 2, true));
    let after = group.reigns("a", 2).await;
    let client = insert.await.expect("no panic").expect("it only waited");
    eprintln!("a wrong suspicion cost {} ms", group.clock.now().since(from));
    assert_eq!(client.query("SELECT FROM t", &[]).await.expect("the same session").len(), 2);
    assert_eq!((after.postmaster_pid, after.timeline()), (before.postmaster_pid, before.timeline()), "no restart");
    let streams = |report: &Report| {
        matches!(&report.postgres, PostgresSeen::Primary { standbys, .. }
            if standbys.iter().any(|it| it.member == id("b") && it.streaming && it.synchronous))
    };
    group.until("a", "has its standby back", streams).await;
}
