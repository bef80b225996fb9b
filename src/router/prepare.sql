-- Statements that give a new shard what the query group has beside tables, in order; each may run on a
-- shard that has it already. Run on the query group with search_path = pg_catalog.
SELECT statement FROM (
    SELECT 1 AS step, rolname::text AS name, format(
               'DO $do$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = %L) THEN CREATE ROLE %I WITH %s %s %s %s %s %s CONNECTION LIMIT %s%s%s; END IF; END $do$',
               rolname, rolname,
               CASE WHEN rolsuper THEN 'SUPERUSER' ELSE 'NOSUPERUSER' END,
               CASE WHEN rolinherit THEN 'INHERIT' ELSE 'NOINHERIT' END,
               CASE WHEN rolcreaterole THEN 'CREATEROLE' ELSE 'NOCREATEROLE' END,
               CASE WHEN rolcreatedb THEN 'CREATEDB' ELSE 'NOCREATEDB' END,
               CASE WHEN rolcanlogin THEN 'LOGIN' ELSE 'NOLOGIN' END,
               CASE WHEN rolbypassrls THEN 'BYPASSRLS' ELSE 'NOBYPASSRLS' END,
               rolconnlimit,
               coalesce(' PASSWORD ' || quote_literal(rolpassword), ''),
               coalesce(' VALID UNTIL ' || quote_literal(rolvaliduntil), '')) AS statement
      FROM pg_authid WHERE rolname !~ '^pg_' AND oid >= 16384
    UNION ALL
    SELECT 2, m.oid::text, format('GRANT %I TO %I%s', r.rolname, u.rolname,
               CASE WHEN m.admin_option THEN ' WITH ADMIN OPTION' ELSE '' END)
      FROM (SELECT row_number() OVER () AS oid, * FROM pg_auth_members) m
      JOIN pg_roles r ON r.oid = m.roleid
      JOIN pg_roles u ON u.oid = m.member AND u.oid >= 16384
    UNION ALL
    SELECT 3, nspname::text, format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %I', nspname, pg_get_userbyid(nspowner))
      FROM pg_namespace WHERE oid >= 16384 AND nspname NOT IN ('howdah') AND nspname !~ '^pg_'
    UNION ALL
    SELECT 4, nspname::text, format('GRANT %s ON SCHEMA %I TO %s', g.privilege_type, nspname,
               CASE g.grantee WHEN 0 THEN 'PUBLIC' ELSE g.grantee::regrole::text END)
      FROM pg_namespace n, aclexplode(n.nspacl) g
     WHERE (n.oid >= 16384 OR nspname = 'public') AND nspname NOT IN ('howdah') AND nspname !~ '^pg_'
    UNION ALL
    SELECT 5, extname::text, format('CREATE EXTENSION IF NOT EXISTS %I WITH SCHEMA %I', extname, n.nspname)
      FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE extname <> 'plpgsql'
    UNION ALL
    SELECT 6, t.oid::text, format(
               'DO $do$ BEGIN IF to_regtype(%L) IS NULL THEN CREATE TYPE %s AS ENUM (%s); ALTER TYPE %2$s OWNER TO %4$I; END IF; END $do$',
               t.oid::regtype, t.oid::regtype,
               (SELECT string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid),
               pg_get_userbyid(t.typowner))
      FROM pg_type t
     WHERE t.typtype = 'e' AND t.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 7, t.oid::text, format(
               'DO $do$ BEGIN IF to_regtype(%L) IS NULL THEN CREATE DOMAIN %s AS %s%s%s%s; ALTER DOMAIN %2$s OWNER TO %7$I; END IF; END $do$',
               t.oid::regtype, t.oid::regtype, format_type(t.typbasetype, t.typtypmod),
               coalesce(' DEFAULT ' || t.typdefault, ''),
               CASE WHEN t.typnotnull THEN ' NOT NULL' ELSE '' END,
               coalesce((SELECT string_agg(format(' CONSTRAINT %I %s', c.conname, pg_get_constraintdef(c.oid)), '')
                           FROM pg_constraint c WHERE c.contypid = t.oid), ''),
               pg_get_userbyid(t.typowner))
      FROM pg_type t
     WHERE t.typtype = 'd' AND t.oid >= 16384
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 8, p.oid::text, pg_get_functiondef(p.oid)
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE p.prokind IN ('f', 'p') AND p.oid >= 16384
       AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'howdah')
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
) s ORDER BY step, name
