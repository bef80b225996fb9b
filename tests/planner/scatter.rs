//! Statements for several shards, run by hand: two schemas are the shards, one table holds it all, and
//! both ways must answer alike.

use std::collections::BTreeSet;

use howdah::{
    model::ids::ColocationId,
    router::core::{
        catalog::{Catalog, Column, Distribution, Fill, Table, TableKind, TableName},
        hash::KeyType,
        plan::{Merge, Plan},
        planner::{Input, plan_text},
    },
};
use tokio_postgres::Client;

use super::{connect, rows};
use crate::cluster::plain::Plain;

/// TPC-H's columns that the queries use, and a few types more.
const SCHEMA: &str = "
    CREATE TABLE orders AS SELECT g::bigint AS o_orderkey, (g % 40)::int AS o_custkey, (random() * 100000)::numeric(15,2) AS o_totalprice,
        date '1992-01-01' + (random() * 2400)::int AS o_orderdate, (1 + g % 5)::text || '-PRIO' AS o_orderpriority, 0 AS o_shippriority,
        (random() * 10)::real AS o_real, random() * 10 AS o_double, CASE WHEN g % 7 > 0 THEN g % 11 END AS o_null,
        chr(65 + g % 50) AS o_letter FROM generate_series(1, 600) g;
    ALTER TABLE orders ALTER o_letter TYPE text COLLATE \"C\";
    CREATE TABLE lineitem AS SELECT o_orderkey AS l_orderkey, n AS l_linenumber, (random() * 20)::int::bigint AS l_partkey,
        (1 + random() * 49)::int::numeric(15,2) AS l_quantity, (random() * 10000)::numeric(15,2) AS l_extendedprice,
        ((random() * 10)::int / 100.0)::numeric(15,2) AS l_discount, 0.05::numeric(15,2) AS l_tax,
        substr('RAN', 1 + (random() * 2)::int, 1) AS l_returnflag, substr('OF', 1 + (random() * 1)::int, 1) AS l_linestatus,
        o_orderdate + (random() * 90)::int AS l_shipdate, o_orderdate + (random() * 90)::int AS l_commitdate, o_orderdate + (random() * 90)::int AS l_receiptdate,
        (ARRAY['MAIL','SHIP','AIR','RAIL'])[1 + (random() * 3)::int] AS l_shipmode, 'DELIVER IN PERSON' AS l_shipinstruct
        FROM orders, generate_series(1, 5) n WHERE random() < 0.8;
    CREATE TABLE customer AS SELECT g AS c_custkey, 'Customer ' || g AS c_name, (random() * 1000)::numeric(15,2) AS c_acctbal,
        (g % 4)::int AS c_nationkey, (ARRAY['BUILDING','AUTOMOBILE'])[1 + g % 2] AS c_mktsegment FROM generate_series(0, 39) g;
    CREATE TABLE nation AS SELECT g AS n_nationkey, 'Nation ' || g AS n_name FROM generate_series(0, 3) g;
    CREATE TABLE part AS SELECT g::bigint AS p_partkey, CASE WHEN g % 2 = 0 THEN 'PROMO x' ELSE 'y' END AS p_type, 'Brand#' || g % 3 AS p_brand,
        g % 10 AS p_size, 'SM CASE' AS p_container FROM generate_series(0, 20) g;";

const DISTRIBUTED: [&str; 2] = ["orders", "lineitem"];
const REFERENCE: [&str; 3] = ["customer", "nation", "part"];

#[tokio::test]
async fn shards_answer_as_one_table_does() {
    let server = Plain::start(24_001);
    let client = connect(&server).await;
    client
        .batch_execute("CREATE SCHEMA whole; CREATE SCHEMA s0; CREATE SCHEMA s1; SET search_path = whole")
        .await
        .expect("schemas");
    client.batch_execute(SCHEMA).await.expect("tables");
    for shard in [0, 1] {
        for (at, table) in DISTRIBUTED.iter().enumerate() {
            let key = ["o_orderkey", "l_orderkey"][at];
            copy_table(&client, table, shard, &format!("WHERE {key} % 2 = {shard}")).await;
        }
        for table in REFERENCE {
            copy_table(&client, table, shard, "").await;
        }
    }
    let catalog = catalog(&client).await;
    let mut failures = Vec::new();
    for query in include_str!("queries.sql").split(";\n").map(str::trim).filter(|query| !query.is_empty()) {
        if let Err(wrong) = check(&client, &catalog, query).await {
            failures.push(wrong);
            client.batch_execute("DROP TABLE IF EXISTS pg_temp.partial").await.expect("drop");
        }
    }
    assert!(failures.is_empty(), "{} wrong:\n\n{}", failures.len(), failures.join("\n\n"));
}

