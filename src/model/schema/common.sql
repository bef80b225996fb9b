-- Every group: reigns and decisions. Run as superuser in the policy's database; may run any number
-- of times.

CREATE SCHEMA IF NOT EXISTS howdah;
GRANT USAGE ON SCHEMA howdah TO PUBLIC;
COMMENT ON SCHEMA howdah IS 'being installed';

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
