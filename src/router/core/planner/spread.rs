//! Proof that a statement's answer is the union of its answers on each shard: distributed tables meet
//! only in equal keys (which live together), everything else it reads is the same on every shard.
//!
//! What is known flows upwards here: an equality counts above a join only if it holds for every row the
//! join puts out.

use super::{Refused, facts};
use crate::{
    model::ids::ColocationId,
    router::core::{
        plan::Refusal,
        query::{Builder, Distinct, Fact, From, Join, Level, Link, OccKind, Query, Term},
    },
};

/// Where the rows of a FROM item are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread<'a> {
    /// The same rows on every shard.
    Everywhere,
    /// Each row on one shard.
    Split {
        /// Whose shards.
        colocation: ColocationId,
        /// The modulus.
        bucket_count: u32,
        /// A column that decides which, where there is one.
        anchor: Option<Term<'a>>,
    },
}

/// A FROM, judged.
pub struct Judged<'a> {
    /// Where its rows are.
    pub spread: Spread<'a>,
    /// What holds for each of its rows.
    pub facts: Vec<Fact<'a>>,
}

fn refused(what: impl Into<String>, hint: &str) -> Refused {
    Refusal::unsupported(what, hint).into()
}

fn not_colocated() -> Refused {
    refused(
        "the statement joins distributed tables otherwise than by equal distribution columns of one colocation group",
        "Join them on their distribution columns (tables distributed with colocate_with), bind them to one key, \
         or make the smaller one a reference table.",
    )
}

/// A level's FROM and WHERE, and the subqueries in its expressions.
pub fn level<'a>(built: &Builder<'a>, level: &Level<'a>, outer: &[Fact<'a>]) -> Result<Judged<'a>, Refused> {
    let judged = from_list(built, level, outer)?;
    links(built, &level.links, &judged)?;
    Ok(judged)
}

fn from_list<'a>(built: &Builder<'a>, level: &Level<'a>, outer: &[Fact<'a>]) -> Result<Judged<'a>, Refused> {
    let mut judged = Judged { spread: Spread::Everywhere, facts: [outer, &level.facts].concat() };
    for item in &level.from {
        judged = join(built, Join::Inner, judged, item, &[])?;
    }
    Ok(judged)
}

/// Joins what is known so far with one more item.
fn join<'a>(
    built: &Builder<'a>,
    kind: Join,
    left: Judged<'a>,
    item: &From<'a>,
    on: &[Fact<'a>],
) -> Result<Judged<'a>, Refused> {
    if let From::Sub { query, lateral: true, .. } = item {
        // Evaluated for each row of the left: like a subquery in an expression.
        return match link(built, query, None, &left) {
            Ok(()) if matches!(kind, Join::Inner | Join::Left) => Ok(left),
            Ok(()) => Err(not_colocated()),
            Err(refused) => Err(refused),
        };
    }
    let inherited = [left.facts.as_slice(), on].concat();
    let right = from(built, item, &inherited)?;
    let together = [left.facts.as_slice(), on, &right.facts].concat();
    let spread = match (left.spread, right.spread, kind) {
        (Spread::Everywhere, Spread::Everywhere, _) => Spread::Everywhere,
        (split, Spread::Everywhere, Join::Inner | Join::Left)
        | (Spread::Everywhere, split, Join::Inner | Join::Right) => split,
        (Spread::Everywhere, ..) | (_, Spread::Everywhere, _) => {
            return Err(refused(
                "an outer join preserves the rows of a table that every shard has, and would do so on each shard",
                "Turn the join around, so that the distributed table's rows are preserved.",
            ));
        }
        (
            Spread::Split { anchor: Some(a), colocation: ca, .. },
            Spread::Split { anchor: Some(b), colocation: cb, .. },
            _,
        ) if ca == cb && facts::equal(&together, a, b) => {
            match (kind, left.spread) {
                (Join::Right, _) => right.spread,
                // Either side's key may be NULL in a row.
                (Join::Full, Spread::Split { colocation, bucket_count, .. }) => {
                    Spread::Split { colocation, bucket_count, anchor: None }
                }
                (_, spread) => spread,
            }
        }
        _ => return Err(not_colocated()),
    };
    let facts = match kind {
        Join::Inner => together,
        Join::Left => left.facts,
        Join::Right => right.facts,
        Join::Full => Vec::new(),
    };
    Ok(Judged { spread, facts })
}

