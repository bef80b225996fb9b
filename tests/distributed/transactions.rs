//! Transactions over several shards: all or nothing, with prepared statements, errors and lost sessions.

use super::harness::{Herd, refused, rows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_or_nothing() {
    let herd = Herd::start(3).await;
    let client = herd.client().await;
    client
        .batch_execute(
            "CREATE TABLE t (k int PRIMARY KEY, v int); CREATE TABLE log (n int);
             CREATE TABLE late (k int, v int, UNIQUE (k, v) DEFERRABLE INITIALLY DEFERRED);
             SELECT create_distributed_table('t', 'k'); SELECT create_distributed_table('late', 'k')",
        )
        .await
        .expect("distributed");
    client
        .batch_execute(
            "BEGIN; INSERT INTO t SELECT g, 0 FROM generate_series(1, 30) g; INSERT INTO log VALUES (1); COMMIT",
        )
        .await
        .expect("three shards and the query group");
    assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["30"]);
    client.batch_execute("BEGIN; UPDATE t SET v = 1; DELETE FROM log; ROLLBACK").await.expect("rolled back");
    assert_eq!(rows(&client, "SELECT sum(v), count(*) FROM t").await, ["0|30"]);
    assert_eq!(rows(&client, "SELECT count(*) FROM log").await, ["1"]);
    // An error on one shard undoes what the others did by the same statement.
    assert_eq!(refused(&client, "UPDATE t SET v = 1 / (k - 7)").await.0, "22012");
    assert_eq!(rows(&client, "SELECT sum(v) FROM t").await, ["0"]);
    // A deferred constraint refuses at PREPARE.
    client.batch_execute("INSERT INTO late SELECT g, 0 FROM generate_series(1, 20) g").await.expect("distinct");
    let twice = "BEGIN; INSERT INTO late SELECT g, 0 FROM generate_series(20, 40) g; COMMIT";
    assert_eq!(refused(&client, twice).await.0, "23505");
    client.batch_execute("ROLLBACK").await.expect("no block, or an aborted one");
    assert_eq!(rows(&client, "SELECT count(*) FROM late").await, ["20"]);
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_prepared_xacts").await, [0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prepared_statements_scatter() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute("CREATE TABLE t (k bigint PRIMARY KEY, v text); SELECT create_distributed_table('t', 'k')")
        .await
        .expect("distributed");
    let insert =
        client.prepare("INSERT INTO t VALUES ($1, $2), ($3, $4), ($5, 'c') RETURNING k").await.expect("prepared");
    let returned = client.query(&insert, &[&1_i64, &"a", &2_i64, &"b", &3_i64]).await.expect("three rows");
    let mut keys: Vec<i64> = returned.iter().map(|row| row.get(0)).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 2, 3]);
    let read = client.prepare("SELECT v, count(*), max(k) FROM t WHERE k < $1 GROUP BY v ORDER BY v LIMIT $2").await;
    let read = read.expect("prepared");
    for (below, limit, want) in [(10_i64, 2_i64, 2), (3, 10, 2), (0, 10, 0)] {
        let found = client.query(&read, &[&below, &limit]).await.expect("read");
        assert_eq!(found.len(), want);
    }
    let row = client.query_one(&read, &[&10_i64, &1_i64]).await.expect("one");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i64>(1), row.get::<_, i64>(2)), ("a", 1, 1));
    let update = client.prepare("UPDATE t SET v = v || $1 WHERE k = ANY ($2)").await.expect("prepared");
    assert_eq!(client.execute(&update, &[&"!", &vec![1_i64, 3]]).await.expect("two"), 2);
    assert_eq!(rows(&client, "SELECT v FROM t ORDER BY k").await, ["a!", "b", "c!"]);
}
