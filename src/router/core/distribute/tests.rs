//! A table with everything, from its facts to DDL and refusals. That PostgreSQL takes the DDL is proved
//! by the integration tests.

use super::*;

fn facts() -> Facts {
    Facts::read(
        r#"{"oid": 7, "schema": "public", "name": "ord", "quoted": "public.ord", "kind": "r", "persistence": "p",
        "owner": "u", "owner_is_me": true, "owned": true, "options": "fillfactor=70", "partition": false,
        "inherits": false, "row_security": false, "rules": false, "triggers": [], "distributed": null,
        "comment": "it's", "grants": [{"grantee": "PUBLIC", "privilege": "SELECT", "grantable": false}],
        "columns": [
            {"name": "id", "quoted": "id", "type": "bigint", "base_type": "bigint", "type_oid": 20, "type_kind": "b",
             "collation": null, "deterministic": true, "not_null": true,
             "default": "nextval('public.ord_id_seq'::regclass)", "generated": null, "identity": false,
             "comment": null, "sequence": {"quoted": "public.ord_id_seq", "type": "bigint", "increment": 1, "cache": 1}},
            {"name": "cid", "quoted": "cid", "type": "bigint", "base_type": "bigint", "type_oid": 20,
             "type_kind": "b", "collation": null, "deterministic": true, "not_null": true, "default": null,
             "generated": null, "identity": false, "comment": "c", "sequence": null}],
        "constraints": [
            {"name": "ord_cid_fkey", "kind": "f", "definition": "FOREIGN KEY (cid) REFERENCES public.cust(id)",
             "columns": ["cid"], "target": {"schema": "public", "name": "cust", "quoted": "public.cust", "oid": 6,
             "kind": "distributed", "colocation": 1, "key": "id", "columns": ["id"]}},
            {"name": "ord_pkey", "kind": "p", "definition": "PRIMARY KEY (cid, id)", "columns": ["cid", "id"],
             "target": null}],
        "referenced_by": [],
        "indexes": [{"name": "i", "unique": false, "definition": "CREATE INDEX i ON public.ord USING btree (id)",
                     "columns": ["id"]}]}"#,
    )
    .expect("well-formed")
}

fn distributed(buckets: &[u32]) -> Copies<'_> {
    Copies::Distributed { key: "cid", colocation: 1, bucket_count: 4, buckets }
}

#[test]
fn parents_and_leaves() {
    let ddl = ShardDdl::new(&facts(), distributed(&[1, 3]), 2).expect("nothing forbids it");
    assert_eq!(
        ddl.before[1..],
        [
            "CREATE SEQUENCE IF NOT EXISTS public.ord_id_seq AS bigint INCREMENT BY 1 MINVALUE 562949953421313 \
             MAXVALUE 844424930131967 START WITH 562949953421313 CACHE 1",
            "CREATE TABLE public.ord (id bigint NOT NULL DEFAULT nextval('public.ord_id_seq'::regclass), \
             cid bigint NOT NULL) PARTITION BY HASH (cid)",
            "ALTER SEQUENCE public.ord_id_seq OWNED BY public.ord.id",
            "CREATE TABLE public.ord_b01 PARTITION OF public.ord FOR VALUES WITH (MODULUS 4, REMAINDER 1) WITH (fillfactor=70)",
            "CREATE TABLE public.ord_b03 PARTITION OF public.ord FOR VALUES WITH (MODULUS 4, REMAINDER 3) WITH (fillfactor=70)",
        ]
    );
    assert_eq!(
        ddl.after,
        [
            "ALTER TABLE public.ord ADD CONSTRAINT ord_pkey PRIMARY KEY (cid, id)",
            "CREATE INDEX i ON public.ord USING btree (id)",
            "ALTER TABLE public.ord_b01 ADD CONSTRAINT ord_cid_fkey FOREIGN KEY (cid) REFERENCES public.cust_b01(id)",
            "ALTER TABLE public.ord_b03 ADD CONSTRAINT ord_cid_fkey FOREIGN KEY (cid) REFERENCES public.cust_b03(id)",
            "COMMENT ON TABLE public.ord IS 'it''s'",
            "COMMENT ON COLUMN public.ord.cid IS 'c'",
            "GRANT SELECT ON public.ord TO PUBLIC",
            "SELECT howdah.align_leaves('public.ord'::regclass)",
        ]
    );
}

#[test]
fn refusals_say_why() {
    let sqlstate = |column: &str, facts: &Facts| check_distribute(facts, column).map(|_| ()).map_err(|r| r.sqlstate);
    let mut table = facts();
    assert_eq!(sqlstate("cid", &table), Ok(()));
    assert_eq!(sqlstate("nothing", &table), Err("42703"));
    table.constraints[1].columns = Some(vec!["id".to_owned()]);
    assert_eq!(sqlstate("cid", &table), Err("0A000"));
    let mut table = facts();
    table.columns[1].type_oid = 99_999;
    assert_eq!(sqlstate("cid", &table), Err("0A000"));
    let mut table = facts();
    table.distributed = Some(facts::Known { kind: "distributed".to_owned(), colocation: 1, key: None });
    assert_eq!(sqlstate("cid", &table), Err("42P16"));
    let mut table = facts();
    table.constraints[0].target.as_mut().expect("a foreign key").colocation = Some(2);
    let refusal = ShardDdl::new(&table, distributed(&[1]), 2).expect_err("not colocated");
    assert!(refusal.message.contains("not colocated"));
    assert!(check_reference(&facts()).is_err());
}

#[test]
fn small_sequences_run_out_of_shards() {
    let mut table = facts();
    table.columns[0].base_type = "integer".to_owned();
    table.columns[0].sequence.as_mut().expect("serial").declared = "integer".to_owned();
    assert!(ShardDdl::new(&table, distributed(&[1]), 63).is_ok());
    assert!(ShardDdl::new(&table, distributed(&[1]), 64).is_err());
}
