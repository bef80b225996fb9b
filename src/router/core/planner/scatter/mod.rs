//! SELECT on every shard, in one of three ways:
//!
//! - each shard's rows are part of the answer as they are: concatenated, or only sorted and limited;
//! - aggregates over all shards: split into partial ones and one that puts them together;
//! - anything else over the rows of FROM and WHERE (other aggregates, windows, DISTINCT ON): the
//!   columns it needs come from the shards, the rest runs over them.

mod aggregates;
mod raw;
mod sorted;
mod text;

use super::{Input, Refused, facts, route, spread};
use crate::router::core::{
    plan::{Command, Merge, Plan, Refusal, Scatter, Targets, Template},
    query::{Builder, Distinct, Level, OccKind, Query, Term},
    sql::{Node, Recurse, Statement, nodes, walk_manual},
};

/// Everything about the statement.
#[derive(Clone, Copy)]
pub struct Subject<'s, 'a> {
    select: &'a nodes::SelectStmt,
    level: &'s Level<'a>,
    built: &'s Builder<'a>,
}

/// A statement for the shards and one for their rows.
pub struct Parts {
    shard: String,
    merge: Merge,
}

fn refused(what: &str, hint: &str) -> Refused {
    Refusal::unsupported(what, hint).into()
}

/// The plan.
pub fn plan<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    select: &'a nodes::SelectStmt,
    query: &Query<'a>,
    built: &Builder<'a>,
) -> Result<Plan, Refused> {
    let Query::Level(level) = query else { return set_operation(statement, select, query, built) };
    if statement.sql().contains(text::MARK) {
        return Err(refused("a name in the statement begins with howdah_", "Choose another name."));
    }
    let judged = spread::level(built, level, &[])?;
    let spread::Spread::Split { colocation, bucket_count, anchor } = judged.spread else {
        return Err(refused(
            "a distributed table is read only in a subquery that is not bound to a key",
            "Bind it to one key, or run it as a statement of its own.",
        ));
    };
    let is_key = |term: &Term<'a>| anchor.is_some_and(|anchor| facts::equal(&judged.facts, anchor, *term));
    let distinct_apart = match &level.distinct {
        Distinct::No => true,
        Distinct::All => level.outputs_known && level.outputs.iter().any(|out| out.term.as_ref().is_some_and(is_key)),
        Distinct::On(terms) => terms.iter().any(is_key),
    };
    let apart = spread::grouped_by_key(level, &judged);
    let subject = Subject { select, level, built };
    let as_is = apart && distinct_apart && !level.ordered && !level.limited;
    if level.locking && !as_is {
        return Err(refused(
            "FOR UPDATE with ORDER BY or LIMIT over several shards is not supported",
            "Bind it to one key.",
        ));
    }
    let (shard, merge) = if as_is {
        (route::by_parent(statement, &built.seen.params), Merge::Concat)
    } else {
        let parts = subject.parts(apart, distinct_apart)?;
        (Template { params: text::params(&parts.shard), ..Template::plain(parts.shard, Vec::new()) }, parts.merge)
    };
    Ok(Plan::Scatter(Scatter {
        colocation,
        bucket_count,
        targets: targets(input, level, built),
        shard,
        merge,
        command: Command::Select,
        is_write: level.locking,
    }))
}

impl Subject<'_, '_> {
    fn parts(self, apart: bool, distinct_apart: bool) -> Result<Parts, Refused> {
        let distinct_on = matches!(self.level.distinct, Distinct::On(_));
        self.refuse_deep_collations()?;
        if apart && (!distinct_on || distinct_apart) {
            return sorted::parts(self);
        }
        if self.level.windows.is_empty() && !distinct_on {
            match aggregates::parts(self)? {
                Some(parts) => return Ok(parts),
                None => return raw::parts(self),
            }
        }
        raw::parts(self)
    }

    /// A collation of a part of an expression is lost on the way: only plain columns keep theirs, and a
    /// COLLATE that is all of an ORDER BY item.
    fn refuse_deep_collations(self) -> Result<(), Refused> {
        let mut found = false;
        let mut look = |node: Node<'_>| {
            found |= matches!(node, Node::CollateClause(_));
            walk_manual::<()>(node, |node| {
                found |= matches!(node, Node::CollateClause(_));
                Recurse::yes()
            });
        };
        for target in self.select.target_list() {
            look(Node::ResTarget(target));
        }
        for group in self.select.group_clause() {
            look(group);
        }
        if found { Err(collations()) } else { Ok(()) }
    }

    /// Some table of the statement has a column of another collation than the database's.
    fn has_collations(self) -> bool {
        self.built.occs.iter().any(|occ| match occ.kind {
            OccKind::Distributed(table) | OccKind::Reference(table) => {
                table.columns.iter().any(|column| column.collation.is_some())
            }
            _ => false,
        })
    }
}

fn collations() -> Refused {
    refused(
        "an expression with a collation of its own cannot be sorted or grouped across shards",
        "Sort or group by the plain column, or bind the statement to one key.",
    )
}

/// The shards that `key IN (…)` leaves.
fn targets<'a>(input: &Input<'a>, level: &Level<'a>, built: &Builder<'a>) -> Targets {
    for (term, constants) in &level.lists {
        let Term::Column(occ, place) = term else { continue };
        // One table alone: others might be read in subqueries or joins whose keys are not listed.
        let [only] = built.occs.as_slice() else { continue };
        let OccKind::Distributed(table) = only.kind else { continue };
        if *occ != 0 || table.distribution().map(|distribution| distribution.key) != Some(*place) {
            continue;
        }
        let keys: Option<Vec<_>> =
            constants.iter().map(|constant| facts::bound_term(input, &[], Term::Const(*constant), table)).collect();
        if let Some(keys) = keys {
            return Targets::Keys(keys);
        }
    }
    Targets::All
}

fn set_operation<'a>(
    statement: &Statement<'a>,
    select: &nodes::SelectStmt,
    query: &Query<'a>,
    built: &Builder<'a>,
) -> Result<Plan, Refused> {
    let spread::Complete::Split { colocation, bucket_count, .. } = spread::complete(built, query, &[])? else {
        return Err(super::write_unsupported());
    };
    if !select.sort_clause().is_empty() {
        return Err(refused(
            "ORDER BY of a set operation over several shards is not supported",
            "Put the set operation into FROM: SELECT * FROM (… UNION ALL …) AS all_rows ORDER BY ….",
        ));
    }
    Ok(Plan::Scatter(Scatter {
        colocation,
        bucket_count,
        targets: Targets::All,
        shard: route::by_parent(statement, &built.seen.params),
        merge: Merge::Concat,
        command: Command::Select,
        is_write: false,
    }))
}
