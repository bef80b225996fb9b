//! [pure] How a transaction over several groups commits as one (sharding.md, "Transactions"), and how
//! what a dead router left is settled. Called by the router's commit and by its resolver.
//!
//! ```text
//! writers but the last:  PREPARE TRANSACTION 'howdah:<last>:<id>:<group>'
//! the last:              INSERT INTO howdah.decision (id, 'commit'); COMMIT      <- the decision
//! writers but the last:  COMMIT PREPARED
//! readers:               COMMIT
//! ```
//!
//! A resolver inserts `abort` under the same unique key: whoever comes first decides. So a row of
//! `howdah.decision` is written once and never changed, and from what a group shows follows what to do,
//! whenever the router died:
//!
//! | prepared | row | the router died, or is slow, | a resolver | the client was told, if anything |
//! |---|---|---|---|---|
//! | none | none | before a PREPARE was durable | does nothing: `PostgreSQL` rolled back | 40001 |
//! | some, all | none | before the decision was durable | inserts `abort`, rolls parts back | 40001, 08007 |
//! | some, all | `commit` | after the decision | commits parts | success, 08007 |
//! | some, all | `abort` | and so did a resolver | rolls parts back | 40001, 08007 |
//! | none | either | after all parts were settled | deletes the row ([`OLD_DECISIONS`]) | any of these |
//!
//! The row commits together with the last participant's own work, and both it and every part wait for
//! their group's acknowledgements: a failover loses none of them. Of a decision whose acknowledgement is
//! in doubt nobody says that it is made: 08007, and the row tells whoever asks later.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use crate::model::ids::GroupId;

/// Begins every identifier of ours in `pg_prepared_xacts`.
pub const GID_PREFIX: &str = "howdah:";

/// Settles a transaction on its decision group: aborted unless decided. Waits for an owner that is
/// deciding. One row: the outcome, and whether this made it.
///
/// It writes in any case, so that its own commit waits for the standbys: a decision that was committed on
/// the primary alone (its wait was cancelled) is acted on only once no failover can take it back.
pub fn settle_sql(id: &str) -> String {
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "a transaction's id is hexadecimal: {id:?}");
    format!("SELECT outcome, ours FROM howdah.settle('{id}')")
}

/// Writes a record that its commit waits for: once it is acknowledged, everything that the session's
/// group did before it is too.
pub const BARRIER: &str = "SELECT pg_logical_emit_message(true, 'howdah', '')";

/// Decisions that no open transaction of the group can still try to make: whoever could began earlier
/// than the row. Only these may go, and only once no group shows a part of them.
pub const OLD_DECISIONS: &str = "SELECT id FROM howdah.decision WHERE decided < coalesce(
    (SELECT min(xact_start) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()),
    now()) LIMIT 10000";

/// Deletes the decisions `$1` (text[]).
pub const DELETE_DECISIONS: &str = "DELETE FROM howdah.decision WHERE id = ANY ($1)";

/// What this database holds prepared, and for how many milliseconds.
pub const LIST_PREPARED: &str = "SELECT gid, (extract(epoch FROM clock_timestamp() - prepared) * 1000)::bigint
    FROM pg_prepared_xacts WHERE database = current_database() AND gid LIKE 'howdah:%'";

/// One prepared part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gid {
    /// Where the decision is.
    pub decision: GroupId,
    /// The transaction: 32 hexadecimal digits.
    pub id: String,
    /// Where this part is.
    pub participant: GroupId,
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{GID_PREFIX}{}:{}:{}", self.decision, self.id, self.participant)
    }
}

/// A text in `pg_prepared_xacts` that is not ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} does not name a part of a Howdah transaction")]
pub struct InvalidGid {
    text: String,
}

impl FromStr for Gid {
    type Err = InvalidGid;

    fn from_str(text: &str) -> Result<Self, InvalidGid> {
        let invalid = || InvalidGid { text: text.to_owned() };
        let parts: Vec<_> = text.strip_prefix(GID_PREFIX).ok_or_else(invalid)?.split(':').collect();
        let [decision, id, participant] = parts[..] else { return Err(invalid()) };
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        Ok(Self {
            decision: decision.parse().map_err(|_| invalid())?,
            id: id.to_owned(),
            participant: participant.parse().map_err(|_| invalid())?,
        })
    }
}

/// What a transaction did on a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing that a commit would make durable.
    Read,
    /// It may have written.
    Wrote,
}

/// How to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commit {
    /// `COMMIT` everywhere: at most one of these wrote, and it goes first.
    Plain(Vec<GroupId>),
    /// Two phases.
    TwoPhase {
        /// `PREPARE TRANSACTION` on these, in any order.
        prepare: Vec<Gid>,
        /// Then the decision row and `COMMIT` here.
        decide: GroupId,
        /// The id of the decision row.
        id: String,
        /// `COMMIT` on these, whenever.
        readers: Vec<GroupId>,
    },
}

