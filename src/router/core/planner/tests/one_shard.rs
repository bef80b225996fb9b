//! What is bound to one bucket, and what only looks so.

use super::{is_local, is_one_shard, is_refused, plan_with, show};
use crate::router::core::plan::{KeySource, Plan};

#[test]
fn the_leaf_takes_the_tables_place() {
    assert_eq!(
        show("SELECT * FROM orders WHERE customer = 5"),
        "bucket: SELECT * FROM public.orders_b07 AS orders WHERE customer = 5"
    );
    assert_eq!(
        show("select o.note from public . \"orders\" /* x */ o where o.customer=$1;"),
        "$1: select o.note from public.orders_b07 /* x */ o where o.customer=$1"
    );
    assert_eq!(
        show("UPDATE orders SET note = 'orders' WHERE customer = $2 AND id = $1"),
        "$2: UPDATE public.orders_b07 AS orders SET note = 'orders' WHERE customer = $2 AND id = $1"
    );
    assert_eq!(
        show("DELETE FROM orders USING items i WHERE orders.customer = i.customer AND i.customer = 3"),
        "bucket: DELETE FROM public.orders_b07 AS orders USING public.items_b07 i \
         WHERE orders.customer = i.customer AND i.customer = 3"
    );
    assert_eq!(
        show("SELECT public.orders.id FROM orders WHERE customer = 5"),
        "bucket: SELECT public.orders.id FROM orders WHERE customer = 5"
    );
    assert_eq!(
        show("SELECT 1 FROM events WHERE device = ' x'"),
        "bucket: SELECT 1 FROM public.events_b07 AS events WHERE device = ' x'"
    );
}

#[test]
fn joins_pass_the_key_on() {
    for bound in [
        "SELECT * FROM orders o JOIN items i USING (customer) WHERE o.customer = 5",
        "SELECT * FROM orders o JOIN items i USING (customer) WHERE customer = 5",
        "SELECT * FROM orders NATURAL JOIN items WHERE items.customer = 5",
        "SELECT * FROM orders o, items i WHERE o.customer = i.customer AND i.customer = 5",
        "SELECT * FROM orders o LEFT JOIN items i ON o.customer = i.customer WHERE o.customer = 5",
        "SELECT * FROM orders o LEFT JOIN items i ON o.customer = i.customer WHERE i.customer = 5",
        "SELECT * FROM orders o LEFT JOIN items i ON i.customer = 5 WHERE o.customer = 5",
        "SELECT * FROM orders o JOIN nations n ON n.id = o.id WHERE o.customer = 5",
        "SELECT * FROM nations n LEFT JOIN orders o ON o.id = n.id AND o.customer = 5",
        "SELECT * FROM orders o WHERE o.customer = 5 AND EXISTS (SELECT FROM items i WHERE i.customer = o.customer)",
        "SELECT * FROM orders o WHERE o.customer = 5 AND o.customer IN (SELECT customer FROM items)",
        "SELECT (SELECT max(price) FROM items i WHERE i.customer = o.customer) FROM orders o WHERE customer = 5",
        "SELECT * FROM (SELECT customer AS c, count(*) FROM orders GROUP BY customer) x WHERE c = 5",
        "SELECT * FROM (SELECT * FROM orders) x WHERE customer = 5",
        "SELECT * FROM (SELECT * FROM orders UNION SELECT * FROM orders) x WHERE customer = 5",
        "WITH o AS (SELECT * FROM orders WHERE customer = 5) SELECT * FROM o, o AS p",
        "WITH o AS (SELECT * FROM orders) SELECT * FROM o WHERE customer = 5",
        "WITH gone AS (DELETE FROM items WHERE customer = 5 RETURNING *) SELECT count(*) FROM gone",
        "WITH RECURSIVE t AS (SELECT id FROM orders WHERE customer = 5 UNION SELECT o.id FROM orders o, t WHERE o.customer = 5 AND o.id = t.id) SELECT * FROM t",
        "SELECT * FROM orders WHERE customer IN (5)",
        "SELECT * FROM orders WHERE (customer, id) = (5, 6)",
        "SELECT * FROM orders WHERE customer = '5'",
        "SELECT * FROM orders WHERE customer = 5::int FOR UPDATE OF orders",
        "SELECT count(*), sum(total) FROM orders WHERE customer = 5 LIMIT 3",
        "SELECT * FROM orders WHERE customer = 5 UNION ALL SELECT * FROM orders WHERE customer = 5",
        "SELECT o.* FROM orders o, LATERAL (SELECT * FROM items i WHERE i.customer = o.customer LIMIT 1) x WHERE o.customer = 5",
    ] {
        is_one_shard(bound);
    }
}

