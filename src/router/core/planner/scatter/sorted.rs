//! Every shard's rows are part of the answer as they are; what is left is to sort them, drop
//! duplicates, and take as many as LIMIT says.

use super::{
    Parts, Refused, Subject, refused,
    text::{self, Finals, Keep},
};
use crate::router::core::{
    query::Distinct,
    sql::{Node, nodes},
};

/// One key of ORDER BY.
struct Key {
    /// For the shards: by the expression or the output's number.
    shard: String,
    /// For the merge.
    last: String,
}

/// The two statements.
pub fn parts(subject: Subject<'_, '_>) -> Result<Parts, Refused> {
    let Subject { select, level, .. } = subject;
    if !level.outputs_known {
        return Err(refused(
            "ORDER BY, LIMIT or DISTINCT over several shards needs to know the columns that * stands for",
            "Name the columns.",
        ));
    }
    let shown = level.outputs.len();
    let mut hidden: Vec<String> = Vec::new();
    let mut keys = Vec::new();
    for sort in select.sort_clause() {
        keys.push(key(subject, sort, shown, &mut hidden)?);
    }
    let distinct = !matches!(level.distinct, Distinct::No);
    if distinct && !hidden.is_empty() {
        return Err(refused("ORDER BY something that DISTINCT does not show", "Add it to the select list."));
    }
    let mut shard = text::skeleton(select, Keep::AllButOrder, &hidden)?;
    let order = |pick: fn(&Key) -> &str| {
        let keys: Vec<&str> = keys.iter().map(pick).collect();
        if keys.is_empty() { String::new() } else { format!(" ORDER BY {}", keys.join(", ")) }
    };
    let limit = subject.shard_limit()?;
    if !limit.is_empty() || matches!(level.distinct, Distinct::On(_)) {
        shard.push_str(&order(|key| &key.shard));
    }
    shard.push_str(&limit);
    let heads: Vec<String> = level
        .outputs
        .iter()
        .enumerate()
        .map(|(at, out)| format!("p{} AS {}", at + 1, text::quote_label(out.name)))
        .collect();
    let mut heads = heads;
    // DISTINCT ON the key leaves nothing to drop here.
    if matches!(level.distinct, Distinct::All)
        && let Some(first) = heads.first_mut()
    {
        *first = format!("DISTINCT {first}");
    }
    let merge = subject.finished(&Finals::default(), &heads, "", "", &order(|key| &key.last), shown + hidden.len())?;
    Ok(Parts { shard, merge })
}

fn key<'a>(
    subject: Subject<'_, 'a>,
    sort: &'a nodes::SortBy,
    shown: usize,
    hidden: &mut Vec<String>,
) -> Result<Key, Refused> {
    let way = text::direction(sort)?;
    let node = sort.node();
    if let Some(place) = subject.output_place(node, true) {
        let collate = subject.collate_output(place)?;
        // The shard sorts by the output itself, which has its own collation.
        return Ok(Key { shard: format!("{}{way}", place + 1), last: format!("p{}{collate}{way}", place + 1) });
    }
    let (inner, collate) = match node {
        Node::CollateClause(clause) => {
            let name = crate::router::core::sql::names(clause.collname()).ok_or_else(text::not_written)?;
            let quoted: Vec<String> = name.iter().map(|part| text::quote_label(part)).collect();
            (clause.arg(), format!(" COLLATE {}", quoted.join(".")))
        }
        node => (node, subject.collate(node)?),
    };
    let expression = super::super::expression::sql(inner).ok_or_else(text::not_written)?;
    let written = super::super::expression::sql(node).ok_or_else(text::not_written)?;
    let place = hidden.iter().position(|known| *known == expression).unwrap_or_else(|| {
        hidden.push(expression);
        hidden.len() - 1
    });
    Ok(Key { shard: format!("{written}{way}"), last: format!("p{}{collate}{way}", shown + place + 1) })
}
