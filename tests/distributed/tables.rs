//! Distributing, querying, changing and bringing back tables; reference tables; DDL; errors as users
//! know them.

use super::harness::{Herd, refused, rows};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_goes_out_and_comes_back() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute(
            "CREATE TYPE mood AS ENUM ('low', 'high');
             CREATE TABLE t (k bigint PRIMARY KEY, n numeric(10,2) CHECK (n >= 0), m mood, a int[], s bigserial);
             INSERT INTO t SELECT g, g * 1.5, CASE g % 2 WHEN 0 THEN 'low' ELSE 'high' END::mood, ARRAY[g, g]
               FROM generate_series(1, 200) g;
             CREATE INDEX by_n ON t (n); COMMENT ON TABLE t IS 'it''s'",
        )
        .await
        .expect("a local table");
    assert_eq!(rows(&client, "SELECT create_distributed_table('t', 'k')").await, [""]);
    let counts = herd.on_shards("SELECT count(*) FROM t").await;
    assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_class WHERE relname ~ '^t_b0[0-7]$'").await, [4, 4]);
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_class WHERE relname ~ '^by_n_b0[0-7]$'").await, [4, 4]);
    assert_eq!(rows(&client, "SELECT count(*), sum(n), min(m), max(a) FROM t").await, ["200|30150.00|low|{200,200}"]);
    assert_eq!(
        rows(
            &client,
            "SELECT m, avg(n), array_agg(k ORDER BY k DESC) FILTER (WHERE k < 5) FROM t GROUP BY m ORDER BY m"
        )
        .await,
        ["low|151.5000000000000000|{4,2}", "high|150.0000000000000000|{3,1}"]
    );
    assert_eq!(rows(&client, "SELECT a, m FROM t WHERE k IN (7, 8) ORDER BY k").await, ["{7,7}|high", "{8,8}|low"]);
    client.batch_execute("INSERT INTO t VALUES (1001, 1), (1002, 2), (1003, 3), (1004, 4)").await.expect("rows");
    let high = "SELECT count(*) FROM t WHERE s > 1000000 AND k > 1000";
    assert_eq!(rows(&client, high).await, ["4"]);
    assert_eq!(rows(&client, "SELECT count(DISTINCT s) FROM t").await, ["204"]);
    let (sqlstate, message) = refused(&client, "INSERT INTO t VALUES (1001, 1)").await;
    assert_eq!((sqlstate.as_str(), message.contains("\"t_pkey\"")), ("23505", true), "{message}");
    let (sqlstate, message) = refused(&client, "UPDATE t SET n = -1").await;
    assert_eq!((sqlstate.as_str(), message.contains("relation \"t\"")), ("23514", true), "{message}");
    assert_eq!(refused(&client, "INSERT INTO t VALUES (NULL, 1)").await.0, "23502");
    assert_eq!(refused(&client, "SELECT create_distributed_table('t', 'k')").await.0, "42P16");
    let ask = "SELECT get_shard_id_for_distribution_column('t', 1001)";
    let owned = format!("SELECT count(*) FROM pg_dist_shard WHERE shardid = {}", rows(&client, ask).await[0]);
    assert_eq!(rows(&client, &owned).await, ["1"]);
    assert_eq!(rows(&client, "SELECT undistribute_table('t')").await, [""]);
    assert_eq!(rows(&client, "SELECT count(*), sum(n) FROM t").await, ["204|30160.00"]);
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_class WHERE relname LIKE 't\\_%b0%'").await, [0, 0]);
    client.batch_execute("DROP TABLE t").await.expect("local again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_distributed_says_why() {
    let herd = Herd::start(1).await;
    let client = herd.client().await;
    client
        .batch_execute("CREATE TABLE p (a int PRIMARY KEY, b int); CREATE VIEW v AS SELECT 1 AS a")
        .await
        .expect("made");
    for (sql, want) in [
        ("SELECT create_distributed_table('nothing', 'a')", "42P01"),
        ("SELECT create_distributed_table('p', 'c')", "42703"),
        ("SELECT create_distributed_table('p', 'b')", "0A000"),
        ("SELECT create_distributed_table('v', 'a')", "0A000"),
        ("SELECT undistribute_table('p')", "42P16"),
        ("SELECT create_distributed_table('p', 'a', colocate_with => 'v')", "42P01"),
    ] {
        assert_eq!(refused(&client, sql).await.0, want, "{sql}");
    }
    // Nothing of it is left behind.
    assert_eq!(rows(&client, "SELECT create_distributed_table('p', 'a')").await, [""]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colocated_tables_keep_their_foreign_keys() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute(
            "CREATE TABLE company (id bigint PRIMARY KEY);
             CREATE TABLE kind (id int PRIMARY KEY, name text);
             CREATE TABLE campaign (id bigint, company bigint REFERENCES company ON DELETE CASCADE, kind int REFERENCES kind,
                                    PRIMARY KEY (company, id));
             INSERT INTO company SELECT generate_series(1, 20); INSERT INTO kind VALUES (1, 'a'), (2, 'b');
             INSERT INTO campaign SELECT g, 1 + g % 20, 1 + g % 2 FROM generate_series(1, 100) g;
             SELECT create_reference_table('kind');
             SELECT create_distributed_table('company', 'id');
             SELECT create_distributed_table('campaign', 'company')",
        )
        .await
        .expect("distributed in one transaction");
    let joined = "SELECT k.name, count(*) FROM company c JOIN campaign a ON a.company = c.id JOIN kind k ON k.id = a.kind \
                  GROUP BY k.name ORDER BY 1";
    assert_eq!(rows(&client, joined).await, ["a|50", "b|50"]);
    let (sqlstate, message) = refused(&client, "INSERT INTO campaign VALUES (1, 999, 1)").await;
    assert_eq!((sqlstate.as_str(), message.contains("\"campaign\"")), ("23503", true), "{message}");
    assert_eq!(refused(&client, "INSERT INTO campaign VALUES (999, 1, 9)").await.0, "23503");
    client.batch_execute("DELETE FROM company WHERE id = 3").await.expect("cascades");
    assert_eq!(rows(&client, "SELECT count(*) FROM campaign").await, ["95"]);
    // Reference tables are written everywhere, or not at all.
    client.batch_execute("INSERT INTO kind VALUES (3, 'c')").await.expect("written");
    assert_eq!(herd.on_shards("SELECT count(*) FROM kind").await, [3, 3]);
    assert_eq!(refused(&client, "DELETE FROM kind WHERE id = 1").await.0, "23503");
    assert_eq!(herd.on_shards("SELECT count(*) FROM kind").await, [3, 3]);
    assert_eq!(refused(&client, "DO $$ BEGIN INSERT INTO kind VALUES (4, 'd'); END $$").await.0, "55000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ddl_goes_everywhere() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    client
        .batch_execute(
            "CREATE SCHEMA s; CREATE TABLE s.t (k text PRIMARY KEY); SELECT create_distributed_table('s.t', 'k')",
        )
        .await
        .expect("distributed");
    client
        .batch_execute("ALTER TABLE s.t ADD COLUMN v int DEFAULT 5; CREATE INDEX i ON s.t (v)")
        .await
        .expect("altered");
    client.batch_execute("INSERT INTO s.t SELECT 'k' || g FROM generate_series(1, 50) g").await.expect("split by key");
    assert_eq!(rows(&client, "SELECT count(*), sum(v) FROM s.t").await, ["50|250"]);
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_class WHERE relname ~ '^i_b0[0-7]$'").await, [4, 4]);
    assert_eq!(refused(&client, "ALTER TABLE s.t ADD CONSTRAINT c CHECK (v > 5)").await.0, "23514");
    client.batch_execute("ANALYZE; TRUNCATE s.t").await.expect("about rows");
    assert_eq!(rows(&client, "SELECT count(*) FROM s.t").await, ["0"]);
    client.batch_execute("DROP TABLE s.t").await.expect("dropped");
    assert_eq!(herd.on_shards("SELECT count(*) FROM pg_class WHERE relnamespace = 's'::regnamespace").await, [0, 0]);
    assert_eq!(refused(&client, "SELECT * FROM s.t").await.0, "42P01");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn colocation_can_be_declined_and_leaves_are_named() {
    let herd = Herd::start(2).await;
    let client = herd.client().await;
    let long = "an_order_of_a_customer_with_a_name_that_is_rather_long_é_éé";
    client
        .batch_execute(&format!(
            "CREATE TABLE a (k bigint); CREATE TABLE b (k bigint); CREATE TABLE c (k bigint); CREATE TABLE d (k bigint);
             CREATE SCHEMA s; CREATE TABLE s.\"{long}\" (k bigint);
             SELECT create_distributed_table('a', 'k', colocate_with => 'none');
             SELECT create_distributed_table('b', 'k'); SELECT create_distributed_table('c', 'k');
             SELECT create_distributed_table('d', 'k', colocate_with => 'a');
             SELECT create_distributed_table('s.\"{long}\"', 'k', colocate_with => 'none')"
        ))
        .await
        .expect("distributed");
    let groups = "SELECT string_agg(table_name::text, ',' ORDER BY table_name::text) FROM citus_tables
                  WHERE table_name::text ~ '^.$' GROUP BY colocation_id ORDER BY 1";
    assert_eq!(rows(&client, groups).await, ["a,d", "b,c"]);
    let of_table =
        "SELECT string_agg(shard_name, ',' ORDER BY shardid) FROM citus_shards WHERE table_name = 'b'::regclass";
    assert_eq!(rows(&client, of_table).await, ["b_b00,b_b01,b_b02,b_b03,b_b04,b_b05,b_b06,b_b07"]);
    // Every name is that of a leaf, and each leaf is there.
    let named = rows(&client, "SELECT shard_name FROM citus_shards").await;
    assert_eq!(named.len(), 40);
    let list = named.iter().map(|name| format!("('{name}')")).collect::<Vec<_>>().join(",");
    let found = herd.on_shards(&format!("SELECT count(to_regclass(name)) FROM (VALUES {list}) names (name)")).await;
    assert_eq!(found, [20, 20]);
}
