//! Reasoning over equalities: whether two columns are equal for every row that matters, and which
//! bucket a distribution column is bound to.

use super::Input;
use crate::router::core::{
    catalog::Table,
    hash::{KeyType, Value},
    plan::KeySource,
    query::{Const, Distinct, Fact, Level, OccId, Query, Term},
};

/// Visits every term that is equal to `start`, itself included, until `found` answers.
fn search<'a, T>(facts: &[Fact<'a>], start: Term<'a>, mut found: impl FnMut(Term<'a>) -> Option<T>) -> Option<T> {
    if let Some(answer) = found(start) {
        return Some(answer);
    }
    let mut known = vec![start];
    let mut next = 0;
    while let Some(term) = known.get(next).copied() {
        next += 1;
        for (left, right) in facts {
            let other = match () {
                () if *left == term => *right,
                () if *right == term => *left,
                () => continue,
            };
            if !known.contains(&other) {
                if let Some(answer) = found(other) {
                    return Some(answer);
                }
                known.push(other);
            }
        }
    }
    None
}

/// The two are equal.
pub fn equal<'a>(facts: &[Fact<'a>], left: Term<'a>, right: Term<'a>) -> bool {
    search(facts, left, |term| (term == right).then_some(())).is_some()
}

/// The bucket that a table's distribution column is bound to.
pub fn bound(input: &Input<'_>, facts: &[Fact<'_>], occ: OccId, table: &Table) -> Option<KeySource> {
    bound_term(input, facts, Term::Column(occ, table.distribution()?.key), table)
}

/// The bucket of rows of `table` whose key is `term`.
pub fn bound_term<'a>(input: &Input<'_>, facts: &[Fact<'a>], term: Term<'a>, table: &Table) -> Option<KeySource> {
    let distribution = table.distribution()?;
    search(facts, term, |term| match term {
        Term::Const(constant) => key_source(input, constant, distribution.key_type, distribution.bucket_count),
        Term::Column(..) => None,
    })
}

/// The bucket of rows whose key equals a constant; `None`: the comparison is not one by the key type's
/// own equality.
pub fn key_source(input: &Input<'_>, constant: Const<'_>, key: KeyType, bucket_count: u32) -> Option<KeySource> {
    let fits = |cast: Option<KeyType>| cast.is_none_or(|cast| cast.same_family(key));
    let by_text = |text: &str| match key.bucket(Value::Text(text), bucket_count) {
        Ok(bucket) => KeySource::Bucket(bucket),
        Err(_) => KeySource::Ask { text: text.to_owned(), key, stored: None },
    };
    match constant {
        Const::String(text, cast) => fits(cast).then(|| by_text(text)),
        Const::Integer(number, cast) => {
            let own = match key {
                KeyType::Int2 | KeyType::Int4 | KeyType::Int8 => cast.is_none_or(KeyType::is_integer),
                KeyType::Numeric => cast.is_none_or(|cast| cast.is_integer() || cast == KeyType::Numeric),
                KeyType::Oid => cast.is_none_or(|cast| cast == KeyType::Oid) && u32::try_from(number).is_ok(),
                _ => false,
            };
            own.then(|| by_text(&number.to_string()))
        }
        Const::Number(text, cast) => (key == KeyType::Numeric && fits(cast)).then(|| by_text(text)),
        Const::Boolean(value) => (key == KeyType::Bool).then(|| by_text(if value { "t" } else { "f" })),
        Const::Param(index, cast) => {
            let declared = input.param_types.get(usize::from(index).checked_sub(1)?).copied().unwrap_or(0);
            let own = match (KeyType::from_oid(declared), cast) {
                // Not declared (or `unknown`): the comparison, or the cast, gives it its type.
                (None, cast) => matches!(declared, 0 | 705) && fits(cast),
                (Some(declared), None) => declared.same_family(key),
                (Some(declared), Some(cast)) => {
                    cast.same_family(key) && (declared.same_family(key) || declared.same_family(KeyType::Text))
                }
            };
            own.then_some(KeySource::Param { index, key, stored: None })
        }
    }
}

/// Rows of the level's FROM that differ in `term` never meet in one output row: what is known of the
/// output column may be used on the rows below.
pub fn passes<'a>(level: &Level<'a>, term: Term<'a>) -> bool {
    !level.limited
        && (!level.aggregated || level.groups.contains(&term))
        && level.windows.iter().all(|partition| partition.contains(&term))
        && match &level.distinct {
            Distinct::No | Distinct::All => true,
            Distinct::On(terms) => terms.contains(&term),
        }
}

/// The equalities between a subquery's columns as seen from outside and the columns they are.
pub fn through<'a>(query: &Query<'a>, occ: OccId, facts: &mut Vec<Fact<'a>>) {
    match query {
        Query::Level(level) if level.outputs_known => {
            facts.extend(level.outputs.iter().enumerate().filter_map(|(place, output)| {
                let term = output.term.filter(|term| output.key_type.is_some() && passes(level, *term))?;
                Some((Term::Column(occ, place), term))
            }));
        }
        Query::Level(_) => {}
        Query::SetOp { left, right, limited, .. } => {
            if !limited {
                through(left, occ, facts);
                through(right, occ, facts);
            }
        }
    }
}

/// The one column of a subquery after IN, where what is known of it may be used below.
pub fn in_fact<'a>(query: &Query<'a>, in_term: Option<Term<'a>>) -> Option<Fact<'a>> {
    let Query::Level(level) = query else { return None };
    let output = level.outputs.first().filter(|output| level.outputs_known && output.key_type.is_some())?;
    let term = output.term.filter(|term| passes(level, *term))?;
    Some((in_term?, term))
}

/// The bucket of a row that is stored with this key; `None`: not known before `PostgreSQL` evaluates
/// it. A value too long for `character varying(n)` is refused by the leaf itself.
pub fn stored_source(input: &Input<'_>, constant: Const<'_>, table: &Table) -> Option<KeySource> {
    let distribution = table.distribution()?;
    let key = distribution.key_type;
    let source = match constant {
        // Assignment makes text of a number.
        Const::Integer(number, None) if key.is_collatable() => {
            let text = number.to_string();
            KeySource::Bucket(key.bucket(Value::Text(&text), distribution.bucket_count).ok()?)
        }
        _ => key_source(input, constant, key, distribution.bucket_count)?,
    };
    let declared = table.key_column()?.declared_type.as_deref();
    match declared.filter(|_| !key.is_collatable()) {
        None => Some(source),
        Some(declared) => stored_as(source, constant, key, declared),
    }
}

/// The declared type may change the value (`numeric(10,2)` rounds): only `PostgreSQL` knows.
fn stored_as(source: KeySource, constant: Const<'_>, key: KeyType, declared: &str) -> Option<KeySource> {
    let stored = Some(declared.to_owned());
    Some(match (source, constant) {
        (KeySource::Param { index, key, .. }, _) => KeySource::Param { index, key, stored },
        (_, Const::String(text, _) | Const::Number(text, _)) => KeySource::Ask { text: text.to_owned(), key, stored },
        (_, Const::Integer(number, _)) => KeySource::Ask { text: number.to_string(), key, stored },
        _ => return None,
    })
}
