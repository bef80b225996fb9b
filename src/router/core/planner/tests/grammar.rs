//! Every corner of the grammar is read without a panic, and nothing over a distributed table is taken
//! for local.

use super::plan;
use crate::router::core::plan::Plan;

/// Statements with distributed tables.
const OURS: &[&str] = &[
    "TABLE orders",
    "VALUES (1, (SELECT count(*) FROM orders))",
    "SELECT JSON_OBJECT('a' VALUE id), JSON_ARRAY(1, 2), note IS JSON FROM orders",
    "SELECT JSON_ARRAYAGG(id ORDER BY id), JSON_OBJECTAGG(note : id) FROM orders",
    "SELECT * FROM orders, JSON_TABLE(note::jsonb, '$[*]' COLUMNS (x int PATH '$.x', NESTED PATH '$.y' COLUMNS (z int))) j",
    "SELECT * FROM orders, XMLTABLE('/a' PASSING (note::xml) COLUMNS x int PATH 'x', n FOR ORDINALITY) x",
    "SELECT xmlelement(name a, xmlattributes(id), note), xmlforest(id), xmlparse(content note), xmlserialize(content note::xml AS text) FROM orders",
    "SELECT * FROM orders, ROWS FROM (generate_series(1, 2), unnest(ARRAY[1, 2])) WITH ORDINALITY AS r (a, b, c)",
    "SELECT * FROM orders GROUP BY GROUPING SETS ((customer), CUBE (id, note), ())",
    "SELECT (note::text[])[1:2], (ROW(1, 2)).f1, orders.*::text, ARRAY[[1], [2]] FROM orders",
    "SELECT extract(year FROM now()), substring(note FROM 1 FOR 2), position('a' IN note), overlay(note PLACING 'x' FROM 1), trim(BOTH FROM note), note AT TIME ZONE 'UTC', (now(), now()) OVERLAPS (now(), now()) FROM orders",
    "SELECT note SIMILAR TO 'a', id BETWEEN SYMMETRIC 1 AND 2, id IS DISTINCT FROM 3, id IS NOT NULL, (id > 1) IS UNKNOWN, nullif(id, 1), greatest(id, 2), coalesce(id, 3) FROM orders",
    "SELECT id OPERATOR(pg_catalog.=) 3, id = ALL (ARRAY[1]), id = ANY ($1), id > ALL (SELECT order_id FROM items) FROM orders",
    "SELECT sum(id) OVER w, lag(id) OVER (w ORDER BY id ROWS 1 PRECEDING EXCLUDE TIES) FROM orders WINDOW w AS (PARTITION BY customer)",
    "WITH RECURSIVE t (n) AS (SELECT id FROM orders UNION ALL SELECT n + 1 FROM t) SEARCH DEPTH FIRST BY n SET o CYCLE n SET c USING p SELECT * FROM t",
    "INSERT INTO orders OVERRIDING USER VALUE VALUES (1) ON CONFLICT (customer) WHERE id > 1 DO UPDATE SET (id, note) = (SELECT 1, 'x') WHERE orders.id > excluded.id RETURNING *",
    "INSERT INTO orders (customer, note) VALUES (1, U&'d\\0061'), (2, $q$ ( $q$), (3, E'\\'('), (4, B'1'::text)",
    "UPDATE orders o SET (id, note) = ROW(1, 'x') FROM (VALUES (1)) v (x) WHERE o.customer = v.x RETURNING o.*",
    "UPDATE orders SET note[1] = 'x'",
    "DELETE FROM orders USING nations n, LATERAL (SELECT 1) x RETURNING *, n.*",
    "MERGE INTO orders o USING items i ON o.customer = i.customer WHEN MATCHED AND o.id > 1 THEN UPDATE SET note = 'x' WHEN NOT MATCHED THEN INSERT VALUES (1) RETURNING merge_action()",
    "SELECT * FROM orders o JOIN (items i JOIN nations n ON i.nation = n.id) AS j ON true",
    "SELECT * FROM (orders CROSS JOIN nations)",
    "(SELECT * FROM orders ORDER BY 1 LIMIT 1) UNION ALL (SELECT * FROM orders LIMIT 1) LIMIT 1",
    "SELECT current_date, current_user, localtime, current_timestamp(3), session_user FROM orders",
    "SELECT * FROM orders ORDER BY id FETCH FIRST 3 ROWS WITH TIES",
    "SELECT * FROM orders ORDER BY id USING <",
    "SELECT note COLLATE \"C\", $1::text[], '{1}'::int[], interval '1' day, DATE '2020-01-01', 1.5e10, x'1f' FROM orders",
    "SELECT DISTINCT ON (customer, id + 1) * FROM orders ORDER BY customer, id + 1",
    "SELECT FROM orders",
    "SELECT count(*) FROM orders GROUP BY DISTINCT ROLLUP (id), ROLLUP (note)",
    "SELECT * FROM orders AS o (a, b) WHERE a = 1",
    "EXPLAIN (FORMAT json) DELETE FROM orders",
    "PREPARE p AS INSERT INTO orders VALUES ($1, $2), ($3, $4)",
    "COPY (SELECT * FROM orders WHERE customer = 1) TO STDOUT CSV HEADER",
    "COPY orders (customer, id) FROM STDIN WITH (FORMAT 'text', DELIMITER E'\\t', NULL '')",
];