/// Chooses how to commit. The query group decides where it wrote (what was sent by `NOTIFY` cannot be
/// prepared); otherwise the last writer by name. `id` is 32 hexadecimal digits never used before.
pub fn plan_commit(parts: &BTreeMap<GroupId, Part>, query_group: &GroupId, id: &str) -> Commit {
    let of = |wanted: Part| parts.iter().filter(move |(_, part)| **part == wanted).map(|(group, _)| group.clone());
    let mut writers: Vec<GroupId> = of(Part::Wrote).collect();
    let readers: Vec<GroupId> = of(Part::Read).collect();
    if writers.len() <= 1 {
        writers.extend(readers);
        return Commit::Plain(writers);
    }
    let last = writers.iter().position(|group| group == query_group).unwrap_or(writers.len() - 1);
    let decide = writers.remove(last);
    let prepare = writers
        .into_iter()
        .map(|participant| Gid { decision: decide.clone(), id: id.to_owned(), participant })
        .collect();
    Commit::TwoPhase { prepare, decide, id: id.to_owned(), readers }
}

/// A transaction that somebody left prepared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// Where its decision is, or has to be made.
    pub decision: GroupId,
    /// Its id.
    pub id: String,
    /// Its parts.
    pub parts: Vec<Gid>,
}

/// The transactions with a part at least `patience_ms` old. `seen` is what all groups show.
pub fn unsettled(seen: &[(Gid, i64)], patience_ms: i64) -> Vec<Unsettled> {
    let mut found: BTreeMap<(&GroupId, &str), (bool, Vec<Gid>)> = BTreeMap::new();
    for (gid, age_ms) in seen {
        let entry = found.entry((&gid.decision, &gid.id)).or_default();
        entry.0 |= *age_ms >= patience_ms;
        entry.1.push(gid.clone());
    }
    let old = found.into_iter().filter(|(_, (old, _))| *old);
    old.map(|((decision, id), (_, parts))| Unsettled { decision: decision.clone(), id: id.to_owned(), parts }).collect()
}

/// The decisions of `old` (see [`OLD_DECISIONS`]) that may be deleted. `seen` must be what *all* groups
/// show, have been read after `old`, and be past a [`BARRIER`] on each of them: else a failover could bring
/// back a part whose end was not acknowledged, and nobody would know any more how it was decided.
pub fn deletable(old: Vec<String>, seen: &[(Gid, i64)]) -> Vec<String> {
    let open: BTreeSet<&str> = seen.iter().map(|(gid, _)| gid.id.as_str()).collect();
    old.into_iter().filter(|id| !open.contains(id.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(name: &str) -> GroupId {
        name.parse().expect("a valid name")
    }

    fn parts(of: &[(&str, Part)]) -> BTreeMap<GroupId, Part> {
        of.iter().map(|(name, part)| (group(name), *part)).collect()
    }

    #[test]
    fn one_writer_needs_no_second_phase() {
        let parts = parts(&[("shard-1", Part::Read), ("shard-2", Part::Wrote), ("query", Part::Read)]);
        let commit = plan_commit(&parts, &group("query"), "ab");
        assert_eq!(commit, Commit::Plain(vec![group("shard-2"), group("query"), group("shard-1")]));
    }

    #[test]
    fn the_query_group_decides_where_it_wrote() {
        let three = parts(&[("query", Part::Wrote), ("shard-1", Part::Wrote), ("shard-2", Part::Read)]);
        let Commit::TwoPhase { prepare, decide, readers, .. } = plan_commit(&three, &group("query"), "ab") else {
            panic!("two writers need two phases");
        };
        assert_eq!((decide, readers), (group("query"), vec![group("shard-2")]));
        assert_eq!(prepare[0].to_string(), "howdah:query:ab:shard-1");
        assert_eq!(prepare[0].to_string().parse(), Ok(prepare[0].clone()));
    }

    #[test]
    fn only_ours_and_only_old_ones_are_settled() {
        assert!("other:query:ab:shard-1".parse::<Gid>().is_err());
        assert!("howdah:query:xy:shard-1".parse::<Gid>().is_err());
        let gid = |text: &str| text.parse::<Gid>().expect("well-formed");
        let seen = [(gid("howdah:query:aa:shard-1"), 10), (gid("howdah:query:bb:shard-1"), 10)];
        let seen = [&seen[..], &[(gid("howdah:query:bb:shard-2"), 3000)]].concat();
        let found = unsettled(&seen, 2000);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].id.as_str(), found[0].parts.len()), ("bb", 2));
        assert_eq!(deletable(vec!["aa".to_owned(), "cc".to_owned()], &seen), ["cc"]);
    }
}
