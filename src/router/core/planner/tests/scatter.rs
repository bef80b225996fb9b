//! What runs on every shard, and how its rows come together.

use super::{is_refused, is_scatter, plan, show};
use crate::router::core::plan::{Merge, Plan, Targets};

fn concat(text: &str) {
    assert!(
        matches!(plan(text), Plan::Scatter(ref scatter) if scatter.merge == Merge::Concat),
        "{text}: {}",
        show(text)
    );
}

fn merged(text: &str) {
    assert!(
        matches!(plan(text), Plan::Scatter(ref scatter) if scatter.merge != Merge::Concat),
        "{text}: {}",
        show(text)
    );
}

#[test]
fn rows_of_shards_are_rows_of_the_answer() {
    for text in [
        "SELECT * FROM orders",
        "SELECT note FROM orders WHERE id > 5",
        "SELECT customer, count(*) FROM orders GROUP BY customer HAVING count(*) > 1",
        "SELECT * FROM orders o JOIN items i ON o.customer = i.customer AND o.id = i.order_id",
        "SELECT * FROM orders o LEFT JOIN items i USING (customer)",
        "SELECT * FROM orders o FULL JOIN items i ON o.customer = i.customer",
        "SELECT * FROM orders o JOIN nations n ON n.id = o.id",
        "SELECT * FROM orders o LEFT JOIN nations n ON n.id = o.id",
        "SELECT * FROM nations n RIGHT JOIN orders o ON n.id = o.id",
        "SELECT * FROM orders o WHERE EXISTS (SELECT FROM items i WHERE i.customer = o.customer AND price > 3)",
        "SELECT * FROM orders o WHERE NOT EXISTS (SELECT FROM items i WHERE i.customer = o.customer)",
        "SELECT * FROM orders o WHERE customer IN (SELECT customer FROM items WHERE price > 3)",
        "SELECT * FROM orders o WHERE total > (SELECT avg(price) FROM items i WHERE i.customer = o.customer)",
        "SELECT * FROM orders WHERE id IN (SELECT id FROM nations)",
        "SELECT DISTINCT customer, note FROM orders",
        "SELECT customer, rank() OVER (PARTITION BY customer ORDER BY id) FROM orders",
        "SELECT x.n FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) x JOIN items USING (customer)",
        "SELECT * FROM orders UNION ALL SELECT * FROM orders",
        "SELECT customer, id FROM orders UNION SELECT customer, order_id FROM items",
        "WITH o AS (SELECT * FROM orders WHERE id > 3) SELECT * FROM o JOIN items USING (customer)",
        "SELECT * FROM orders o, LATERAL (SELECT * FROM items i WHERE i.customer = o.customer LIMIT 1) x",
        "SELECT * FROM orders FOR UPDATE",
        "SELECT id, random() FROM orders WHERE note = now()::text",
        "UPDATE orders SET note = 'x' WHERE id > 5",
        "UPDATE orders SET note = 'x' FROM items i WHERE i.customer = orders.customer RETURNING orders.id",
        "UPDATE orders SET note = n.name FROM nations n WHERE n.id = orders.id",
        "DELETE FROM orders WHERE NOT EXISTS (SELECT FROM items i WHERE i.customer = orders.customer)",
    ] {
        concat(text);
    }
}

#[test]
fn sorted_limited_and_distinct_rows_are_merged() {
    assert_eq!(
        show("SELECT id, note FROM orders ORDER BY total DESC NULLS LAST, note LIMIT 10 OFFSET $1"),
        "scatter: SELECT id, note, total FROM orders ORDER BY total DESC NULLS LAST, 2 LIMIT (10)::bigint + ($1)::bigint \
         | 3 | SELECT p1 AS id, p2 AS note FROM partial ORDER BY p3 DESC NULLS LAST, p2 OFFSET ($1) LIMIT (10)"
    );
    assert_eq!(
        show("SELECT DISTINCT note FROM orders ORDER BY 1"),
        "scatter: SELECT DISTINCT note FROM orders | 1 | SELECT DISTINCT p1 AS note FROM partial ORDER BY p1"
    );
    assert_eq!(
        show("SELECT customer, sum(total) FROM orders GROUP BY 1 ORDER BY sum(total) DESC LIMIT 3"),
        "scatter: SELECT customer, sum(total), sum(total) FROM orders GROUP BY 1 ORDER BY sum(total) DESC LIMIT (3) \
         | 3 | SELECT p1 AS customer, p2 AS sum FROM partial ORDER BY p3 DESC LIMIT (3)"
    );
    merged("SELECT * FROM orders LIMIT 5");
    merged("SELECT * FROM orders ORDER BY lower(note) COLLATE \"C\"");
    is_refused("SELECT * FROM orders JOIN items USING (customer) ORDER BY id");
    is_refused("SELECT * FROM orders ORDER BY id LIMIT 1 FOR UPDATE");
}

