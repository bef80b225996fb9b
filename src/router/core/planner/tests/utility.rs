//! What is not a query.

use super::{is_local, is_refused, plan};
use crate::router::core::plan::{
    ColocateWith, CopyFormat, DdlKind, Effect, Function, PinReason, Plan, TransactionModes,
};

fn effects(text: &str) -> Vec<Effect> {
    match plan(text) {
        Plan::Local(local) => local.effects,
        other => panic!("{text}: {other:?}"),
    }
}

fn set(name: &str, value: Option<&str>, local: bool) -> Vec<Effect> {
    vec![Effect::Set { name: name.to_owned(), value: value.map(str::to_owned), local }]
}

#[test]
fn sessions_change() {
    assert_eq!(effects("SET search_path TO a, \"B\""), set("search_path", Some("a, \"B\""), false));
    assert_eq!(effects("SET LOCAL Work_Mem = '64MB'"), set("work_mem", Some("'64MB'"), true));
    assert_eq!(effects("SET statement_timeout TO DEFAULT"), set("statement_timeout", None, false));
    assert_eq!(effects("SET TIME ZONE 'UTC'"), set("timezone", Some("'UTC'"), false));
    assert_eq!(effects("SET x.y TO on"), set("x.y", Some("on"), false));
    assert_eq!(effects("RESET ALL"), [Effect::ResetAll]);
    assert_eq!(effects("RESET work_mem"), [Effect::Reset { name: "work_mem".to_owned() }]);
    let modes =
        TransactionModes { isolation: Some("repeatable read".to_owned()), read_only: Some(true), deferrable: None };
    assert_eq!(effects("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"), [Effect::Begin(modes.clone())]);
    assert_eq!(
        effects("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"),
        [Effect::SetTransaction { session: false, modes }]
    );
    assert_eq!(effects("END AND CHAIN"), [Effect::Commit { chain: true }]);
    assert_eq!(effects("ABORT"), [Effect::Rollback { chain: false }]);
    assert_eq!(effects("SAVEPOINT a"), [Effect::Savepoint("a".to_owned())]);
    assert_eq!(effects("ROLLBACK TO a"), [Effect::RollbackTo("a".to_owned())]);
    assert_eq!(effects("RELEASE a"), [Effect::Release("a".to_owned())]);
    assert_eq!(effects("PREPARE TRANSACTION 'x'"), [Effect::TwoPhase]);
    assert_eq!(effects("PREPARE a AS SELECT 1"), [Effect::Prepare("a".to_owned())]);
    assert_eq!(
        effects("EXECUTE a(1, 'x' || 'y')"),
        [Effect::Execute { name: "a".to_owned(), arguments: vec!["1".to_owned(), "'x' || 'y'".to_owned()] }]
    );
    assert_eq!(effects("DEALLOCATE ALL"), [Effect::Deallocate(None)]);
    assert_eq!(effects("DISCARD ALL"), [Effect::Discard("all")]);
    assert_eq!(effects("LISTEN a"), [Effect::Listen("a".to_owned())]);
    assert_eq!(effects("UNLISTEN *"), [Effect::Unlisten(None)]);
    assert_eq!(effects("CREATE TEMP TABLE t (i int)"), [Effect::SchemaChange, Effect::Pin(PinReason::Temporary)]);
    assert_eq!(effects("SELECT pg_advisory_lock(1)"), [Effect::Pin(PinReason::AdvisoryLock)]);
    assert_eq!(effects("SELECT nextval('s')"), [Effect::Pin(PinReason::Sequence)]);
    assert_eq!(effects("DECLARE c CURSOR WITH HOLD FOR SELECT 1"), [Effect::Pin(PinReason::HoldCursor)]);
    assert_eq!(effects("COPY my_local FROM STDIN"), [Effect::CopyIn]);
    assert_eq!(effects("COPY nations TO STDOUT"), [Effect::CopyOut]);
    assert_eq!(plan("SHOW howdah.tier"), Plan::ShowTier);
}

