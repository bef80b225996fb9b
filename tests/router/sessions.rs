//! Logins, pooling without leaks, prepared statements, transactions, COPY, cancel.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_postgres::{NoTls, SimpleQueryMessage, error::SqlState};

use super::harness::{Postgres, Router};

/// The first column of the first row.
async fn one(client: &tokio_postgres::Client, sql: &str) -> String {
    let rows = client.simple_query(sql).await.expect(sql);
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    row.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logins_are_checked_as_postgresql_does() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    router.client().await;
    let refused = async |change: &dyn Fn(&mut tokio_postgres::Config)| {
        let mut config = router.config();
        change(&mut config);
        config.connect(NoTls).await.err().and_then(|error| error.code().cloned())
    };
    assert_eq!(refused(&|config| _ = config.password("wrong")).await, Some(SqlState::INVALID_PASSWORD));
    assert_eq!(refused(&|config| _ = config.user("nobody")).await, Some(SqlState::INVALID_PASSWORD));
    let nologin = refused(&|config| _ = config.user("nologin").password("x")).await;
    assert_eq!(nologin, Some(SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
    assert_eq!(refused(&|config| _ = config.dbname("nothing")).await, Some(SqlState::INVALID_CATALOG_NAME));
    let bad_setting = refused(&|config| _ = config.options("-c work_mem=nonsense")).await;
    assert_eq!(bad_setting, Some(SqlState::INVALID_PARAMETER_VALUE));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaks_from_one_session_to_another() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        clients.push(router.client().await);
    }
    clients[0].batch_execute("SET search_path TO pg_catalog; SET work_mem = '7MB'").await.expect("set");
    clients[1].batch_execute("CREATE TEMP TABLE mine (a int)").await.expect("temp");
    clients[2].batch_execute("BEGIN; SET LOCAL work_mem = '9MB'").await.expect("local");
    assert_eq!(one(&clients[2], "SHOW work_mem").await, "9MB");
    clients[2].batch_execute("COMMIT").await.expect("commit");
    for round in 0..3 {
        assert_eq!(one(&clients[0], "SHOW work_mem").await, "7MB", "round {round}");
        assert_eq!(one(&clients[0], "SHOW search_path").await, "pg_catalog");
        assert_eq!(one(&clients[1], "SELECT count(*) FROM mine").await, "0");
        for client in &clients[2..] {
            assert_eq!(one(client, "SHOW work_mem").await, "4MB");
            assert_eq!(one(client, "SELECT to_regclass('mine')").await, "");
        }
    }
    clients[0].batch_execute("BEGIN; SET work_mem = '11MB'; ROLLBACK").await.expect("rolled back");
    assert_eq!(one(&clients[0], "SHOW work_mem").await, "7MB");
    clients[0].batch_execute("RESET work_mem").await.expect("reset");
    assert_eq!(one(&clients[0], "SHOW work_mem").await, "4MB");
    clients[1].batch_execute("DISCARD ALL").await.expect("discard");
    assert_eq!(one(&clients[1], "SELECT to_regclass('mine')").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_follow_the_session() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let (first, second) = (router.client().await, router.client().await);
    let statement = first.prepare("SELECT $1::int + 1").await.expect("prepared");
    let other = second.prepare("SELECT $1::text || 'x'").await.expect("prepared");
    for round in 0..20_i32 {
        // Both take turns on whatever connection is free; a transaction holds one of them.
        second.batch_execute(if round % 2 == 0 { "BEGIN" } else { "COMMIT" }).await.expect("turn");
        let row = first.query_one(&statement, &[&round]).await.expect("executed");
        assert_eq!(row.get::<_, i32>(0), round + 1);
        let row = second.query_one(&other, &[&"y"]).await.expect("executed");
        assert_eq!(row.get::<_, String>(0), "yx");
    }
    let wrong = first.prepare("SELECT * FROM nothing").await.expect_err("no such table");
    assert_eq!(wrong.code(), Some(&SqlState::UNDEFINED_TABLE));
    assert_eq!(first.query_one(&statement, &[&1_i32]).await.expect("goes on").get::<_, i32>(0), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transactions_are_postgresqls() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let mut client = router.client().await;
    client.batch_execute("CREATE TABLE t (a int PRIMARY KEY)").await.expect("table");
    let transaction = client.transaction().await.expect("begin");
    transaction.execute("INSERT INTO t VALUES (1)", &[]).await.expect("insert");
    assert_eq!(
        transaction.execute("INSERT INTO t VALUES (1)", &[]).await.expect_err("twice").code(),
        Some(&SqlState::UNIQUE_VIOLATION)
    );
    let aborted = transaction.execute("SELECT 1", &[]).await.expect_err("aborted");
    assert_eq!(aborted.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
    transaction.rollback().await.expect("rollback");
    let mut transaction = client.transaction().await.expect("begin");
    transaction.execute("INSERT INTO t VALUES (2)", &[]).await.expect("insert");
    let savepoint = transaction.savepoint("s").await.expect("savepoint");
    savepoint.execute("INSERT INTO t VALUES (3)", &[]).await.expect("insert");
    savepoint.rollback().await.expect("rollback to");
    transaction.commit().await.expect("commit");
    assert_eq!(one(&client, "SELECT string_agg(a::text, ',') FROM t").await, "2");
    // Several statements in one query are one transaction.
    client.batch_execute("INSERT INTO t VALUES (4); INSERT INTO t VALUES (2)").await.expect_err("duplicate");
    client.batch_execute("SET work_mem = '5MB'; INSERT INTO t VALUES (5); SELECT 1/0").await.expect_err("division");
    assert_eq!(one(&client, "SELECT string_agg(a::text, ',') FROM t").await, "2");
    assert_eq!(one(&client, "SHOW work_mem").await, "4MB");
    client
        .batch_execute("BEGIN; INSERT INTO t VALUES (6); SAVEPOINT x; INSERT INTO t VALUES (7); ROLLBACK TO x; COMMIT")
        .await
        .expect("script");
    assert_eq!(one(&client, "SELECT string_agg(a::text, ',' ORDER BY a) FROM t").await, "2,6");
    let empty = client.batch_execute("ROLLBACK; COMMIT;").await;
    assert!(empty.is_ok(), "only warnings: {empty:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copy_streams_both_ways_and_ends_with_its_client() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let client = router.client().await;
    client.batch_execute("CREATE TABLE t (a int, b text)").await.expect("table");
    let sink = client.copy_in("COPY t FROM STDIN").await.expect("copy");
    let mut sink = Box::pin(sink);
    let line = format!("1\t{}\n", "x".repeat(1000));
    for _ in 0..2_000 {
        sink.send(bytes::Bytes::from(line.clone())).await.expect("sent");
    }
    assert_eq!(sink.as_mut().finish().await.expect("finished"), 2_000);
    let rows = client.copy_out("COPY t TO STDOUT").await.expect("copy out");
    let bytes: usize = rows.map(|chunk| chunk.expect("data").len()).collect::<Vec<_>>().await.iter().sum();
    assert_eq!(bytes, 2_000 * line.len());
    let mut bad = Box::pin(client.copy_in("COPY t FROM STDIN").await.expect("copy"));
    for _ in 0..100 {
        if bad.send(bytes::Bytes::from_static(b"not a number\tx\n")).await.is_err() {
            break;
        }
    }
    let refused = bad.as_mut().finish().await.expect_err("refused");
    assert_eq!(refused.code(), Some(&SqlState::INVALID_TEXT_REPRESENTATION));
    assert_eq!(one(&client, "SELECT count(*) FROM t").await, "2000");
    // A client that goes in the middle leaves nothing behind.
    let (gone, connection) = router.config().connect(NoTls).await.expect("connect");
    let connection = tokio::spawn(connection);
    let mut sink = Box::pin(gone.copy_in("COPY t FROM STDIN").await.expect("copy"));
    sink.send(bytes::Bytes::from(line)).await.expect("sent");
    connection.abort();
    assert_eq!(one(&client, "SELECT count(*) FROM t").await, "2000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_statement_can_be_cancelled() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let client = router.client().await;
    let token = client.cancel_token();
    let sleep = tokio::spawn(async move {
        let result = client.batch_execute("SELECT pg_sleep(60)").await;
        (client, result)
    });
    let watcher = router.client().await;
    while one(&watcher, "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'").await != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    token.cancel_query(NoTls).await.expect("sent");
    let (client, result) = sleep.await.expect("no panic");
    assert_eq!(result.expect_err("cancelled").code(), Some(&SqlState::QUERY_CANCELED));
    assert_eq!(one(&client, "SELECT 1").await, "1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn notifications_reach_a_waiting_session() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let (listener, mut connection) = router.config().connect(NoTls).await.expect("connect");
    let (send, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                let _ = send.send(notification.payload().to_owned());
            }
        }
    });
    listener.batch_execute("LISTEN news").await.expect("listen");
    router.client().await.batch_execute("NOTIFY news, 'hello'").await.expect("notify");
    assert_eq!(heard.recv().await.as_deref(), Some("hello"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_read_only_port_refuses_writes() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let mut only = tokio_postgres::Config::new();
    only.host("127.0.0.1").port(router.read_only_port).user("app").password("app").dbname("app");
    let (client, connection) = only.connect(NoTls).await.expect("connect");
    tokio::spawn(connection);
    assert_eq!(one(&client, "SELECT 1").await, "1");
    let refused = client.batch_execute("CREATE TABLE t (a int)").await.expect_err("read-only");
    assert_eq!(refused.code(), Some(&SqlState::READ_ONLY_SQL_TRANSACTION));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_for_nobody_is_cancelled() {
    let postgres = Postgres::start().await;
    let router = Router::start(&postgres).await;
    let (client, connection) = router.config().connect(NoTls).await.expect("connect");
    let connection = tokio::spawn(connection);
    let sleep = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    let watcher = router.client().await;
    let count = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)' AND state = 'active'";
    while one(&watcher, count).await != "1" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    connection.abort();
    assert!(sleep.await.expect("no panic").is_err());
    while one(&watcher, count).await != "0" {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
