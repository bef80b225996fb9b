//! A shard is added out of spare containers while applications write; new tables use it at once.

use super::{
    ledger::{Ledger, connect},
    running::{Cluster, group},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_added_out_of_spares() {
    let cluster = Cluster::start(&["--spares", "2"]);
    let ledger = Ledger::open(&cluster.target()).await;
    let output = cluster.admin(&["shard", "add", "--output", "json"]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), cluster.report());
    let status = cluster.wait_until_healthy();
    assert_eq!(group(&status, "shard-3").members.len(), 2);
    assert!(status.idle.is_empty());

    let client = connect(&cluster.dsn(1)).await.expect("the cluster is healthy");
    for statement in [
        "CREATE TABLE wide (id bigint PRIMARY KEY)",
        "SELECT create_distributed_table('wide', 'id')",
        "INSERT INTO wide SELECT generate_series(1, 3000)",
    ] {
        client.batch_execute(statement).await.expect(statement);
    }
    let count: i64 = client.query_one("SELECT count(*) FROM wide", &[]).await.expect("it can be read").get(0);
    assert_eq!(count, 3000);
    let status = cluster.wait_for("the new table is listed with all three shards", |status| {
        status.tables.iter().any(|table| table.name == "wide" && table.shards.len() == 3)
    });
    let table = status.tables.iter().find(|table| table.name == "wide").expect("it was listed");
    assert_eq!((table.kind.as_str(), table.distribution_column.as_str()), ("distributed", "id"));
    assert!(ledger.wait_for_progress(10).await, "writers stand still: {:?}", ledger.errors());
    ledger.close().await;
}

#[test]
fn without_spares_the_operation_waits_and_says_so() {
    let cluster = Cluster::start(&[]);
    let output = cluster.admin(&["shard", "add", "--no-wait", "--output", "json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let operation: howdah::model::status::OperationStatus =
        serde_json::from_slice(&output.stdout).expect("an operation as JSON");
    assert_eq!(operation.state, "running");
    let status = cluster.status();
    let shown = status.operations.iter().find(|it| it.id == operation.id).expect("it is listed");
    assert!(!shown.message.is_empty(), "an operation that waits says for what");
}