#[test]
fn functions_of_ours_are_recognised() {
    let distribute = |text: &str| match plan(text) {
        Plan::Function(Function::Distribute { table, column, colocate_with, bucket_count }) => {
            (table, column, colocate_with, bucket_count)
        }
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(
        distribute("SELECT create_distributed_table('t', 'k')"),
        ("t".to_owned(), "k".to_owned(), ColocateWith::Default, None)
    );
    assert_eq!(
        distribute("select create_distributed_table('s.t'::regclass, 'k', colocate_with => 'u', shard_count := 16)"),
        ("s.t".to_owned(), "k".to_owned(), ColocateWith::Table("u".to_owned()), Some(16))
    );
    assert_eq!(distribute("SELECT create_distributed_table('t', 'k', 'hash', 'none')").2, ColocateWith::None);
    is_refused("SELECT create_distributed_table('t')");
    is_refused("SELECT create_distributed_table('t', 'k', 'range')");
    is_refused("SELECT create_distributed_table('t', 'k', shard_count => 0)");
    is_refused("SELECT create_distributed_table($1, 'k')");
    assert!(matches!(plan("SELECT create_reference_table('t')"), Plan::Function(Function::Reference { .. })));
    assert!(matches!(plan("SELECT undistribute_table('t')"), Plan::Function(Function::Undistribute { .. })));
    assert!(matches!(
        plan("SELECT get_shard_id_for_distribution_column('t', 5)"),
        Plan::Function(Function::ShardId { value: Some(_), .. })
    ));
    is_local("SELECT citus_add_node('h', 5432)");
}

#[test]
fn copies_are_understood() {
    let Plan::CopyIn(copy) =
        plan("COPY orders (id, customer) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER '|', NULL 'x')")
    else {
        panic!("no CopyIn")
    };
    assert_eq!(copy.key.map(|key| key.field), Some(1));
    assert!(matches!(copy.format, CopyFormat::Csv { delimiter: b'|', header: true, ref null, .. } if null == "x"));
    let Plan::CopyIn(copy) = plan("COPY orders FROM STDIN WITH CSV DELIMITER ';' QUOTE ''''") else {
        panic!("no CopyIn")
    };
    assert!(matches!(copy.format, CopyFormat::Csv { delimiter: b';', quote: b'\'', header: false, .. }));
    let Plan::CopyIn(copy) = plan("COPY nations FROM STDIN BINARY") else { panic!("no CopyIn") };
    assert_eq!((copy.key, copy.format), (None, CopyFormat::Binary));
    let Plan::CopyOut(copy) = plan("COPY orders TO STDOUT (FORMAT csv, HEADER true)") else { panic!("no CopyOut") };
    let mut text = String::new();
    copy.shard.render(None, &mut text);
    assert_eq!(text, "COPY (SELECT customer, id, note, total FROM public.orders) TO STDOUT (FORMAT csv, HEADER true)");
    assert!(copy.header);
    assert!(
        matches!(plan("COPY (SELECT id FROM orders WHERE customer = 5) TO STDOUT"), Plan::CopyOut(copy) if copy.key.is_some())
    );
    for refused in [
        "COPY orders FROM '/tmp/x'",
        "COPY orders FROM STDIN (ENCODING latin1)",
        "COPY orders (id) FROM STDIN",
        "COPY (SELECT count(*) FROM orders) TO STDOUT",
        "COPY orders FROM STDIN (ON_ERROR ignore)",
    ] {
        is_refused(refused);
    }
}

#[test]
fn ddl_runs_everywhere_or_not_at_all() {
    for (text, kind) in [
        ("DROP TABLE orders, nations", DdlKind::DropTables),
        ("TRUNCATE orders", DdlKind::Truncate),
        ("CREATE INDEX ON orders (note)", DdlKind::Everywhere),
        ("CREATE UNIQUE INDEX ON orders (customer, note)", DdlKind::Everywhere),
        ("DROP INDEX orders_pkey", DdlKind::Everywhere),
        ("ALTER TABLE orders ADD COLUMN x int DEFAULT 5 NOT NULL, DROP COLUMN note", DdlKind::Everywhere),
        ("ALTER TABLE orders RENAME COLUMN note TO remark", DdlKind::Everywhere),
        ("ALTER TABLE orders ADD FOREIGN KEY (id) REFERENCES nations", DdlKind::Everywhere),
        ("COMMENT ON COLUMN orders.note IS 'x'", DdlKind::Everywhere),
        ("GRANT SELECT ON orders TO someone", DdlKind::Everywhere),
        ("ANALYZE orders", DdlKind::Everywhere),
        ("CREATE SCHEMA s", DdlKind::Propagate),
        ("CREATE ROLE r", DdlKind::Propagate),
        ("CREATE EXTENSION IF NOT EXISTS pgcrypto", DdlKind::Propagate),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO someone", DdlKind::Propagate),
    ] {
        assert!(matches!(plan(text), Plan::Ddl(ddl) if ddl.kind == kind), "{text}: {:?}", plan(text));
    }
}

#[test]
fn ddl_that_is_not_right_everywhere_is_refused() {
    for refused in [
        "DROP TABLE orders, my_local",
        "DROP SCHEMA public CASCADE",
        "CREATE INDEX CONCURRENTLY ON orders (note)",
        "CREATE UNIQUE INDEX ON orders (note)",
        "ALTER TABLE orders DROP COLUMN customer",
        "ALTER TABLE orders ALTER COLUMN customer TYPE int",
        "ALTER TABLE orders ADD COLUMN s serial",
        "ALTER TABLE orders ADD COLUMN t timestamptz DEFAULT now()",
        "ALTER TABLE orders ADD PRIMARY KEY (id)",
        "ALTER TABLE orders SET SCHEMA other",
        "ALTER TABLE orders RENAME TO o",
        "ALTER TABLE my_local ADD FOREIGN KEY (id) REFERENCES orders",
        "CREATE TABLE x (id bigint REFERENCES orders)",
        "CREATE TABLE x () INHERITS (orders)",
        "CREATE TABLE x AS SELECT * FROM orders",
        "CREATE VIEW v AS SELECT * FROM orders",
        "CREATE TRIGGER t AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION f()",
        "LOCK TABLE orders",
        "VACUUM orders",
        "CLUSTER orders USING orders_pkey",
        "DECLARE c CURSOR FOR SELECT * FROM orders",
    ] {
        is_refused(refused);
    }
}

#[test]
fn ddl_of_local_tables_is_local() {
    for local in [
        "CREATE TABLE x (id bigint REFERENCES nations, orders text)",
        "CREATE TABLE x AS SELECT * FROM nations",
        "DROP TABLE my_local",
        "DROP VIEW v",
        "ALTER TABLE my_local ADD COLUMN orders int",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT count(*) FROM orders'",
        "DO $$ BEGIN PERFORM 1 FROM orders; END $$",
        "CREATE SEQUENCE s",
        "ALTER SEQUENCE s RESTART",
        "REFRESH MATERIALIZED VIEW v",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO x",
        "REASSIGN OWNED BY a TO b",
        "CREATE PUBLICATION p FOR TABLE my_local",
        "CREATE STATISTICS st ON a, b FROM my_local",
        "CREATE CAST (text AS int) WITH INOUT",
        "CREATE DATABASE d",
        "CHECKPOINT",
        "NOTIFY a, 'b'",
        "LOCK TABLE my_local",
        "REINDEX TABLE my_local",
        "CREATE POLICY p ON my_local USING (true)",
        "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c",
        "SECURITY LABEL ON TABLE my_local IS 'x'",
        "CREATE AGGREGATE a (int) (sfunc = f, stype = int)",
        "CREATE OPERATOR === (leftarg = int, rightarg = int, function = f)",
        "CREATE RULE r AS ON INSERT TO my_local DO NOTHING",
    ] {
        is_local(local);
    }
}

#[test]
fn statements_within_statements() {
    let Plan::Explain(explain) = plan("EXPLAIN (ANALYZE, COSTS off) SELECT * FROM orders WHERE customer = 5") else {
        panic!("no Explain")
    };
    assert_eq!((explain.options.as_str(), explain.analyze), ("(ANALYZE, COSTS off)", true));
    assert!(super::show_plan(&explain.inner).starts_with("bucket: SELECT * FROM public.orders_b07"));
    let Plan::Explain(explain) = plan("explain verbose select * from orders where customer = 5") else {
        panic!("no Explain")
    };
    assert_eq!((explain.options.as_str(), explain.analyze), ("verbose", false));
    is_local("EXPLAIN ANALYZE SELECT 1");
    let Plan::Prepare(prepare) = plan("PREPARE p (int, text) AS SELECT * FROM orders WHERE customer = $1") else {
        panic!("no Prepare")
    };
    assert_eq!(prepare.statement, "SELECT * FROM orders WHERE customer = $1");
    assert_eq!(prepare.types.len(), 2);
    assert!(super::show_plan(&prepare.inner).starts_with("$1: SELECT"));
}
