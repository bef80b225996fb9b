//! INSERT: where rows go.

use super::{is_local, is_one_shard, is_refused, is_scatter, plan, show};
use crate::router::core::plan::{KeySource, Leaf, Plan};

#[test]
fn one_row_goes_to_its_leaf() {
    assert_eq!(
        show("INSERT INTO orders VALUES (5, 1, 'VALUES (', 2) RETURNING id"),
        "bucket: INSERT INTO public.orders_b07 AS orders VALUES (5, 1, 'VALUES (', 2) RETURNING id"
    );
    assert_eq!(
        show("INSERT INTO orders AS o (id, customer) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET note = o.note"),
        "$2: INSERT INTO public.orders_b07 AS o (id, customer) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET note = o.note"
    );
    assert_eq!(
        show("INSERT INTO orders (customer) VALUES (5) ON CONFLICT ON CONSTRAINT orders_pkey DO NOTHING"),
        "bucket: INSERT INTO orders (customer) VALUES (5) ON CONFLICT ON CONSTRAINT orders_pkey DO NOTHING"
    );
    is_one_shard("INSERT INTO orders SELECT 5, id FROM nations");
    is_one_shard("INSERT INTO orders SELECT customer, sum(order_id) FROM items WHERE customer = 5 GROUP BY customer");
    is_one_shard("INSERT INTO events (device) VALUES (7)");
}

#[test]
fn several_rows_are_split() {
    let text = "INSERT INTO orders (id, customer) VALUES (1, 5), /* ( */ ($2, $1), (3, '(,') ON CONFLICT DO NOTHING RETURNING $3::int";
    let Plan::InsertRows(rows) = plan(text) else { panic!("{:?}", plan(text)) };
    assert!(matches!(rows.rows[0].key, KeySource::Bucket(_)));
    assert!(matches!(rows.rows[1].key, KeySource::Param { index: 1, .. }));
    assert!(matches!(&rows.rows[2].key, KeySource::Ask { text, .. } if text == "(,"));
    let mut out = String::new();
    let params = rows.render(&[0, 2], None, &mut out);
    assert_eq!(
        out.replace("  ", " "),
        "INSERT INTO public.orders AS orders (id, customer) VALUES (1, 5), (3, '(,') ON CONFLICT DO NOTHING RETURNING $3::int"
    );
    assert_eq!(params, [3]);
    out.clear();
    let params = rows.render(&[1], Some(Leaf { bucket: 3, bucket_count: 32 }), &mut out);
    assert!(out.starts_with("INSERT INTO public.orders_b03 AS orders (id, customer) VALUES"), "{out}");
    assert_eq!(params, [1, 2, 3]);
}

#[test]
fn a_key_is_needed() {
    assert_eq!(
        show("INSERT INTO orders (id) VALUES (1)"),
        "23502: null value in column \"customer\" of relation \"orders\" violates not-null constraint"
    );
    for refused in [
        "INSERT INTO orders DEFAULT VALUES",
        "INSERT INTO orders VALUES (NULL, 1)",
        "INSERT INTO orders VALUES (5, 1), (DEFAULT, 2)",
        "INSERT INTO orders VALUES (1 + 1, 1)",
        "INSERT INTO orders VALUES (random(), 1)",
        "INSERT INTO orders (customer, nope) VALUES (1, 1)",
        "INSERT INTO orders VALUES (5.5, 1)",
        "INSERT INTO orders VALUES (5, (SELECT max(order_id) FROM items))",
        "INSERT INTO orders VALUES (5, (SELECT x FROM my_local))",
        "INSERT INTO orders VALUES (5) ON CONFLICT (customer) DO UPDATE SET customer = 6",
        "INSERT INTO my_local SELECT * FROM orders",
        "INSERT INTO nations SELECT id, note FROM orders",
        "INSERT INTO nations SELECT * FROM my_local",
        "INSERT INTO nations VALUES (1, gen_random_uuid()::text)",
        "INSERT INTO orders (customer, id) SELECT x, y FROM my_local RETURNING id",
    ] {
        is_refused(refused);
    }
}

#[test]
fn a_select_stays_where_it_is_or_passes_the_router() {
    is_scatter("INSERT INTO orders (customer, id) SELECT customer, order_id FROM items");
    is_scatter("INSERT INTO orders (customer, id) SELECT customer, count(*) FROM items GROUP BY 1");
    for through in [
        "INSERT INTO orders (customer, id) SELECT order_id, customer FROM items",
        "INSERT INTO orders (customer, id) SELECT x, y FROM my_local",
        "INSERT INTO orders SELECT g, g, 'x' FROM generate_series(1, 10) g",
        "INSERT INTO events (id, device) SELECT customer, note FROM orders",
    ] {
        assert!(matches!(plan(through), Plan::InsertSelect(_)), "{through}: {:?}", plan(through));
    }
    is_local("INSERT INTO my_local SELECT * FROM nations");
    assert!(matches!(plan("INSERT INTO nations VALUES (1, 'x')"), Plan::ReferenceWrite(_)));
    assert!(matches!(plan("INSERT INTO nations SELECT id + 100, name FROM nations"), Plan::ReferenceWrite(_)));
}
