//! Proof that all a statement touches is in one bucket: every occurrence of a distributed table, at
//! any depth, is bound to the same key by equalities that hold for every row that matters.
//!
//! What holds flows downwards. WHERE holds for all rows that survive; ON holds for the rows of an inner
//! join and of the side that an outer join may fill with NULLs, never for the side it preserves.

use super::{Input, facts};
use crate::{
    model::ids::ColocationId,
    router::core::{
        plan::KeySource,
        query::{Builder, Fact, From, Join, Level, OccId, OccKind, Query, Term},
    },
};

/// The bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Whose buckets.
    pub colocation: ColocationId,
    /// The modulus.
    pub bucket_count: u32,
    /// Which.
    pub key: KeySource,
}

/// The proof in progress.
struct Binder<'b, 'a> {
    input: &'b Input<'a>,
    built: &'b Builder<'a>,
    bound: Option<Bound>,
    seen: usize,
    ctes_done: Vec<bool>,
}

/// The one bucket of several levels (a write's parts and its source); `None`: not proved.
pub fn bind<'a>(
    input: &Input<'a>,
    built: &Builder<'a>,
    queries: &[&Query<'a>],
    levels: &[&Level<'a>],
    target: Option<(OccId, KeySource)>,
) -> Option<Bound> {
    let mut binder = Binder { input, built, bound: None, seen: 0, ctes_done: vec![false; built.ctes.len()] };
    if let Some((occ, key)) = target {
        binder.same(occ, key)?;
    }
    for query in queries {
        binder.query(query, &[])?;
    }
    for level in levels {
        binder.level(level, &[])?;
    }
    for number in 0..built.ctes.len() {
        if !binder.ctes_done[number] {
            binder.query(&built.ctes[number].query, &[])?;
        }
    }
    // Nothing was passed over.
    let all = built.occs.iter().filter(|occ| matches!(occ.kind, OccKind::Distributed(_))).count();
    if binder.seen == all { binder.bound } else { None }
}

impl<'a> Binder<'_, 'a> {
    fn same(&mut self, occ: OccId, key: KeySource) -> Option<()> {
        let OccKind::Distributed(table) = self.built.occs[occ].kind else { return None };
        let distribution = table.distribution()?;
        self.seen += 1;
        let bound = Bound { colocation: distribution.colocation, bucket_count: distribution.bucket_count, key };
        match &self.bound {
            Some(other) if *other != bound => None,
            Some(_) => Some(()),
            None => {
                self.bound = Some(bound);
                Some(())
            }
        }
    }

    fn query(&mut self, query: &Query<'a>, inherited: &[Fact<'a>]) -> Option<()> {
        match query {
            Query::Level(level) => self.level(level, inherited),
            Query::SetOp { left, right, links, .. } => {
                self.query(left, inherited)?;
                self.query(right, inherited)?;
                links.iter().try_for_each(|link| self.query(&link.query, inherited))
            }
        }
    }

    fn level(&mut self, level: &Level<'a>, inherited: &[Fact<'a>]) -> Option<()> {
        let joined;
        let facts: &[Fact<'a>] = if inherited.is_empty() {
            &level.facts
        } else {
            joined = [inherited, &level.facts].concat();
            &joined
        };
        for item in &level.from {
            self.from(item, facts)?;
        }
        for link in &level.links {
            match facts::in_fact(&link.query, link.in_term) {
                Some(fact) => self.query(&link.query, &[facts, &[fact]].concat())?,
                None => self.query(&link.query, facts)?,
            }
        }
        Some(())
    }

    fn from(&mut self, item: &From<'a>, facts: &[Fact<'a>]) -> Option<()> {
        match item {
            From::Occ(occ) => match self.built.occs[*occ].kind {
                OccKind::Distributed(table) => {
                    let key = facts::bound(self.input, facts, *occ, table)?;
                    self.same(*occ, key)
                }
                OccKind::Cte(number) => {
                    let cte = &self.built.ctes[number];
                    // Named once, it is a subquery written elsewhere.
                    if cte.references == 1 && !self.ctes_done[number] {
                        self.ctes_done[number] = true;
                        self.sub(&cte.query, *occ, facts)?;
                    }
                    Some(())
                }
                OccKind::Reference(_) | OccKind::Sub | OccKind::Opaque => Some(()),
            },
            From::Sub { occ, query, .. } => self.sub(query, *occ, facts),
            From::Join { kind, left, right, facts: on, links } => {
                let both = [facts, on].concat();
                // What is stated above about the side that may be NULL makes the join an inner one.
                let kind = match kind {
                    Join::Left if states_of(facts, right) => Join::Inner,
                    Join::Right if states_of(facts, left) => Join::Inner,
                    kind => *kind,
                };
                let (for_left, for_right): (&[_], &[_]) = match kind {
                    Join::Inner => (&both, &both),
                    Join::Left => (facts, &both),
                    Join::Right => (&both, facts),
                    Join::Full => (facts, facts),
                };
                self.from(left, for_left)?;
                self.from(right, for_right)?;
                links.iter().try_for_each(|link| self.query(&link.query, &both))
            }
        }
    }

    fn sub(&mut self, query: &Query<'a>, occ: OccId, facts: &[Fact<'a>]) -> Option<()> {
        let mut inherited = facts.to_vec();
        facts::through(query, occ, &mut inherited);
        self.query(query, &inherited)
    }
}

/// A column of this FROM item is stated to equal a constant: rows in which it is NULL do not survive.
/// (Equalities of two columns do not count: among them are those between a subquery's outputs and the
/// columns they are, which hold for NULLs too.)
fn states_of(facts: &[Fact<'_>], item: &From<'_>) -> bool {
    match item {
        From::Occ(occ) | From::Sub { occ, .. } => {
            let of = |term: &Term<'_>| matches!(term, Term::Column(other, _) if other == occ);
            facts.iter().any(|fact| match fact {
                (column, Term::Const(_)) | (Term::Const(_), column) => of(column),
                _ => false,
            })
        }
        From::Join { left, right, .. } => states_of(facts, left) || states_of(facts, right),
    }
}
