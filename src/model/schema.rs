//! [pure] The SQL that Howdah keeps in `PostgreSQL`: schema `howdah`, and Citus's names for its users.
//! Agents run it at the start of a reign; routers read and write the tables it makes.

use super::group::GroupKind;

/// Grows with every change of the files below: an agent of a newer release installs again.
const VERSION: u32 = 9;

const COMMON: &str = include_str!("schema/common.sql");
const QUERY: &str = include_str!("schema/query.sql");
const CITUS: &str = include_str!("schema/citus.sql");

/// Writes the epoch row: `$1` epoch (bigint), `$2` member (text). Repeating it writes it again: a commit that
/// writes nothing would wait for no acknowledgement.
pub const RECORD_EPOCH: &str = "INSERT INTO howdah.epoch (epoch, member) VALUES ($1, $2) ON CONFLICT (epoch) DO UPDATE SET member = excluded.member";

/// Asks a primary which timeline it writes: one bigint. Fails on a standby.
pub const TIMELINE: &str =
    "SELECT ('x' || pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8))::bit(32)::bigint";

/// Channel on which the query group's primary tells routers that the catalog has changed.
pub const CATALOG_CHANNEL: &str = "howdah_catalog";

/// Asks whether [`install`] has run: one boolean. A new reign of old data needs nothing more.
pub fn installed() -> String {
    format!("SELECT coalesce(obj_description(to_regnamespace('howdah'), 'pg_namespace') = '{}', false)", mark())
}

/// Makes or brings up to date schema `howdah` of a group: one simple-protocol script, run as superuser
/// in the policy's database, and therefore one transaction. It may run any number of times.
pub fn install(kind: GroupKind) -> String {
    let mark = format!("COMMENT ON SCHEMA howdah IS '{}';\n", mark());
    match kind {
        GroupKind::Shard => [COMMON, &mark].concat(),
        GroupKind::Query => [COMMON, QUERY, CITUS, &mark].concat(),
    }
}

fn mark() -> String {
    format!("Howdah''s own; schema version {VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_gets_no_catalog() {
        assert!(!install(GroupKind::Shard).contains("howdah.tables"));
        assert!(install(GroupKind::Query).contains("citus_tables"));
    }
}
