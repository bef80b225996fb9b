//! What a dead router leaves prepared is settled by another: as decided, or aborted.

use super::harness::{Herd, eventually, rows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn abandoned_transactions_end_as_decided() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute("CREATE TABLE t (k int PRIMARY KEY); SELECT create_distributed_table('t', 'k')")
        .await
        .expect("distributed");
    client.batch_execute("INSERT INTO t SELECT generate_series(1, 40)").await.expect("rows");
    let (first, second) = (herd.shards[0].admin("app").await, herd.shards[1].admin("app").await);
    // One router died before its decision, one after.
    first
        .batch_execute("BEGIN; DELETE FROM t WHERE k % 2 = 0; PREPARE TRANSACTION 'howdah:shard-2:aa:shard-1'")
        .await
        .expect("prepared");
    second.batch_execute("INSERT INTO howdah.decision (id, outcome) VALUES ('bb', 'commit')").await.expect("decided");
    first
        .batch_execute("BEGIN; DELETE FROM t WHERE k % 2 = 1; PREPARE TRANSACTION 'howdah:shard-2:bb:shard-1'")
        .await
        .expect("prepared");
    // Somebody else's is nobody's business.
    first.batch_execute("BEGIN; CREATE TABLE mine (); PREPARE TRANSACTION 'mine'").await.expect("prepared");
    let odd = herd.on_shards("SELECT count(*) FROM t WHERE k % 2 = 1").await;
    let even = herd.on_shards("SELECT count(*) FROM t WHERE k % 2 = 0").await;
    eventually("both are settled", async || {
        let row = first.query_one("SELECT count(*) FROM pg_prepared_xacts WHERE gid LIKE 'howdah:%'", &[]).await;
        row.expect("readable").get::<_, i64>(0) == 0
    })
    .await;
    let want = format!("{}|{}", odd[1], even[0] + even[1]);
    let now = "SELECT count(*) FILTER (WHERE k % 2 = 1), count(*) FILTER (WHERE k % 2 = 0) FROM t";
    assert_eq!(rows(&client, now).await, [want]);
    let outcome = second.query_one("SELECT outcome FROM howdah.decision WHERE id = 'aa'", &[]).await.expect("decided");
    assert_eq!(outcome.get::<_, &str>(0), "abort");
    let others = first.query_one("SELECT count(*) FROM pg_prepared_xacts", &[]).await.expect("readable");
    assert_eq!(others.get::<_, i64>(0), 1);
    first.batch_execute("ROLLBACK PREPARED 'mine'").await.expect("ours");
}