/// Statements without.
const LOCAL: &[&str] = &[
    "",
    ";",
    "-- nothing",
    "SELECT",
    "SELECT 'orders'",
    "SELECT * FROM a.b.c",
    "SELECT * FROM orders.orders",
    "GRANT ALL ON SCHEMA public TO x",
    "GRANT EXECUTE ON FUNCTION f(int) TO x",
    "REVOKE ALL ON DATABASE d FROM x",
    "GRANT USAGE ON SEQUENCE s TO x",
    "COMMENT ON FUNCTION f(int) IS 'x'",
    "COMMENT ON TYPE t IS 'x'",
    "COMMENT ON CONSTRAINT c ON my_local IS 'x'",
    "COMMENT ON DATABASE d IS 'x'",
    "DROP FUNCTION f(int)",
    "DROP OPERATOR === (int, int)",
    "DROP CAST (int AS text)",
    "DROP TRIGGER t ON my_local",
    "DROP INDEX CONCURRENTLY i",
    "DROP SCHEMA IF EXISTS a, b CASCADE",
    "ALTER TABLE my_local ENABLE ROW LEVEL SECURITY",
    "ALTER INDEX i SET (fillfactor = 70)",
    "ALTER VIEW v RENAME TO w",
    "ALTER TABLE my_local RENAME CONSTRAINT a TO b",
    "ALTER ROLE x RENAME TO y",
    "ALTER TYPE t RENAME VALUE 'a' TO 'b'",
    "ALTER TABLE my_local ATTACH PARTITION p FOR VALUES IN (1)",
    "CREATE TABLE p PARTITION OF my_local FOR VALUES FROM (1) TO (2)",
    "CREATE TABLE l (LIKE my_local INCLUDING ALL)",
    "CREATE UNLOGGED TABLE IF NOT EXISTS u (i int GENERATED ALWAYS AS IDENTITY, CHECK (i > 0), EXCLUDE USING gist (i WITH =))",
    "CREATE TEMP VIEW v AS SELECT 1",
    "CREATE RECURSIVE VIEW r (n) AS SELECT 1",
    "CREATE MATERIALIZED VIEW m AS SELECT 1",
    "CREATE INDEX i ON my_local USING gin (a) INCLUDE (b) WHERE c",
    "CREATE TYPE t AS (a int)",
    "CREATE TYPE e AS ENUM ('a')",
    "CREATE TYPE r AS RANGE (subtype = int)",
    "CREATE DOMAIN d AS int CHECK (value > 0)",
    "CREATE PROCEDURE p() BEGIN ATOMIC SELECT 1; END",
    "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION f()",
    "CREATE SERVER s FOREIGN DATA WRAPPER w",
    "CREATE USER MAPPING FOR x SERVER s",
    "CREATE FOREIGN TABLE f (i int) SERVER s",
    "CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p",
    "CREATE TEXT SEARCH CONFIGURATION c (copy = simple)",
    "CREATE SCHEMA s CREATE TABLE t (i int)",
    "ALTER SYSTEM SET a = 1",
    "SET SESSION AUTHORIZATION x",
    "SET ROLE NONE",
    "SET NAMES 'UTF8'",
    "SET TIME ZONE INTERVAL '-08:00' HOUR TO MINUTE",
    "SET TIME ZONE -7",
    "SET CONSTRAINTS ALL DEFERRED",
    "SET search_path FROM CURRENT",
    "SHOW ALL",
    "SHOW TIME ZONE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, DEFERRABLE",
    "SET TRANSACTION SNAPSHOT 'x'",
    "START TRANSACTION READ WRITE",
    "COMMIT PREPARED 'x'",
    "FETCH 3 FROM c",
    "MOVE ALL IN c",
    "CLOSE ALL",
    "CALL p(1)",
    "EXPLAIN CREATE TABLE x AS SELECT 1",
    "EXPLAIN EXECUTE p",
    "CREATE TABLE x AS EXECUTE p",
    "COPY my_local FROM PROGRAM 'x'",
    "COPY (DELETE FROM my_local RETURNING *) TO STDOUT",
    "VACUUM (FULL) my_local",
    "ANALYZE my_local (a)",
    "CLUSTER",
    "REINDEX DATABASE d",
    "LOAD 'x'",
    "DISCARD TEMP",
    "SECURITY LABEL ON ROLE x IS NULL",
    "SELECT set_config('a', 'b', false)",
    "SELECT lo_import('x')",
    "SELECT * FROM my_local FOR UPDATE SKIP LOCKED",
    "INSERT INTO my_local DEFAULT VALUES RETURNING 1",
    "SELECT 1 INTO TEMP x",
    "IMPORT FOREIGN SCHEMA a FROM SERVER s INTO b",
    "DROP OWNED BY x",
    "ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b",
    "ALTER DATABASE d SET a = 1",
    "DROP TABLE a, b, c.d",
];

#[test]
fn corners_of_the_grammar() {
    for text in OURS {
        assert!(!matches!(plan(text), Plan::Local(_)), "{text}: {:?}", plan(text));
    }
}

#[test]
fn corners_of_local_grammar() {
    for text in LOCAL {
        let catalog = super::catalog();
        let input = super::Input {
            catalog: &catalog,
            search_path: &["public".to_owned()],
            temporary: &std::collections::BTreeSet::new(),
            param_types: &[],
            standard_conforming_strings: true,
        };
        for planned in super::plan_text(&input, text) {
            assert!(!matches!(planned.plan, Plan::Refuse(_)), "{text}: {:?}", planned.plan);
        }
    }
}
