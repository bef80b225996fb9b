-- The query group: what Citus's users and tools look for, under the names they know, in pg_catalog as
-- Citus does, so that no search_path hides it and no dump contains it. Run as superuser after
-- query.sql; may run any number of times.

SET allow_system_table_mods = on;

CREATE OR REPLACE VIEW pg_catalog.citus_tables AS
SELECT t.relation AS table_name,
       t.kind AS citus_table_type,
       coalesce(a.attname::text, '<none>') AS distribution_column,
       t.colocation AS colocation_id,
       NULL::text AS table_size,
       CASE t.kind WHEN 'reference' THEN 1
            ELSE (SELECT count(*) FROM howdah.placement p WHERE p.colocation = t.colocation)
       END AS shard_count,
       pg_get_userbyid(c.relowner) AS table_owner,
       am.amname AS access_method
  FROM howdah.tables t
  JOIN pg_class c ON c.oid = t.relation
  LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.key_attnum
  LEFT JOIN pg_am am ON am.oid = c.relam;
GRANT SELECT ON pg_catalog.citus_tables TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.pg_dist_partition AS
SELECT t.relation AS logicalrelid,
       CASE t.kind WHEN 'distributed' THEN 'h' ELSE 'n' END::"char" AS partmethod,
       a.attname::text AS partkey,
       t.colocation AS colocationid,
       CASE t.kind WHEN 'distributed' THEN 's' ELSE 't' END::"char" AS repmodel,
       false AS autoconverted
  FROM howdah.tables t
  LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.key_attnum;
GRANT SELECT ON pg_catalog.pg_dist_partition TO PUBLIC;

-- A bucket of a table is what Citus calls a shard. The number is the table's OID and the bucket's.
CREATE OR REPLACE VIEW pg_catalog.pg_dist_shard AS
SELECT t.relation AS logicalrelid,
       t.relation::oid::bigint * 2048 + coalesce(p.bucket, 0) AS shardid,
       't'::"char" AS shardstorage,
       p.bucket::text AS shardminvalue,
       p.bucket::text AS shardmaxvalue
  FROM howdah.tables t
  LEFT JOIN howdah.placement p ON t.kind = 'distributed' AND p.colocation = t.colocation;
GRANT SELECT ON pg_catalog.pg_dist_shard TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.pg_dist_node AS
SELECT n.number AS nodeid,
       n.number AS groupid,
       n.host AS nodename,
       n.port AS nodeport,
       'default'::text AS noderack,
       true AS hasmetadata,
       true AS isactive,
       'primary'::text AS noderole,
       'default'::name AS nodecluster,
       true AS metadatasynced,
       n.number <> 0 AS shouldhaveshards
  FROM howdah.node n;
GRANT SELECT ON pg_catalog.pg_dist_node TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.citus_nodes AS
SELECT n.host AS nodename,
       n.port AS nodeport,
       CASE n.number WHEN 0 THEN 'coordinator' ELSE 'worker' END AS role,
       true AS active
  FROM howdah.node n;
GRANT SELECT ON pg_catalog.citus_nodes TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.pg_dist_placement AS
SELECT t.relation::oid::bigint * 2048 + coalesce(p.bucket, 0) AS placementid,
       t.relation::oid::bigint * 2048 + coalesce(p.bucket, 0) AS shardid,
       1 AS shardstate,
       0::bigint AS shardlength,
       n.number AS groupid
  FROM howdah.tables t
  LEFT JOIN howdah.placement p ON t.kind = 'distributed' AND p.colocation = t.colocation
  JOIN howdah.node n ON t.kind = 'reference' OR n.name = p.shard;
GRANT SELECT ON pg_catalog.pg_dist_placement TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.pg_dist_colocation AS
SELECT t.colocation AS colocationid,
       CASE t.kind WHEN 'reference' THEN 1
            ELSE (SELECT count(*) FROM howdah.placement p WHERE p.colocation = t.colocation)
       END::integer AS shardcount,
       CASE t.kind WHEN 'reference' THEN -1 ELSE 1 END AS replicationfactor,
       coalesce(max(a.atttypid), 0) AS distributioncolumntype,
       coalesce(max(a.attcollation), 0) AS distributioncolumncollation
  FROM howdah.tables t
  LEFT JOIN pg_attribute a ON a.attrelid = t.relation AND a.attnum = t.key_attnum
 GROUP BY t.colocation, t.kind;
