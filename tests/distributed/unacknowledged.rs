//! A commit whose wait for its standbys is cancelled is no success, in whichever way it was asked for.

use futures_util::SinkExt as _;
use tokio_postgres::{Client, error::SqlState};

use super::harness::{Herd, eventually, rows};
use crate::router::harness::Postgres;

/// From here on commits of this server wait for a standby that does not exist.
async fn wait_for_nobody(postgres: &Postgres, wait: bool) {
    let admin = postgres.admin("app").await;
    let value = if wait { "nobody" } else { "" };
    admin.batch_execute(&format!("ALTER SYSTEM SET synchronous_standby_names = '{value}'")).await.expect("set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    loop {
        let row = admin.query_one("SHOW synchronous_standby_names", &[]).await.expect("shown");
        if row.get::<_, &str>(0) == value {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Cancels every wait for standbys on the server until `work` is done: its result.
async fn cancelling<T>(postgres: &Postgres, work: impl Future<Output = T>) -> T {
    let admin = postgres.admin("app").await;
    let cancel = async {
        loop {
            let waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
            admin.simple_query(waiting).await.expect("asked");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = cancel => unreachable!("it goes on"),
    }
}

fn unknown<T>(result: Result<T, tokio_postgres::Error>, what: &str) {
    let error = result.err().unwrap_or_else(|| panic!("{what}: taken for a success"));
    assert_eq!(error.code(), Some(&SqlState::TRANSACTION_RESOLUTION_UNKNOWN), "{what}: {error}");
}

async fn copy(client: &Client, table: &str, line: &'static str) -> Result<u64, tokio_postgres::Error> {
    let mut sink = Box::pin(client.copy_in(&format!("COPY {table} FROM STDIN")).await?);
    sink.send(bytes::Bytes::from_static(line.as_bytes())).await?;
    sink.as_mut().finish().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_wait_is_no_success() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute(
            "CREATE TABLE l (a int); CREATE TABLE t (k int PRIMARY KEY, v int); CREATE TABLE many (k int, v int);
             SELECT create_distributed_table('t', 'k'); SELECT create_distributed_table('many', 'k');
             INSERT INTO t SELECT g, 0 FROM generate_series(1, 20) g",
        )
        .await
        .expect("tables");
    let prepared = client.prepare("INSERT INTO l VALUES ($1)").await.expect("prepared");

    wait_for_nobody(&herd.query, true).await;
    let query = &herd.query;
    unknown(cancelling(query, client.batch_execute("INSERT INTO l VALUES (1)")).await, "simple");
    unknown(cancelling(query, client.execute(&prepared, &[&2])).await, "extended");
    unknown(cancelling(query, copy(&client, "l", "3\n")).await, "COPY");
    unknown(cancelling(query, client.batch_execute("CREATE TABLE other (a int)")).await, "DDL");
    unknown(cancelling(query, client.batch_execute("INSERT INTO l VALUES (4); INSERT INTO l VALUES (5)")).await, "two");
    client.batch_execute("BEGIN; INSERT INTO l VALUES (6)").await.expect("begun");
    unknown(cancelling(query, client.batch_execute("COMMIT")).await, "COMMIT");
    wait_for_nobody(&herd.query, false).await;

    // The second shard makes decisions.
    wait_for_nobody(&herd.shards[1], true).await;
    let shard = &herd.shards[1];
    let on_shard = "SELECT k FROM t WHERE k BETWEEN 1 AND 20 LIMIT 1";
    let key: i32 = shard.admin("app").await.query_one(on_shard, &[]).await.expect("a row").get(0);
    let one = format!("UPDATE t SET v = 1 WHERE k = {key}");
    unknown(cancelling(shard, client.batch_execute(&one)).await, "one shard");
    let bound = client.prepare("UPDATE t SET v = v + 1 WHERE k = $1").await.expect("prepared");
    unknown(cancelling(shard, client.execute(&bound, &[&key])).await, "one shard, prepared");
    let only = format!("UPDATE t SET v = 2 WHERE k IN ({key}, {key}) AND v > 0");
    unknown(cancelling(shard, client.batch_execute(&only)).await, "scatter to one shard");
    client.batch_execute(&format!("BEGIN; {one}")).await.expect("begun");
    unknown(cancelling(shard, client.batch_execute("COMMIT")).await, "COMMIT on one shard");
    unknown(cancelling(shard, client.batch_execute("UPDATE t SET v = 3")).await, "the decision");
    // Once it is certain, the resolver finishes what was decided; not before.
    wait_for_nobody(shard, false).await;
    let all = async |value: &str| rows(&client, "SELECT min(v), max(v) FROM t").await == [format!("{value}|{value}")];
    eventually("settled", async || all("3").await).await;
    wait_for_nobody(shard, true).await;
    client.batch_execute("BEGIN; UPDATE t SET v = 4").await.expect("begun");
    unknown(cancelling(shard, client.batch_execute("COMMIT")).await, "COMMIT over shards");
    wait_for_nobody(shard, false).await;
    eventually("settled", async || all("4").await).await;
}
