-- Every group: reigns and decisions. Run as superuser in the policy's database; may run any number
-- of times.

CREATE SCHEMA IF NOT EXISTS howdah;
GRANT USAGE ON SCHEMA howdah TO PUBLIC;
COMMENT ON SCHEMA howdah IS 'being installed';

-- A role of the same name would take this schema for its own ("$user" in search_path).
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'howdah') THEN
        EXECUTE format('ALTER ROLE howdah IN DATABASE %I SET search_path = public', current_database());
    END IF;
END $$;

-- One row for each reign of this group; the first transaction of a reign writes it.
CREATE TABLE IF NOT EXISTS howdah.epoch (
    epoch bigint PRIMARY KEY,
    member text NOT NULL,
    began timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON howdah.epoch TO PUBLIC;

-- Decisions of two-phase transactions whose last participant was this group. Whoever inserts the id
-- first decides; a row goes away once no group shows a prepared part of it.
CREATE TABLE IF NOT EXISTS howdah.decision (
    id text PRIMARY KEY,
    outcome text NOT NULL CHECK (outcome IN ('commit', 'abort')),
    decided timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON howdah.decision TO PUBLIC;

-- Settles a transaction: aborted unless decided; `ours` says that this call made it so. Waits for an owner
-- that is deciding. Always writes, so that its commit waits for the standbys: what it answers is not taken
-- back by a failover. No outcome: the row went away meanwhile.
CREATE OR REPLACE FUNCTION howdah.settle(transaction text, OUT outcome text, OUT ours boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO howdah.decision (id, outcome) VALUES (transaction, 'abort') ON CONFLICT (id) DO NOTHING;
    ours := FOUND;
    UPDATE howdah.decision d SET outcome = d.outcome WHERE d.id = transaction RETURNING d.outcome INTO outcome;
END $$;

-- Leaves follow their parent: owner, grants, and the names of indexes and constraints (the parent's,
-- with the leaf's suffix, so that messages can be given in the user's names). Routers call it on a
-- shard after DDL on a distributed table.
CREATE OR REPLACE FUNCTION howdah.align_leaves(parent regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    leaf record;
    entry record;
BEGIN
    FOR leaf IN
        SELECT c.oid::regclass AS relation, c.relowner, substring(c.relname FROM '_b[0-9]+$') AS suffix,
               c.relacl, p.relowner AS wanted_owner, p.relacl AS wanted_acl
          FROM pg_inherits i
          JOIN pg_class c ON c.oid = i.inhrelid
          JOIN pg_class p ON p.oid = i.inhparent
         WHERE i.inhparent = parent
    LOOP
        IF leaf.relowner <> leaf.wanted_owner THEN
            EXECUTE format('ALTER TABLE %s OWNER TO %s', leaf.relation, leaf.wanted_owner::regrole);
        END IF;
        IF leaf.relacl IS DISTINCT FROM leaf.wanted_acl THEN
            FOR entry IN SELECT DISTINCT grantee FROM aclexplode(leaf.relacl) LOOP
                EXECUTE format('REVOKE ALL ON %s FROM %s', leaf.relation,
                               CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE entry.grantee::regrole::text END);
            END LOOP;
            FOR entry IN SELECT * FROM aclexplode(leaf.wanted_acl) LOOP
                EXECUTE format('GRANT %s ON %s TO %s%s', entry.privilege_type, leaf.relation,
                               CASE entry.grantee WHEN 0 THEN 'PUBLIC' ELSE entry.grantee::regrole::text END,
                               CASE WHEN entry.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END);
            END LOOP;
        END IF;
        FOR entry IN
            SELECT c.oid::regclass AS relation, c.relname AS name, howdah.leaf_name(p.relname, leaf.suffix) AS wanted
              FROM pg_index x
              JOIN pg_inherits i ON i.inhrelid = x.indexrelid
              JOIN pg_class c ON c.oid = x.indexrelid
              JOIN pg_class p ON p.oid = i.inhparent
             WHERE x.indrelid = leaf.relation
        LOOP
            IF entry.name <> entry.wanted THEN
                EXECUTE format('ALTER INDEX %s RENAME TO %I', entry.relation, entry.wanted);
            END IF;
        END LOOP;
    END LOOP;
END $$;

-- A name with a leaf's suffix, within the 63 bytes of a name.
CREATE OR REPLACE FUNCTION howdah.leaf_name(name text, suffix text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog AS $$
    SELECT CASE WHEN octet_length(name || suffix) <= 63 THEN name || suffix
                ELSE left(name, 20) || '_' || left(md5(name), 8) || suffix END
$$;