fn from<'a>(built: &Builder<'a>, item: &From<'a>, outer: &[Fact<'a>]) -> Result<Judged<'a>, Refused> {
    match item {
        From::Occ(occ) => {
            let spread = match built.occs[*occ].kind {
                OccKind::Distributed(table) => {
                    let distribution = table.distribution().ok_or_else(not_colocated)?;
                    Spread::Split {
                        colocation: distribution.colocation,
                        bucket_count: distribution.bucket_count,
                        anchor: Some(Term::Column(*occ, distribution.key)),
                    }
                }
                OccKind::Cte(number) => return sub(built, &built.ctes[number].query, *occ, &[]),
                OccKind::Reference(_) | OccKind::Opaque | OccKind::Sub => Spread::Everywhere,
            };
            Ok(Judged { spread, facts: Vec::new() })
        }
        From::Sub { occ, query, .. } => sub(built, query, *occ, outer),
        From::Join { kind, left, right, facts: on, links: conditions } => {
            // What holds above an outer join holds for the rows that survive it on either side.
            let first = from(built, left, outer)?;
            let first = Judged { spread: first.spread, facts: [outer, &first.facts].concat() };
            let judged = join(built, *kind, first, right, on)?;
            let pair = Judged { spread: judged.spread, facts: [judged.facts.as_slice(), on].concat() };
            links(built, conditions, &pair)?;
            Ok(judged)
        }
    }
}

fn sub<'a>(built: &Builder<'a>, query: &Query<'a>, occ: usize, outer: &[Fact<'a>]) -> Result<Judged<'a>, Refused> {
    Ok(match complete(built, query, outer)? {
        Complete::Everywhere => Judged { spread: Spread::Everywhere, facts: Vec::new() },
        Complete::Split { colocation, bucket_count, places } => {
            let mut columns = places.iter().map(|place| Term::Column(occ, *place));
            let anchor = columns.next();
            let facts = columns.filter_map(|other| Some((anchor?, other))).collect();
            Judged { spread: Spread::Split { colocation, bucket_count, anchor }, facts }
        }
    })
}

/// A query whose answer is the union of the shards' answers.
pub enum Complete {
    /// The same answer on every shard.
    Everywhere,
    /// Each row on one.
    Split {
        /// Whose shards.
        colocation: ColocationId,
        /// The modulus.
        bucket_count: u32,
        /// Which output columns decide which.
        places: Vec<usize>,
    },
}

/// Proves a query complete on each shard by itself.
pub fn complete<'a>(built: &Builder<'a>, query: &Query<'a>, outer: &[Fact<'a>]) -> Result<Complete, Refused> {
    match query {
        Query::Level(inner) => {
            let judged = level(built, inner, outer)?;
            if inner.writes || inner.locking {
                return Err(refused(
                    "a write or a lock within a query over several shards is not supported",
                    "Bind it to one key, or run the parts as statements of their own in one transaction.",
                ));
            }
            complete_level(inner, &judged)
        }
        Query::SetOp { union_all, left, right, limited, links: conditions } => {
            if !conditions.is_empty() || *limited {
                return Err(refused(
                    "LIMIT of a set operation over several shards is not supported here",
                    "Put the set operation in a statement of its own.",
                ));
            }
            let sides = (complete(built, left, outer)?, complete(built, right, outer)?);
            match sides {
                (Complete::Everywhere, Complete::Everywhere) => Ok(Complete::Everywhere),
                (
                    Complete::Split { colocation, bucket_count, places },
                    Complete::Split { colocation: other, places: right, .. },
                ) if colocation == other => {
                    let places: Vec<_> = places.into_iter().filter(|place| right.contains(place)).collect();
                    if *union_all || !places.is_empty() {
                        Ok(Complete::Split { colocation, bucket_count, places })
                    } else {
                        Err(refused(
                            "a set operation over several shards must have the distribution column in the same place \
                             on both sides",
                            "Add the distribution column to both sides, or use UNION ALL.",
                        ))
                    }
                }
                _ => Err(not_colocated()),
            }
        }
    }
}