#[test]
fn aggregates_are_split() {
    assert_eq!(
        show("SELECT count(*), avg(total) FROM orders"),
        "scatter: SELECT count(*), sum(total), count(total) FROM orders | 3 | SELECT coalesce(sum(p1), 0)::bigint AS count, \
         (sum(p2) / nullif(sum(p3), 0)) AS avg FROM partial"
    );
    assert_eq!(
        show(
            "SELECT o.note AS n, 100 * sum(total) / sum(id) FROM orders o WHERE id > $1 GROUP BY note HAVING max(id) > $2 ORDER BY n"
        ),
        "scatter: SELECT note, sum(total), sum(id), max(id) FROM orders o WHERE id > $1 GROUP BY 1 | 4 | SELECT p1 AS n, \
         (100 * CAST(sum(p2) AS type)) / CAST(sum(p3) AS type) AS \"?column?\" FROM partial GROUP BY p1 \
         HAVING max(p4) > $2 ORDER BY 1"
    );
    let Plan::Scatter(scatter) = plan("SELECT count(*) FROM orders WHERE id > $1 HAVING count(*) > $2") else {
        panic!()
    };
    assert_eq!(scatter.shard.params, [1]);
    assert!(matches!(scatter.merge, Merge::Final { query, .. } if query.params == [2]));
    is_refused("SELECT count(*), (SELECT max(id) FROM nations) FROM orders");
}

#[test]
fn the_rest_runs_over_the_columns_it_needs() {
    assert_eq!(
        show(
            "SELECT n.name, count(DISTINCT o.note) FROM orders o JOIN nations n ON n.id = o.id GROUP BY ROLLUP (n.name) ORDER BY 2"
        ),
        "scatter: SELECT n.name, o.note FROM orders o JOIN nations n ON n.id = o.id | 2 | SELECT p1 AS name, \
         count(DISTINCT p2) AS count FROM partial GROUP BY ROLLUP (p1) ORDER BY 2"
    );
    for text in [
        "SELECT count(DISTINCT note) FROM orders",
        "SELECT string_agg(note, ',' ORDER BY id) FROM orders",
        "SELECT stddev(total), percentile_cont(0.5) WITHIN GROUP (ORDER BY total) FROM orders",
        "SELECT id, row_number() OVER (ORDER BY total) FROM orders",
        "SELECT DISTINCT ON (note) note, id FROM orders ORDER BY note, id DESC",
        "SELECT count(*) FILTER (WHERE total > 3), array_agg(id) FROM orders",
    ] {
        merged(text);
    }
}

#[test]
fn listed_keys_name_their_shards() {
    assert!(matches!(
        plan("SELECT * FROM orders WHERE customer IN (1, $1)"),
        Plan::Scatter(scatter) if matches!(&scatter.targets, Targets::Keys(keys) if keys.len() == 2)
    ));
    is_scatter("SELECT * FROM orders WHERE customer = ANY (ARRAY[1, 2])");
    assert!(matches!(
        plan("SELECT * FROM orders o WHERE customer IN (1, 2) OR id = 3"),
        Plan::Scatter(scatter) if scatter.targets == Targets::All
    ));
}

#[test]
fn what_shards_cannot_answer_alone_is_refused() {
    for text in [
        "SELECT * FROM orders o JOIN items i ON i.order_id = o.id",
        "SELECT * FROM orders o, items i",
        "SELECT * FROM orders, events",
        "SELECT * FROM nations n LEFT JOIN orders o ON n.id = o.id",
        "SELECT * FROM nations n FULL JOIN orders o ON n.id = o.id",
        "SELECT * FROM orders WHERE total > (SELECT avg(total) FROM orders)",
        "SELECT * FROM nations WHERE id IN (SELECT id FROM orders)",
        "SELECT * FROM orders WHERE customer NOT IN (SELECT customer FROM items)",
        "SELECT * FROM (SELECT * FROM orders LIMIT 5) x",
        "SELECT * FROM (SELECT count(*) FROM orders) x",
        "SELECT * FROM (SELECT DISTINCT note FROM orders) x",
        "SELECT note FROM orders UNION SELECT what FROM events",
        "SELECT note FROM orders UNION SELECT note FROM orders",
        "SELECT * FROM orders EXCEPT SELECT * FROM nations",
        "SELECT i.customer, count(*) FROM orders o FULL JOIN items i ON o.customer = i.customer GROUP BY i.customer, o.customer ORDER BY (SELECT 1)",
        "WITH x AS (DELETE FROM orders RETURNING *) SELECT * FROM x",
        "SELECT * FROM orders UNION ALL SELECT * FROM orders ORDER BY 1",
    ] {
        is_refused(text);
    }
}
