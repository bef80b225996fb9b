//! What clients see while a group changes its primary (failover.md, "What clients see").

use std::time::Duration;

use howdah::model::{
    numbers::{Millis, Timeline},
    topology::{Access, Topology},
};
use tokio_postgres::error::SqlState;

use super::harness::{Postgres, Router, topology};

/// Two servers that stand for the primary before and after; the test does not need them to replicate.
async fn two() -> (Postgres, Postgres, Router) {
    let (old, new) = (Postgres::start().await, Postgres::start().await);
    let router = Router::start(&old).await;
    (old, new, router)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_waits_for_the_new_primary() {
    let (mut old, new, router) = two().await;
    let client = router.client().await;
    let port = |row: tokio_postgres::Row| row.get::<_, i32>(0);
    let ask = "SELECT inet_server_port()";
    assert_eq!(port(client.query_one(ask, &[]).await.expect("asked")), i32::from(old.port));
    router.tell(topology(2, 2, Access::Held));
    old.kill();
    let waiting = tokio::spawn(async move { (client.query_one(ask, &[]).await, client) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "held");
    router.tell(topology(3, 2, Access::Open { primary: new.endpoint("query-2") }));
    let (row, _client) = waiting.await.expect("no panic");
    assert_eq!(port(row.expect("answered by the new primary")), i32::from(new.port));
}

/// A router that hears of no newer topology finds the member it knows promoted again, before its new reign is
/// open: what it would write there could be lost in the next election.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_whose_reign_is_not_open_gets_no_work() {
    let (mut old, new, router) = two().await;
    let client = router.client().await;
    let mut early = topology(2, 2, Access::Open { primary: new.endpoint("query-2") });
    for view in early.groups.values_mut() {
        view.timeline = Timeline(7);
    }
    router.tell(early);
    old.kill();
    let waiting = tokio::spawn(async move { (client.query_one("SELECT inet_server_port()", &[]).await, client) });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "{:?}", waiting.await.map(|(answer, _)| answer));
    router.tell(topology(3, 3, Access::Open { primary: new.endpoint("query-2") }));
    let (row, _client) = waiting.await.expect("no panic");
    assert_eq!(row.expect("answered once its reign is open").get::<_, i32>(0), i32::from(new.port));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_transaction_is_retryable() {
    let (mut old, new, router) = two().await;
    let (mut client, mut other) = (router.client().await, router.client().await);
    let transaction = client.transaction().await.expect("begin");
    transaction.execute("SELECT 1", &[]).await.expect("joined");
    let untouched = other.transaction().await.expect("begin");
    old.kill();
    router.tell(topology(2, 2, Access::Open { primary: new.endpoint("query-2") }));
    let lost = transaction.execute("SELECT 1", &[]).await.expect_err("lost");
    assert_eq!(lost.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE));
    let aborted = transaction.execute("SELECT 1", &[]).await.expect_err("aborted");
    assert_eq!(aborted.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.expect("rolled back");
    client.execute("SELECT 1", &[]).await.expect("goes on");
    // A transaction that had touched nothing goes on as if nothing had happened.
    untouched.execute("SELECT 1", &[]).await.expect("on the new primary");
    untouched.commit().await.expect("committed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_without_an_answer_has_an_unknown_outcome() {
    let (old, new, router) = two().await;
    let client = router.client().await;
    let read = router.client().await;
    client.batch_execute("CREATE TABLE t (a int)").await.expect("table");
    let write = tokio::spawn(async move { client.execute("INSERT INTO t SELECT 1 FROM pg_sleep(60)", &[]).await });
    // The read waits for a lock that only the old primary's administrator holds.
    let admin = old.admin("app").await;
    admin.batch_execute("CREATE TABLE r (a int); GRANT SELECT ON r TO app").await.expect("table");
    admin.batch_execute("BEGIN; LOCK r").await.expect("locked");
    new.admin("app").await.batch_execute("CREATE TABLE r (a int); GRANT SELECT ON r TO app").await.expect("table");
    let read = tokio::spawn(async move { read.simple_query("SELECT a FROM r").await.map(|_| ()) });
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep|SELECT a FROM r' \
        AND pid <> pg_backend_pid() AND state = 'active'";
    while admin.query_one(sleeping, &[]).await.expect("seen").get::<_, i64>(0) < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    router.tell(topology(2, 2, Access::Open { primary: new.endpoint("query-2") }));
    let unknown = write.await.expect("no panic").expect_err("unknown");
    assert_eq!(unknown.code(), Some(&SqlState::TRANSACTION_RESOLUTION_UNKNOWN));
    let read = read.await.expect("no panic");
    assert!(read.is_ok(), "a read is run again: {read:?}");
}

/// A client of `router`, and what it says when it is asked for the server's port.
async fn port_of(client: &tokio_postgres::Client) -> u16 {
    let row = client.query_one("SELECT inet_server_port()", &[]).await.expect("asked");
    u16::try_from(row.get::<_, i32>(0)).expect("a port")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_has_done_nothing_begins_anew() {
    let (mut old, new, router) = two().await;
    for server in [&old, &new] {
        let admin = server.admin("app").await;
        admin.batch_execute("CREATE TABLE t (a int); GRANT ALL ON t TO app").await.expect("table");
    }
    let (client, other) = (router.client().await, router.client().await);
    client.batch_execute("BEGIN; SET LOCAL work_mem = '9MB'").await.expect("begun");
    client.batch_execute("ROLLBACK").await.expect("ended");
    client.batch_execute("BEGIN").await.expect("begun anew");
    // The first statement is on its way when the primary goes: nothing of it can have been committed.
    let first =
        tokio::spawn(async move { (client.batch_execute("INSERT INTO t SELECT 1 FROM pg_sleep(2)").await, client) });
    let worker = other.batch_execute("INSERT INTO t SELECT 2 FROM pg_sleep(60)");
    let admin = old.admin("app").await;
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND wait_event = 'PgSleep'";
    let fall = async {
        while admin.query_one(sleeping, &[]).await.expect("seen").get::<_, i64>(0) < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        old.kill();
        router.tell(topology(2, 2, Access::Open { primary: new.endpoint("query-2") }));
    };
    let (autocommit, ()) = tokio::join!(worker, fall);
    assert_eq!(autocommit.expect_err("it may have run").code(), Some(&SqlState::TRANSACTION_RESOLUTION_UNKNOWN));
    let (inserted, client) = first.await.expect("no panic");
    inserted.expect("run again on the new primary");
    client.batch_execute("COMMIT").await.expect("committed");
    let rows = new.admin("app").await.query("SELECT a FROM t", &[]).await.expect("read");
    assert_eq!(rows.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>(), [1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_administrator_ends_is_not_run_again() {
    let (old, _new, router) = two().await;
    let client = router.client().await;
    // It only reads: lost by accident, it would be run again.
    let long = "SELECT count(*) FROM generate_series(1, 1000000000)";
    let sleep = tokio::spawn(async move { (client.simple_query(long).await, client) });
    let admin = old.admin("app").await;
    let end =
        format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = '{long}' AND state = 'active'");
    while admin.query(&end, &[]).await.expect("asked").is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (ended, client) = sleep.await.expect("no panic");
    assert_eq!(ended.expect_err("ended").code(), Some(&SqlState::ADMIN_SHUTDOWN));
    assert_eq!(port_of(&client).await, old.port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_that_waits_for_a_primary_can_be_cancelled() {
    let (_old, new, router) = two().await;
    let client = router.client().await;
    let token = client.cancel_token();
    router.tell(topology(2, 2, Access::Held));
    let waiting = tokio::spawn(async move { (client.batch_execute("SELECT 1").await, client) });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished(), "held");
    token.cancel_query(tokio_postgres::NoTls).await.expect("sent");
    let (cancelled, client) = waiting.await.expect("no panic");
    assert_eq!(cancelled.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    router.tell(topology(3, 2, Access::Open { primary: new.endpoint("query-2") }));
    assert_eq!(port_of(&client).await, new.port);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_bounded_in_bytes() {
    let (_old, new, router) = two().await;
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(router.client().await);
    }
    let held = Topology { failover_wait: Millis(120_000), ..topology(2, 2, Access::Held) };
    router.tell(held);
    // On two workers, each of which lets one group have 32 MiB: eight of these.
    let text = "x".repeat(4 << 20);
    let ask = std::sync::Arc::new(format!("SELECT length('{text}')"));
    let waiting: Vec<_> = clients
        .into_iter()
        .map(|client| {
            let ask = ask.clone();
            tokio::spawn(async move { client.simple_query(&ask).await.map(|_| ()) })
        })
        .collect();
    // Who is too many is told so at once; the others wait.
    let early = || waiting.iter().filter(|it| it.is_finished()).count();
    for _ in 0..600 {
        if early() >= 8 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(early(), 8);
    router.tell(topology(3, 2, Access::Open { primary: new.endpoint("query-2") }));
    let (mut done, mut refused) = (0, 0);
    for task in waiting {
        match task.await.expect("no panic") {
            Ok(()) => done += 1,
            Err(error) => {
                assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_RESOURCES));
                refused += 1;
            }
        }
    }
    assert_eq!((done, refused), (16, 8));
}
