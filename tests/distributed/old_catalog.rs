//! A router that has not heard yet that a table was distributed never answers from the empty shell: it
//! reads the catalog anew and runs the statement again, or fails and says so.

use std::collections::BTreeSet;

use futures_util::StreamExt as _;
use tokio_postgres::Client;

use super::harness::{Herd, client_at, rows};

/// Keeps the second router from hearing anything: its own sessions are ended and cannot come back.
async fn deafen(admin: &Client, first: &BTreeSet<i32>) {
    admin.batch_execute("ALTER ROLE howdah_router NOLOGIN").await.expect("altered");
    for pid in own_sessions(admin).await.difference(first) {
        admin.execute("SELECT pg_terminate_backend($1)", &[pid]).await.expect("ended");
    }
}

async fn own_sessions(admin: &Client) -> BTreeSet<i32> {
    let ask = "SELECT pid FROM pg_stat_activity WHERE usename = 'howdah_router' AND application_name = 'howdah router'";
    admin.query(ask, &[]).await.expect("seen").iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_answered_from_a_shell() {
    let herd = Herd::start(2).await;
    let first = herd.client().await;
    let admin = herd.query.admin("app").await;
    let of_first = own_sessions(&admin).await;
    let port = herd.second_router().await;
    let second = client_at(port).await;
    let statements = [
        ("SELECT count(*) FROM $t", "20"),
        ("COPY $t TO STDOUT", "20 lines"),
        ("COPY (SELECT * FROM ONLY $t) TO STDOUT", "0A000"),
        ("SELECT count(*) FROM ONLY $t", "0A000"),
        ("INSERT INTO $t VALUES (100)", ""),
        ("DELETE FROM ONLY $t", "0A000"),
        ("LOCK TABLE $t", "0A000"),
        ("TRUNCATE $t", ""),
        ("ALTER TABLE $t ADD COLUMN x int", ""),
        ("CREATE INDEX ON $t (k)", ""),
        ("GRANT SELECT ON $t TO PUBLIC", ""),
        ("COMMENT ON TABLE $t IS 'x'", ""),
        ("CLUSTER $t", "0A000"),
        ("VACUUM $t", "0A000"),
        ("ANALYZE $t", ""),
        // Its notice may have gone to the client before the refusal came: then the client repeats it.
        ("DROP TABLE $t CASCADE", "|40001"),
        ("DROP TABLE $t", ""),
    ];
    for (at, (statement, want)) in statements.into_iter().enumerate() {
        let table = format!("t{at}");
        let sql = statement.replace("$t", &table);
        first
            .batch_execute(&format!(
                "CREATE TABLE {table} (k int PRIMARY KEY); INSERT INTO {table} SELECT generate_series(1, 20)"
            ))
            .await
            .expect("a local table");
        deafen(&admin, &of_first).await;
        first.batch_execute(&format!("SELECT create_distributed_table('{table}', 'k')")).await.expect("distributed");
        let asking = async {
            if sql.starts_with("COPY") {
                let lines = match second.copy_out(&sql).await {
                    Ok(lines) => lines,
                    Err(error) => return error.code().expect("from the router").code().to_owned(),
                };
                return format!(
                    "{} lines",
                    Box::pin(lines).filter(|line| std::future::ready(line.is_ok())).count().await
                );
            }
            match second.simple_query(&sql).await {
                Ok(_) if sql.starts_with("SELECT") => rows(&second, &sql).await.concat(),
                Ok(_) => String::new(),
                Err(error) => error.as_db_error().expect("from the router").code().code().to_owned(),
            }
        };
        let hearing = async {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            admin.batch_execute("ALTER ROLE howdah_router LOGIN").await.expect("altered");
        };
        let (got, ()) = tokio::join!(asking, hearing);
        assert!(want.split('|').any(|want| want == got), "{sql}: {got:?} instead of {want:?}");
    }
    // What was run everywhere was: the shells and the shards agree.
    let columns = "SELECT count(*) FROM pg_attribute WHERE attrelid = 't8'::regclass AND attname = 'x'";
    assert_eq!(herd.on_shards(columns).await, [1, 1]);
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = 't9'::regclass";
    assert_eq!(herd.on_shards(indexes).await, [2, 2]);
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_class WHERE relname = 't16'").await, [0, 0]);
    second.batch_execute("VACUUM").await.expect("of everything, on every group");
}
