//! A COMMIT over several shards whose answer is lost: the client learns what became of it.

use std::sync::atomic::Ordering;

use super::{
    harness::{Herd, refused, rows},
    proxy::Cutter,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_is_looked_up() {
    let cutter = Cutter::default();
    let herd = Herd::start_behind(2, |shard, port| if shard == 2 { cutter.start(port) } else { port }).await;
    let client = herd.client().await;
    client
        .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int); SELECT create_distributed_table('t', 'k')")
        .await
        .expect("distributed");
    client.batch_execute("INSERT INTO t SELECT g, 0 FROM generate_series(1, 40) g").await.expect("rows");
    let sum = "SELECT sum(v) FROM t";

    // The decision was made: so it is a success.
    cutter.after.store(true, Ordering::SeqCst);
    client.batch_execute("BEGIN; UPDATE t SET v = v + 1").await.expect("updated");
    client.batch_execute("COMMIT").await.expect("looked up: committed");
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), 1, "the answer was lost");
    assert_eq!(rows(&client, sum).await, ["40"]);

    // It was not made, and never will be.
    cutter.before.store(true, Ordering::SeqCst);
    client.batch_execute("BEGIN; UPDATE t SET v = v + 1").await.expect("updated");
    assert_eq!(refused(&client, "COMMIT").await.0, "40001");
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), 2);
    // COMMIT has ended the block, whatever came of it.
    assert_eq!(rows(&client, sum).await, ["40"]);

    // A statement that commits by itself over several shards, likewise.
    cutter.after.store(true, Ordering::SeqCst);
    client.batch_execute("UPDATE t SET v = v + 1").await.expect("looked up: committed");
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), 3);
    assert_eq!(rows(&client, sum).await, ["80"]);
    cutter.before.store(true, Ordering::SeqCst);
    assert_eq!(refused(&client, "UPDATE t SET v = v + 1").await.0, "40001");
    assert_eq!(cutter.cuts.load(Ordering::SeqCst), 4);
    assert_eq!(rows(&client, sum).await, ["80"]);
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_prepared_xacts").await, [0, 0]);
}