async fn copy_table(client: &Client, table: &str, shard: i32, rows: &str) {
    let sql = format!(
        "CREATE TABLE s{shard}.{table} (LIKE whole.{table}); INSERT INTO s{shard}.{table} SELECT * FROM whole.{table} {rows}"
    );
    client.batch_execute(&sql).await.expect("a shard's table");
}

async fn catalog(client: &Client) -> Catalog {
    let mut tables = Vec::new();
    for name in DISTRIBUTED.into_iter().chain(REFERENCE) {
        let sql = format!(
            "SELECT attname, atttypid, format_type(atttypid, NULL), CASE WHEN attcollation = 950 THEN '\"C\"' END
               FROM pg_attribute WHERE attrelid = 'whole.{name}'::regclass AND attnum > 0 ORDER BY attnum"
        );
        let columns: Vec<Column> = rows(client, &sql)
            .await
            .expect("columns")
            .into_iter()
            .map(|row| {
                let mut row = row.into_iter();
                let mut next = || row.next().flatten();
                Column {
                    name: next().expect("a name"),
                    type_oid: next().and_then(|oid| oid.parse().ok()).expect("a type"),
                    type_name: next().expect("a type"),
                    collation: next(),
                    not_null: false,
                    declared_type: None,
                    fill: Fill::Null,
                }
            })
            .collect();
        let distribution =
            Distribution { key: 0, key_type: KeyType::Int8, colocation: ColocationId(1), bucket_count: 2 };
        let kind =
            if DISTRIBUTED.contains(&name) { TableKind::Distributed(distribution) } else { TableKind::Reference };
        let name = TableName::new("whole", name);
        tables.push(Table { name, kind, columns, indexes: BTreeSet::new(), statement_triggers: false });
    }
    Catalog::new(tables, [], [], [])
}

async fn check(client: &Client, catalog: &Catalog, query: &str) -> Result<(), String> {
    let search_path = ["whole".to_owned()];
    let input = Input {
        catalog,
        search_path: &search_path,
        temporary: &BTreeSet::new(),
        param_types: &[],
        standard_conforming_strings: true,
    };
    let plan = plan_text(&input, query).remove(0).plan;
    let Plan::Scatter(scatter) = plan else { return Err(format!("{query}\n-> {plan:?}")) };
    client.batch_execute("SET search_path = whole").await.expect("set");
    let mut expected = rows(client, query).await?;
    let mut shard = String::new();
    scatter.shard.render(None, &mut shard);
    let mut answer = match &scatter.merge {
        Merge::Concat => {
            let mut all = Vec::new();
            for schema in ["s0", "s1"] {
                client.batch_execute(&format!("SET search_path = {schema}")).await.expect("set");
                all.extend(rows(client, &shard).await?);
            }
            all
        }
        Merge::Final { query: last, columns } => {
            let names: Vec<String> = (1..=*columns).map(|number| format!("p{number}")).collect();
            let source = format!("SELECT * FROM ({shard}) AS source({})", names.join(", "));
            for (schema, verb) in [("s0", "CREATE TEMP TABLE partial AS"), ("s1", "INSERT INTO partial")] {
                let sql = format!("SET search_path = {schema}; {verb} {source}");
                client.batch_execute(&sql).await.map_err(|error| format!("{query}\n-> {sql}\n-> {error:?}"))?;
            }
            let types = rows(
                client,
                "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 'partial'::regclass AND attnum > 0 ORDER BY attnum",
            )
            .await?;
            let type_of = |number: u16| types[usize::from(number) - 1][0].as_deref().expect("a type");
            let mut text = String::new();
            last.render_final(None, "partial", &type_of, &mut text);
            let answer = rows(client, &text).await?;
            client.batch_execute("DROP TABLE partial").await.expect("drop");
            answer
        }
    };
    // A query whose order is not total says so by having none.
    if !query.contains("ORDER BY") {
        expected.sort();
        answer.sort();
    }
    if !expected.is_empty() && answer == expected {
        return Ok(());
    }
    let shown = |rows: &[Vec<Option<String>>]| format!("{:?}", &rows[..rows.len().min(4)]);
    Err(format!(
        "{query}\n-> {shard}\n-> {:?}\n-> {} rows: {}\n-> {} expected: {}",
        scatter.merge,
        answer.len(),
        shown(&answer),
        expected.len(),
        shown(&expected)
    ))
}
