//! What clients see while a group changes its primary (failover.md, "What clients see").

use std::time::Duration;

use howdah::model::topology::Access;
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