GRANT SELECT ON pg_catalog.pg_dist_colocation TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.citus_shards AS
SELECT s.logicalrelid AS table_name,
       s.shardid,
       CASE t.kind
            WHEN 'distributed' THEN
                -- Qualified where Citus qualifies it: outside of public and pg_catalog.
                CASE WHEN l.nspname IN ('public', 'pg_catalog') THEN '' ELSE quote_ident(l.nspname) || '.' END
                || quote_ident(howdah.leaf_table(l.relname::text, s.shardminvalue::integer, l.buckets))
            ELSE s.logicalrelid::text
       END AS shard_name,
       CASE t.kind WHEN 'distributed' THEN 'distributed' ELSE 'reference' END AS citus_table_type,
       t.colocation AS colocation_id,
       n.host AS nodename,
       n.port AS nodeport,
       NULL::bigint AS shard_size
  FROM pg_catalog.pg_dist_shard s
  JOIN howdah.tables t ON t.relation = s.logicalrelid
  CROSS JOIN LATERAL (
       SELECT c.relname, ns.nspname,
              (SELECT count(*)::integer FROM howdah.placement b WHERE b.colocation = t.colocation) AS buckets
         FROM pg_class c JOIN pg_namespace ns ON ns.oid = c.relnamespace
        WHERE c.oid = t.relation) l
  LEFT JOIN pg_catalog.pg_dist_placement p ON p.shardid = s.shardid
  LEFT JOIN howdah.node n ON n.number = p.groupid;
GRANT SELECT ON pg_catalog.citus_shards TO PUBLIC;

CREATE OR REPLACE VIEW pg_catalog.citus_schemas AS
SELECT NULL::regnamespace AS schema_name, NULL::integer AS colocation_id,
       NULL::text AS schema_size, NULL::name AS schema_owner
 WHERE false;
GRANT SELECT ON pg_catalog.citus_schemas TO PUBLIC;

RESET allow_system_table_mods;

-- The verbs. Routers answer them; whoever reaches one of these bodies is connected to PostgreSQL.
CREATE OR REPLACE FUNCTION howdah.router_only(verb text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%() works through a Howdah router only', verb
        USING ERRCODE = 'feature_not_supported',
              HINT = 'Connect to a router, and call it as a statement of its own: SELECT ' || verb || '(...).';
END $$;

CREATE OR REPLACE FUNCTION howdah.joins_by_itself(verb text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '%() is not needed: containers join the cluster by themselves', verb
        USING ERRCODE = 'feature_not_supported', HINT = 'Use "howdah shard add" to add a shard.';
END $$;

CREATE OR REPLACE FUNCTION pg_catalog.create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count integer DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$ SELECT howdah.router_only('create_distributed_table') $$;

CREATE OR REPLACE FUNCTION pg_catalog.create_reference_table(table_name regclass)
RETURNS void LANGUAGE sql AS $$ SELECT howdah.router_only('create_reference_table') $$;

CREATE OR REPLACE FUNCTION pg_catalog.undistribute_table(
    table_name regclass, cascade_via_foreign_keys boolean DEFAULT false)
RETURNS void LANGUAGE sql AS $$ SELECT howdah.router_only('undistribute_table') $$;

CREATE OR REPLACE FUNCTION pg_catalog.alter_distributed_table(
    table_name regclass, distribution_column text DEFAULT NULL, shard_count integer DEFAULT NULL,
    colocate_with text DEFAULT NULL, cascade_to_colocated boolean DEFAULT NULL)
RETURNS void LANGUAGE sql AS $$ SELECT howdah.router_only('alter_distributed_table') $$;

-- A local table already is what Citus would make of it: known, and joinable through the query group.
CREATE OR REPLACE FUNCTION pg_catalog.citus_add_local_table_to_metadata(
    table_name regclass, cascade_via_foreign_keys boolean DEFAULT false)
RETURNS void LANGUAGE sql AS $$ $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_add_node(
    nodename text, nodeport integer, groupid integer DEFAULT -1,
    noderole text DEFAULT 'primary', nodecluster name DEFAULT 'default')
RETURNS integer LANGUAGE sql AS $$ SELECT howdah.joins_by_itself('citus_add_node'); SELECT 0 $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_remove_node(nodename text, nodeport integer)
RETURNS void LANGUAGE sql AS $$ SELECT howdah.joins_by_itself('citus_remove_node') $$;

CREATE OR REPLACE FUNCTION pg_catalog.citus_set_coordinator_host(
    host text, port integer DEFAULT 5432, node_role text DEFAULT 'primary',
    node_cluster name DEFAULT 'default')
RETURNS void LANGUAGE sql AS $$ SELECT howdah.joins_by_itself('citus_set_coordinator_host') $$;

CREATE OR REPLACE FUNCTION pg_catalog.get_shard_id_for_distribution_column(
    table_name regclass, distribution_value text DEFAULT NULL)
RETURNS bigint LANGUAGE sql AS $$
    SELECT howdah.router_only('get_shard_id_for_distribution_column'); SELECT 0::bigint
$$;

CREATE OR REPLACE FUNCTION pg_catalog.get_shard_id_for_distribution_column(
    table_name regclass, distribution_value bigint)
RETURNS bigint LANGUAGE sql AS $$
    SELECT howdah.router_only('get_shard_id_for_distribution_column'); SELECT 0::bigint
$$;
