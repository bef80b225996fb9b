//! COPY split by key, COPY out under one header, rows that move between statements.

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, pin_mut};
use tokio_postgres::Client;

use super::harness::{Herd, refused, rows};

async fn copy_in(client: &Client, sql: &str, parts: &[&[u8]]) -> Result<u64, tokio_postgres::Error> {
    let sink = client.copy_in::<_, Bytes>(sql).await?;
    pin_mut!(sink);
    for part in parts {
        sink.send(Bytes::copy_from_slice(part)).await?;
    }
    sink.finish().await
}

async fn copy_out(client: &Client, sql: &str) -> Vec<u8> {
    let stream = client.copy_out(sql).await.expect(sql);
    pin_mut!(stream);
    let mut bytes = Vec::new();
    while let Some(part) = stream.next().await {
        bytes.extend_from_slice(&part.expect("rows"));
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_find_their_shards() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute("CREATE TABLE t (v text, k int PRIMARY KEY); SELECT create_distributed_table('t', 'k')")
        .await
        .expect("distributed");
    let parts: [&[u8]; 3] = [b"v,k\n\"a\nb\",1\n\"c\"", b"\"d\",2\n,", b"3\ne,4\n"];
    assert_eq!(copy_in(&client, "COPY t FROM STDIN (FORMAT csv, HEADER)", &parts).await.expect("copied"), 4);
    assert_eq!(rows(&client, "SELECT * FROM t ORDER BY k").await, ["a\nb|1", "c\"d|2", "NULL|3", "e|4"]);
    let many: String = (5..20_000).map(|k| format!("value {k}\t{k}\n")).collect::<Vec<_>>().concat();
    assert_eq!(copy_in(&client, "COPY t FROM STDIN", &[many.as_bytes()]).await.expect("copied"), 19_995);
    let counts = herd.on_shards("SELECT count(*) FROM t").await;
    assert!(counts.iter().all(|count| *count > 5_000), "{counts:?}");
    let csv = String::from_utf8(copy_out(&client, "COPY t TO STDOUT (FORMAT csv, HEADER)").await).expect("text");
    assert_eq!((csv.matches("v,k\n").count(), csv.lines().count()), (1, 20_001));
    let binary = copy_out(&client, "COPY t TO STDOUT (FORMAT binary)").await;
    client.batch_execute("TRUNCATE t").await.expect("empty");
    assert_eq!(copy_in(&client, "COPY t FROM STDIN (FORMAT binary)", &[&binary]).await.expect("copied"), 19_999);
    assert_eq!(rows(&client, "SELECT count(*), sum(k) FROM t").await, ["19999|199990000"]);
    // Larger than what goes as parameters: spooled.
    let spooled = rows(&client, "SELECT DISTINCT v, repeat(v, 50) FROM t ORDER BY 1").await;
    assert_eq!((spooled.len(), spooled[0].len()), (19_999, "a\nb".len() * 51 + 1));
    client.batch_execute("BEGIN").await.expect("a block");
    assert_eq!(rows(&client, "SELECT DISTINCT repeat(v, 60), v FROM t ORDER BY 2 LIMIT 15000").await.len(), 15_000);
    assert_eq!(rows(&client, "SELECT DISTINCT repeat(v, 60), v FROM t ORDER BY 2").await.len(), 19_999);
    client.batch_execute("UPDATE t SET v = 'x'; COMMIT").await.expect("two phases after a temporary table");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_fails_leaves_nothing() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute("CREATE TABLE t (k int PRIMARY KEY, v int); SELECT create_distributed_table('t', 'k')")
        .await
        .expect("distributed");
    let many: String = (0..5_000).map(|k| format!("{k}\t{k}\n")).collect::<Vec<_>>().concat();
    for bad in ["1\tx\n", "\\N\t1\n", "9\n", "x\t1\n", "1\t1\n"] {
        let error = copy_in(&client, "COPY t FROM STDIN", &[many.as_bytes(), bad.as_bytes()]).await;
        assert!(error.is_err(), "{bad:?}");
        assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["0"], "{bad:?}");
    }
    // The client goes away amid its data.
    let other = herd.client().await;
    {
        let sink = other.copy_in::<_, Bytes>("COPY t FROM STDIN").await.expect("begun");
        pin_mut!(sink);
        sink.send(Bytes::from(many.clone())).await.expect("sent");
    }
    drop(other);
    assert_eq!(rows(&client, "SELECT count(*) FROM t").await, ["0"]);
    assert_eq!(refused(&client, "COPY t FROM '/etc/passwd'").await.0.len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_move_between_tables() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute(
            "CREATE TABLE a (k int PRIMARY KEY, v text); CREATE TABLE b (id text PRIMARY KEY, n int);
             SELECT create_distributed_table('a', 'k'); SELECT create_distributed_table('b', 'id');
             INSERT INTO a SELECT g, E'x\\ty\\\\' || g FROM generate_series(1, 500) g",
        )
        .await
        .expect("distributed");
    client.batch_execute("INSERT INTO b SELECT v, k FROM a").await.expect("split by another key");
    assert_eq!(rows(&client, "SELECT count(*), sum(n) FROM b").await, ["500|125250"]);
    assert_eq!(rows(&client, "SELECT n FROM b WHERE id = E'x\\ty\\\\7'").await, ["7"]);
    let statement = client.prepare("INSERT INTO b SELECT v || $1, k FROM a WHERE k < $2").await.expect("prepared");
    assert_eq!(client.execute(&statement, &[&"z", &11_i32]).await.expect("ten rows"), 10);
}
