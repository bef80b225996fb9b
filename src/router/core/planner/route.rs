//! Texts for shards: the statement with leaves in place of the tables, or as it is. Called once a proof
//! stands.

use super::Refused;
use crate::router::core::{
    catalog::TableName,
    lexer,
    plan::{Piece, Template},
    query::{Builder, OccKind},
    sql::{Statement, location},
};

/// One place where a table's name stands.
struct Place {
    start: usize,
    end: usize,
    table: TableName,
    /// ` AS name` where the statement gives no alias.
    alias: Option<String>,
}

/// The whole statement, by the parents.
pub fn by_parent(statement: &Statement<'_>, params: &[u16]) -> Template {
    Template::plain(statement.sql(), sorted(params))
}

/// Parameters in order.
pub fn sorted(params: &[u16]) -> Vec<u16> {
    let mut params = params.to_vec();
    params.sort_unstable();
    params
}

/// The part of a statement between two offsets, each distributed table that stands there by its leaf.
/// `None`: a name is spelled so that it cannot be replaced; use the parents.
pub fn by_leaf(statement: &Statement<'_>, built: &Builder<'_>, start: usize, end: usize) -> Option<Vec<Piece>> {
    let mut places = Vec::new();
    for occ in &built.occs {
        let (OccKind::Distributed(table), Some(var)) = (&occ.kind, occ.var) else { continue };
        let at = location(var.location)?;
        if !(start..end).contains(&at) {
            continue;
        }
        let name_end = lexer::dotted_name_end(statement.text, at)?;
        // `orders *`, the old spelling of not ONLY: rare.
        if statement.text.as_bytes().get(lexer::skip_space(statement.text, name_end)) == Some(&b'*') {
            return None;
        }
        let alias =
            var.alias().is_none().then(|| format!(" AS {}", crate::router::core::catalog::quote_name(occ.name)));
        places.push(Place { start: at, end: name_end, table: table.name.clone(), alias });
    }
    places.sort_by_key(|place| place.start);
    let mut pieces = Vec::with_capacity(places.len() * 2 + 1);
    let mut done = start;
    for place in places {
        // The alias of the one before is the beginning of the text that follows it.
        push_text(&mut pieces, &statement.text[done..place.start]);
        pieces.push(Piece::Leaf(place.table));
        if let Some(alias) = place.alias {
            push_text(&mut pieces, &alias);
        }
        done = place.end;
    }
    push_text(&mut pieces, &statement.text[done..end]);
    Some(pieces)
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if text.is_empty() {
        return;
    }
    match pieces.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// The statement for one bucket: by the leaf where that means the same.
pub fn one_bucket(statement: &Statement<'_>, built: &Builder<'_>, parent_only: bool) -> Template {
    let params = sorted(&built.seen.params);
    if !(parent_only || built.seen.parent_only)
        && let Some(pieces) = by_leaf(statement, built, statement.start, statement.end)
    {
        return Template { pieces, params };
    }
    Template::plain(statement.sql(), params)
}

/// No relation of the query group alone may be in a statement that runs on shards.
pub fn refuse_local(built: &Builder<'_>) -> Result<(), Refused> {
    match built.seen.local {
        Some(name) => Err(crate::router::core::plan::Refusal::unsupported(
            format!("local table \"{name}\" cannot be used in a statement with distributed tables"),
            format!("Make it a reference table: SELECT create_reference_table('{name}')."),
        )
        .into()),
        None => Ok(()),
    }
}

/// Some occurrence is of a distributed table.
pub fn has_distributed(built: &Builder<'_>) -> bool {
    built.occs.iter().any(|occ| matches!(occ.kind, OccKind::Distributed(_)))
}

/// Of all occurrences only one, a write's target, is of a distributed table.
pub fn only_target_distributed(built: &Builder<'_>) -> bool {
    built.occs.iter().filter(|occ| matches!(occ.kind, OccKind::Distributed(_))).count() == 1
}