fn complete_level<'a>(level: &Level<'a>, judged: &Judged<'a>) -> Result<Complete, Refused> {
    let Spread::Split { colocation, bucket_count, anchor } = judged.spread else {
        // LIMIT may choose other rows on each shard.
        return if level.limited { Err(not_colocated()) } else { Ok(Complete::Everywhere) };
    };
    let is_key = |term: &Term<'a>| anchor.is_some_and(|anchor| facts::equal(&judged.facts, anchor, *term));
    let places = level
        .outputs
        .iter()
        .enumerate()
        .filter(|(_, output)| level.outputs_known && output.term.as_ref().is_some_and(is_key))
        .map(|(place, _)| place)
        .collect::<Vec<_>>();
    let apart = !level.limited
        && (!level.aggregated || level.groups.iter().any(is_key))
        && level.windows.iter().all(|partition| partition.iter().any(is_key))
        && match &level.distinct {
            Distinct::No => true,
            Distinct::All => !places.is_empty(),
            Distinct::On(terms) => terms.iter().any(is_key),
        };
    if apart {
        Ok(Complete::Split { colocation, bucket_count, places })
    } else {
        Err(refused(
            "a subquery over several shards aggregates, limits or numbers rows across distribution keys",
            "Group or partition it by the distribution column, bind it to one key, or run it as a statement of its own.",
        ))
    }
}

/// A level's rows of different keys never meet in one output row.
pub fn grouped_by_key<'a>(level: &Level<'a>, judged: &Judged<'a>) -> bool {
    let Spread::Split { anchor, .. } = judged.spread else { return false };
    let is_key = |term: &Term<'a>| anchor.is_some_and(|anchor| facts::equal(&judged.facts, anchor, *term));
    (!level.aggregated || level.groups.iter().any(is_key))
        && level.windows.iter().all(|partition| partition.iter().any(is_key))
}

/// Subqueries in expressions: each sees, for each row, what it would see on one server.
pub fn links<'a>(built: &Builder<'a>, list: &[Link<'a>], row: &Judged<'a>) -> Result<(), Refused> {
    list.iter().try_for_each(|one| link(built, &one.query, one.in_term, row))
}

fn link<'a>(
    built: &Builder<'a>,
    query: &Query<'a>,
    in_term: Option<Term<'a>>,
    row: &Judged<'a>,
) -> Result<(), Refused> {
    let inner = match query {
        Query::Level(inner) => inner,
        Query::SetOp { left, right, links: conditions, .. } => {
            link(built, left, None, row)?;
            link(built, right, None, row)?;
            return links(built, conditions, row);
        }
    };
    let mut outer = row.facts.clone();
    outer.extend(facts::in_fact(query, in_term));
    let judged = from_list(built, inner, &outer)?;
    match (judged.spread, row.spread) {
        (Spread::Everywhere, spread) => links(built, &inner.links, &Judged { spread, facts: judged.facts }),
        (
            Spread::Split { anchor: Some(own), colocation, .. },
            Spread::Split { anchor: Some(other), colocation: same, .. },
        ) if colocation == same && facts::equal(&judged.facts, own, other) => links(built, &inner.links, &judged),
        _ => Err(refused(
            "a subquery reads a distributed table without being bound to the distribution column of the row it is for",
            "Correlate it by equality of the distribution columns, or run it as a statement of its own.",
        )),
    }
}
