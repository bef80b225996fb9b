//! TPC-H 0.1 loaded by `howdah dev --load` answers like a plain PostgreSQL with the same rows: counts
//! and queries 1, 4, 6 and 12.

use std::fmt::Write as _;

use futures_util::SinkExt as _;
use tokio_postgres::{Client, SimpleQueryMessage};
use tpchgen::generators::{
    CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator, PartSuppGenerator,
    RegionGenerator, SupplierGenerator,
};

use super::{ledger::connect, plain::Plain, running::Cluster};

/// 600,000 rows in lineitem: enough that merging is real, loaded in seconds.
const SCALE: f64 = 0.1;

const TABLES: [&str; 8] = ["region", "nation", "supplier", "part", "partsupp", "customer", "orders", "lineitem"];

/// TPC-H specification, 2.4, with the validation parameters.
const QUERIES: [(&str, &str); 4] = [
    (
        "Q1",
        "SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base_price, \
         sum(l_extendedprice * (1 - l_discount)) AS sum_disc_price, \
         sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge, avg(l_quantity) AS avg_qty, \
         avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS count_order \
         FROM lineitem WHERE l_shipdate <= date '1998-12-01' - interval '90' day \
         GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus",
    ),
    (
        "Q4",
        "SELECT o_orderpriority, count(*) AS order_count FROM orders WHERE o_orderdate >= date '1993-07-01' \
         AND o_orderdate < date '1993-07-01' + interval '3' month AND EXISTS (SELECT * FROM lineitem \
         WHERE l_orderkey = o_orderkey AND l_commitdate < l_receiptdate) \
         GROUP BY o_orderpriority ORDER BY o_orderpriority",
    ),
    (
        "Q6",
        "SELECT sum(l_extendedprice * l_discount) AS revenue FROM lineitem WHERE l_shipdate >= date '1994-01-01' \
         AND l_shipdate < date '1994-01-01' + interval '1' year AND l_discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01 \
         AND l_quantity < 24",
    ),
    (
        "Q12",
        "SELECT l_shipmode, sum(CASE WHEN o_orderpriority = '1-URGENT' OR o_orderpriority = '2-HIGH' THEN 1 ELSE 0 END) \
         AS high_line_count, sum(CASE WHEN o_orderpriority <> '1-URGENT' AND o_orderpriority <> '2-HIGH' THEN 1 ELSE 0 \
         END) AS low_line_count FROM orders, lineitem WHERE o_orderkey = l_orderkey AND l_shipmode IN ('MAIL', 'SHIP') \
         AND l_commitdate < l_receiptdate AND l_shipdate < l_commitdate AND l_receiptdate >= date '1994-01-01' \
         AND l_receiptdate < date '1994-01-01' + interval '1' year GROUP BY l_shipmode ORDER BY l_shipmode",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_like_one_postgresql() {
    let cluster = Cluster::start(&["--load", "tpch:0.1"]);
    let plain = Plain::start(cluster.sql_port(0) + 150);
    let (sharded, truth) = (
        connect(&cluster.dsn(0)).await.expect("the cluster is ready"),
        connect(&plain.dsn()).await.expect("the plain one is ready"),
    );
    for table in TABLES {
        fill(&truth, &sharded, table).await;
    }
    let other = connect(&cluster.dsn(1)).await.expect("the second router is ready");
    for client in [&sharded, &other] {
        for table in TABLES {
            same(client, &truth, &format!("SELECT count(*) FROM {table}")).await;
        }
        for (name, query) in QUERIES {
            println!("{name}");
            same(client, &truth, query).await;
        }
    }
}

/// The same rows as the loader's, made here: nothing of the truth comes through the cluster but types.
async fn fill(plain: &Client, shells: &Client, table: &str) {
    let columns = "SELECT string_agg(format('%I %s', attname, format_type(atttypid, atttypmod)), ', ' ORDER BY attnum) \
                   FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped";
    let columns: String = shells.query_one(columns, &[&table]).await.expect("the shell has its columns").get(0);
    plain.batch_execute(&format!("CREATE TABLE {table} ({columns})")).await.expect("a plain table");
    let into = plain.copy_in(&format!("COPY {table} FROM STDIN (DELIMITER '|')")).await.expect("COPY begins");
    let mut into = Box::pin(into);
    for chunk in rows(table).chunks(1000) {
        into.feed(bytes::Bytes::from(chunk.concat())).await.expect("rows fit");
    }
    into.as_mut().finish().await.expect("COPY ends");
}

fn rows(table: &str) -> Vec<String> {
    fn lines(rows: impl IntoIterator<Item: std::fmt::Display>) -> Vec<String> {
        rows.into_iter().map(|row| format!("{}\n", row.to_string().trim_end_matches('|'))).collect()
    }
    match table {
        "region" => lines(RegionGenerator::new(SCALE, 1, 1)),
        "nation" => lines(NationGenerator::new(SCALE, 1, 1)),
        "supplier" => lines(SupplierGenerator::new(SCALE, 1, 1)),
        "part" => lines(PartGenerator::new(SCALE, 1, 1)),
        "partsupp" => lines(PartSuppGenerator::new(SCALE, 1, 1)),
        "customer" => lines(CustomerGenerator::new(SCALE, 1, 1)),
        "orders" => lines(OrderGenerator::new(SCALE, 1, 1)),
        _ => lines(LineItemGenerator::new(SCALE, 1, 1)),
    }
}

async fn same(client: &Client, truth: &Client, query: &str) {
    let (got, expected) = (text(client, query).await, text(truth, query).await);
    assert_eq!(got, expected, "{query}");
}

/// Names and values, as psql would print them.
async fn text(client: &Client, query: &str) -> String {
    let messages = client.simple_query(query).await.unwrap_or_else(|error| panic!("{query}: {error:?}"));
    let mut text = String::new();
    for message in messages {
        if let SimpleQueryMessage::Row(row) = message {
            for (index, column) in row.columns().iter().enumerate() {
                write!(text, "{}={:?} ", column.name(), row.get(index)).expect("writing to a string cannot fail");
            }
            text.push('\n');
        }
    }
    text
}
