-- The query group: which tables are distributed, and the guard of their shells. Run as superuser in
-- the policy's database after common.sql; may run any number of times.

-- Distributed and reference tables. By OID and column number, so that renames need nothing here.
CREATE TABLE IF NOT EXISTS howdah.tables (
    relation regclass PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('distributed', 'reference')),
    key_attnum smallint,
    colocation integer NOT NULL,
    CHECK ((kind = 'distributed') = (key_attnum IS NOT NULL))
);
GRANT SELECT ON howdah.tables TO PUBLIC;

-- Copies of the coordinator's placement for people to read; routers work by the topology.
CREATE TABLE IF NOT EXISTS howdah.placement (
    colocation integer NOT NULL,
    bucket integer NOT NULL,
    shard text NOT NULL,
    PRIMARY KEY (colocation, bucket)
);
GRANT SELECT ON howdah.placement TO PUBLIC;

-- Likewise for the primaries of the groups; number 0 is the query group. A shard is ready once it has
-- what is propagated: roles, schemas, extensions, types, functions, reference tables.
CREATE TABLE IF NOT EXISTS howdah.node (
    name text PRIMARY KEY,
    number integer NOT NULL,
    host text NOT NULL,
    port integer NOT NULL,
    ready boolean NOT NULL DEFAULT false
);
GRANT SELECT ON howdah.node TO PUBLIC;

-- Counts changes of the catalog; the row's lock makes them one after the other.
CREATE TABLE IF NOT EXISTS howdah.version (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    number bigint NOT NULL
);
INSERT INTO howdah.version (number) VALUES (1) ON CONFLICT DO NOTHING;
GRANT SELECT ON howdah.version TO PUBLIC;

-- What routers load: names as they are now.
CREATE OR REPLACE VIEW howdah.catalog AS
SELECT t.relation::oid AS relation,
       n.nspname AS schema,
       c.relname AS name,
       t.kind,
       a.attname AS key_column,
       a.attnum AS key_attnum,
       format_type(a.atttypid, NULL) AS key_type,
       t.colocation
  FROM howdah.tables t
  JOIN pg_class c ON c.oid = t.relation
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.key_attnum;
GRANT SELECT ON howdah.catalog TO PUBLIC;

-- The leaf of a bucket: what routers call it (`leaf_name` in the router's catalog, byte for byte).
CREATE OR REPLACE FUNCTION howdah.leaf_table(name text, bucket integer, buckets integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN octet_length(name || suffix) <= 63 THEN name || suffix
                ELSE (SELECT left(name, max(chars)) FROM generate_series(1, char_length(name)) chars
                       WHERE octet_length(left(name, chars)) <= 63 - octet_length(hash || suffix)) || hash || suffix
           END
      FROM (SELECT '_b' || lpad(bucket::text, greatest(2, length((greatest(buckets, 1) - 1)::text)), '0') AS suffix,
                   '_' || lpad(to_hex(hashtextextended(name COLLATE "C", 0) & 4294967295), 8, '0') AS hash) parts
$$;

-- The guard. A foreign table on a wrapper without a handler makes every plan over its parent fail
-- (55000), while Parse and Describe still work.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_foreign_data_wrapper WHERE fdwname = 'howdah_guard') THEN
        CREATE FOREIGN DATA WRAPPER howdah_guard;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_foreign_server WHERE srvname = 'howdah_guard') THEN
        CREATE SERVER howdah_guard FOREIGN DATA WRAPPER howdah_guard;
    END IF;
END $$;

-- Writes that make no plan over the shell's children: INSERT and COPY FROM, TRUNCATE ONLY.
CREATE OR REPLACE FUNCTION howdah.refuse_write() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'howdah_guard: the rows of table "%" live on the shards', TG_TABLE_NAME
        USING ERRCODE = 'object_not_in_prerequisite_state',
              HINT = 'Connect through a Howdah router.';
END $$;