#[test]
fn what_is_not_bound_is_not_sent_to_one_shard() {
    for not_bound in [
        "SELECT * FROM orders o LEFT JOIN items i ON o.customer = i.customer AND i.customer = 5",
        "SELECT * FROM orders o LEFT JOIN items i ON o.customer = 5 AND i.customer = 5",
        "SELECT * FROM orders o FULL JOIN items i ON o.customer = i.customer AND o.customer = 5",
        "SELECT * FROM (SELECT o.customer AS c, i.customer AS ic FROM orders o LEFT JOIN items i \
         ON o.customer = i.customer AND i.customer = 7) x WHERE ic IS NULL",
        "SELECT * FROM orders WHERE customer = 5 OR id = 3",
        "SELECT * FROM orders WHERE NOT customer = 5",
        "SELECT * FROM orders WHERE customer = 5.0",
        "SELECT * FROM orders WHERE customer + 0 = 5",
        "SELECT * FROM (SELECT * FROM orders LIMIT 5) x WHERE customer = 5",
        "SELECT * FROM (SELECT customer, row_number() OVER () FROM orders) x WHERE customer = 5",
        "SELECT * FROM (SELECT max(customer) AS customer FROM orders) x WHERE customer = 5",
        "SELECT * FROM orders o, items i WHERE o.customer = 5 AND i.order_id = o.id",
        "SELECT * FROM orders o, items i WHERE o.customer = 5 AND i.customer = 6",
        "SELECT * FROM orders o, events e WHERE o.customer = 5 AND e.device = '5'",
        "SELECT * FROM orders o WHERE customer = 5 AND id IN (SELECT order_id FROM items)",
        "SELECT * FROM orders o WHERE customer = 5 AND customer NOT IN (SELECT customer FROM items)",
        "SELECT * FROM events WHERE device = $1::bigint",
        "WITH o AS (SELECT * FROM orders) SELECT * FROM o WHERE customer = 5 AND id = (SELECT max(id) FROM o)",
    ] {
        assert!(!matches!(super::plan(not_bound), Plan::OneShard(_)), "{not_bound}: {:?}", super::plan(not_bound));
    }
}

#[test]
fn parameters_bind_by_their_type() {
    let key = |text: &str, types: &[u32]| match plan_with(text, types, &["public"]) {
        Plan::OneShard(one) => Some(one.key),
        _ => None,
    };
    let by_key = "SELECT * FROM orders WHERE customer = $1";
    for types in [&[][..], &[0], &[20], &[23], &[21]] {
        assert!(matches!(key(by_key, types), Some(KeySource::Param { index: 1, .. })), "{types:?}");
    }
    for types in [&[1700][..], &[701], &[25]] {
        assert_eq!(key(by_key, types), None, "{types:?}");
    }
    assert!(key("SELECT * FROM orders WHERE customer = $1::int8", &[25]).is_some());
    assert_eq!(key("SELECT * FROM orders WHERE customer = $1::int8", &[1700]), None);
    // A bpchar compares without its trailing blanks, a text with them.
    assert_eq!(key("SELECT * FROM events WHERE device = $1", &[1042]), None);
}

#[test]
fn names_mean_what_the_search_path_says() {
    let query = "SELECT * FROM orders WHERE customer = 5";
    assert!(matches!(plan_with(query, &[], &["other", "public"]), Plan::Local(_)));
    assert!(matches!(plan_with(query, &[], &["public", "other"]), Plan::OneShard(_)));
    assert!(matches!(plan_with(query, &[], &["nowhere"]), Plan::Local(_)));
    is_local("SELECT * FROM other.orders");
    is_local("WITH orders AS (SELECT 1 AS customer) SELECT * FROM orders");
    is_local("SELECT * FROM pg_class");
    is_local("SELECT * FROM nations");
    is_local("SELECT * FROM nations, my_local WHERE id = 3");
    is_local("SELEC 1");
}

#[test]
fn what_shards_cannot_do_is_refused() {
    for refused in [
        "SELECT * FROM orders, my_local WHERE customer = 5",
        "SELECT my_function(id) FROM orders WHERE customer = 5",
        "SELECT public.lower(note) FROM orders WHERE customer = 5",
        "SELECT nextval('s') FROM orders WHERE customer = 5",
        "SELECT pg_backend_pid() FROM orders WHERE customer = 5",
        "SELECT ctid FROM orders WHERE customer = 5",
        "SELECT 'orders'::regclass FROM orders WHERE customer = 5",
        "SELECT * FROM ONLY orders WHERE customer = 5",
        "SELECT * FROM orders TABLESAMPLE system (10) WHERE customer = 5",
        "SELECT * INTO copy FROM orders WHERE customer = 5",
        "UPDATE orders SET customer = 6 WHERE customer = 5",
        "WITH x AS (UPDATE orders SET customer = 6 WHERE customer = 5 RETURNING 1) SELECT 1",
        "UPDATE orders SET note = 'x' WHERE CURRENT OF c",
        "UPDATE orders SET note = m.x FROM my_local m WHERE customer = 5",
        "WITH x AS (UPDATE nations SET name = 'x' RETURNING 1) SELECT 1",
        "UPDATE nations SET name = o.note FROM orders o WHERE o.customer = 5",
        "UPDATE nations SET name = now()::text",
        "UPDATE my_local SET x = 1 FROM orders WHERE customer = 5",
        "MERGE INTO orders USING nations n ON customer = n.id WHEN MATCHED THEN DELETE",
        "UPDATE orders SET note = i.price FROM items i WHERE i.order_id = orders.id",
        "WITH RECURSIVE t AS (SELECT id FROM orders UNION ALL SELECT o.id FROM orders o JOIN t ON o.id = t.id) SELECT * FROM t",
    ] {
        is_refused(refused);
    }
}