-- Writes to the query group's copy of a reference table alone: by a router with an old catalog, or from
-- inside a function.
CREATE OR REPLACE FUNCTION howdah.refuse_lone_write() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('howdah.writes_every_copy', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'howdah_guard: reference table "%" must be written on every copy', TG_TABLE_NAME
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Write it by a statement of its own through a Howdah router.';
    END IF;
    RETURN NULL;
END $$;

-- For statements that use a table by name only, and that neither plans nor triggers notice: routers ask
-- before they run one that they take for local. The name is resolved by the caller's search_path.
CREATE OR REPLACE FUNCTION howdah.refuse_shell(name text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM howdah.tables t
                WHERE t.relation OPERATOR(pg_catalog.=) pg_catalog.to_regclass(refuse_shell.name)) THEN
        RAISE EXCEPTION 'howdah_guard: table "%" is distributed, or a reference table', name
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Connect through a Howdah router.';
    END IF;
END $$;

-- DDL on a shell alone: by a router with an old catalog, or from inside a function. Routers say that a
-- statement runs on every group; what they do not know to be distributed they send as it is.
CREATE OR REPLACE FUNCTION howdah.refuse_lone_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    found text;
BEGIN
    IF current_setting('howdah.runs_everywhere', true) IS NOT DISTINCT FROM 'on' THEN
        RETURN;
    END IF;
    IF TG_EVENT = 'sql_drop' THEN
        SELECT d.object_identity INTO found
          FROM pg_event_trigger_dropped_objects() d
          JOIN howdah.tables t ON t.relation::oid = d.objid
         WHERE d.classid = 'pg_class'::regclass
         LIMIT 1;
    ELSE
        SELECT c.object_identity INTO found
          FROM pg_event_trigger_ddl_commands() c
          LEFT JOIN pg_index x ON c.classid = 'pg_class'::regclass AND x.indexrelid = c.objid
          LEFT JOIN pg_trigger g ON c.classid = 'pg_trigger'::regclass AND g.oid = c.objid
          LEFT JOIN pg_policy p ON c.classid = 'pg_policy'::regclass AND p.oid = c.objid
          LEFT JOIN pg_rewrite r ON c.classid = 'pg_rewrite'::regclass AND r.oid = c.objid
          JOIN howdah.tables t
            ON t.relation::oid = coalesce(x.indrelid, g.tgrelid, p.polrelid, r.ev_class,
                                          CASE WHEN c.classid = 'pg_class'::regclass THEN c.objid END)
         LIMIT 1;
    END IF;
    IF found IS NOT NULL THEN
        RAISE EXCEPTION 'howdah_guard: "%" belongs to a distributed or reference table', found
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'Change it by a statement of its own through a Howdah router.';
    END IF;
END $$;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'howdah_guard_changes') THEN
        CREATE EVENT TRIGGER howdah_guard_changes ON ddl_command_end EXECUTE FUNCTION howdah.refuse_lone_ddl();
    END IF;
    IF NOT EXISTS (SELECT FROM pg_event_trigger WHERE evtname = 'howdah_guard_drops') THEN
        CREATE EVENT TRIGGER howdah_guard_drops ON sql_drop EXECUTE FUNCTION howdah.refuse_lone_ddl();
    END IF;
END $$;

-- Every change of the catalog ends with this; routers listen.
CREATE OR REPLACE FUNCTION howdah.changed() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
DECLARE
    v bigint;
BEGIN
    UPDATE howdah.version SET number = number + 1 RETURNING number INTO v;
    PERFORM pg_notify('howdah_catalog', v::text);
    RETURN v;
END $$;

-- Refuses unless the caller owns the table, as ALTER TABLE would.
CREATE OR REPLACE FUNCTION howdah.check_owner(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_class c
                    WHERE c.oid = relation AND pg_has_role(session_user, c.relowner, 'USAGE')) THEN
        RAISE EXCEPTION 'must be owner of table %', relation USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- Makes the table distributed (its rows must be gone) or a reference table, in the catalog.
CREATE OR REPLACE FUNCTION howdah.enter_table(
    relation regclass, kind text, key_column name, colocation integer, shards text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET howdah.runs_everywhere = on AS $$
BEGIN
    PERFORM howdah.check_owner(relation);
    INSERT INTO howdah.tables
    SELECT enter_table.relation, enter_table.kind,
           (SELECT attnum FROM pg_attribute a
             WHERE a.attrelid = enter_table.relation AND a.attname = key_column AND NOT attisdropped),
           enter_table.colocation;
    INSERT INTO howdah.placement
    SELECT enter_table.colocation, place.number - 1, place.shard
      FROM unnest(shards) WITH ORDINALITY AS place (shard, number)
    ON CONFLICT ON CONSTRAINT placement_pkey DO UPDATE SET shard = EXCLUDED.shard;
    IF kind = 'distributed' THEN
        EXECUTE format('CREATE FOREIGN TABLE howdah.%I () INHERITS (%s) SERVER howdah_guard',
                       'guard_' || relation::oid, relation);
        EXECUTE format('ALTER FOREIGN TABLE howdah.%I OWNER TO %s', 'guard_' || relation::oid,
                       (SELECT relowner::regrole FROM pg_class WHERE oid = relation));
        -- There is nothing to analyze, and the guard would not let it.
        EXECUTE format('ALTER TABLE %s SET (autovacuum_enabled = false)', relation);
        EXECUTE format('CREATE TRIGGER howdah_guard BEFORE INSERT OR TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION howdah.refuse_write()', relation);
    ELSE
        EXECUTE format('CREATE TRIGGER howdah_guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s
                        FOR EACH STATEMENT EXECUTE FUNCTION howdah.refuse_lone_write()', relation);
    END IF;
    PERFORM howdah.changed();
END $$;

-- Takes the table out of the catalog: before it is dropped, or its rows come back.
CREATE OR REPLACE FUNCTION howdah.forget_table(relation regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET howdah.runs_everywhere = on AS $$
DECLARE
    was text;
BEGIN
    PERFORM howdah.check_owner(relation);
    DELETE FROM howdah.tables t WHERE t.relation = forget_table.relation RETURNING t.kind INTO was;
    IF was = 'distributed' THEN
        EXECUTE format('DROP FOREIGN TABLE howdah.%I', 'guard_' || relation::oid);
        EXECUTE format('ALTER TABLE %s RESET (autovacuum_enabled)', relation);
    END IF;
    IF was IS NOT NULL THEN
        EXECUTE format('DROP TRIGGER howdah_guard ON %s', relation);
    END IF;
    PERFORM howdah.changed();
END $$;

-- Removes the rows of a shell-to-be that other tables reference: their foreign keys are checked on the
-- shards once they are distributed too.
CREATE OR REPLACE FUNCTION howdah.empty_table(relation regclass) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog SET session_replication_role = replica AS $$
BEGIN
    PERFORM howdah.check_owner(relation);
    EXECUTE format('DELETE FROM ONLY %s', relation);
END $$;
