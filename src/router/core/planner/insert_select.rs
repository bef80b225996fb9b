//! INSERT … SELECT into a distributed table: in one bucket, on each shard by itself, or with the rows
//! split by key on their way through the router.

use super::{
    Refused, bind, facts,
    insert::Insert,
    plan_text, route,
    spread::{self, Complete, Judged, Spread},
};
use crate::router::core::{
    catalog::quote_name,
    plan::{
        Command, CopyFormat, CopyIn, CopyKey, InsertSelect, KeySource, Merge, OneShard, Plan, Refusal, Scatter,
        Targets, Template,
    },
    query::{Builder, From, Level, Query, Term, constant},
    sql::{self, nodes},
};

/// The plan, from what was read of the source and of the other parts.
pub fn plan<'a>(
    insert: &Insert<'_, 'a>,
    select: &'a nodes::SelectStmt,
    query: &Query<'a>,
    mut parts: Level<'a>,
    built: &Builder<'a>,
) -> Result<Plan, Refused> {
    let Some(distribution) = insert.table.distribution() else { return Err(unsupported()) };
    let target = match parts.from.first() {
        Some(From::Occ(occ)) => *occ,
        _ => return Err(unsupported()),
    };
    parts.from.clear();
    if built.seen.local.is_none() {
        if let Some(key) = key_value(insert, select, query)
            && let Some(bound) = bind::bind(insert.input, built, &[query], &[&parts], Some((target, key)))
        {
            return Ok(Plan::OneShard(OneShard {
                colocation: bound.colocation,
                bucket_count: bound.bucket_count,
                key: bound.key,
                text: route::one_bucket(insert.statement, built, insert.parent_only()),
                command: Command::Insert,
                is_write: true,
                null_key: insert.null_key(),
            }));
        }
        if stays(insert, query, &parts, built, target) {
            return Ok(Plan::Scatter(Scatter {
                colocation: distribution.colocation,
                bucket_count: distribution.bucket_count,
                targets: Targets::All,
                shard: route::by_parent(insert.statement, &built.seen.params),
                merge: Merge::Concat,
                command: Command::Insert,
                is_write: true,
            }));
        }
    }
    through_router(insert, select)
}

fn unsupported() -> Refused {
    Refusal::unsupported(
        "this INSERT … SELECT is not supported with ON CONFLICT, RETURNING or WITH",
        "Leave these out, or insert into a table of the same distribution first.",
    )
    .into()
}

/// The one key of all rows.
fn key_value<'a>(insert: &Insert<'_, 'a>, select: &'a nodes::SelectStmt, query: &Query<'a>) -> Option<KeySource> {
    let Query::Level(level) = query else { return None };
    if !level.outputs_known || level.outputs.len() != insert.columns.len() {
        return None;
    }
    if let Some(term) = level.outputs[insert.field].term {
        return facts::bound_term(insert.input, &level.facts, term, insert.table);
    }
    // Outputs are targets one to one only where no star stands among them.
    let targets = select.target_list();
    let target = targets.get(insert.field).filter(|_| targets.len() == level.outputs.len())?;
    facts::stored_source(insert.input, constant(target.val())?, insert.table)
}

/// Every row belongs to the shard it is made on.
fn stays<'a>(
    insert: &Insert<'_, 'a>,
    query: &Query<'a>,
    parts: &Level<'a>,
    built: &Builder<'a>,
    target: usize,
) -> bool {
    let Some(distribution) = insert.table.distribution() else { return false };
    if built.seen.recursive || built.seen.writes_below {
        return false;
    }
    let same_type = match query {
        Query::Level(level) => {
            level.outputs.len() == insert.columns.len()
                && level.outputs[insert.field].key_type == Some(distribution.key_type)
        }
        Query::SetOp { .. } => true,
    };
    let row = Judged {
        spread: Spread::Split {
            colocation: distribution.colocation,
            bucket_count: distribution.bucket_count,
            anchor: Some(Term::Column(target, distribution.key)),
        },
        facts: Vec::new(),
    };
    same_type
        && spread::links(built, &parts.links, &row).is_ok()
        && matches!(
            spread::complete(built, query, &[]),
            Ok(Complete::Split { colocation, places, .. })
                if colocation == distribution.colocation && places.contains(&insert.field)
        )
}

/// Rows come to the router, in text, and go where they belong.
fn through_router(insert: &Insert<'_, '_>, select: &nodes::SelectStmt) -> Result<Plan, Refused> {
    let node = insert.node;
    if node.with_clause().is_some() || node.on_conflict_clause().is_some() || node.returning_clause().is_some() {
        return Err(unsupported());
    }
    let text = sql::deparse(select).ok_or_else(unsupported)?;
    let source = plan_text(insert.input, &text).pop().map(|planned| planned.plan).ok_or_else(unsupported)?;
    let columns = || insert.columns.iter().map(|place| &insert.table.columns[*place]);
    let params = super::insert::params_in(select.into());
    let (source, text) = match source {
        Plan::Refuse(refusal) => return Err(refusal),
        Plan::Local(local) => {
            let names: Vec<String> = (1..=insert.columns.len()).map(|number| format!("c{number}")).collect();
            let casts: Vec<String> =
                columns().zip(&names).map(|(column, name)| format!("{name}::{}", column.type_name)).collect();
            let text = format!("SELECT {} FROM ({text}) AS source({})", casts.join(", "), names.join(", "));
            (Plan::Local(local), text)
        }
        other => (other, text),
    };
    let Some(distribution) = insert.table.distribution() else { return Err(unsupported()) };
    let key = insert.table.key_column().ok_or_else(unsupported)?;
    let names: Vec<String> = columns().map(|column| column.name.clone()).collect();
    let list: Vec<String> = names.iter().map(|name| quote_name(name)).collect();
    Ok(Plan::InsertSelect(InsertSelect {
        source: Box::new(source),
        text: Template::plain(text, params),
        copy: CopyIn {
            table: insert.table.name.clone(),
            columns: names,
            key: Some(CopyKey {
                colocation: distribution.colocation,
                bucket_count: distribution.bucket_count,
                field: insert.field,
                column: key.name.clone(),
                key: distribution.key_type,
                stored: key.declared_type.clone().filter(|_| !distribution.key_type.is_collatable()),
            }),
            format: CopyFormat::Text { delimiter: b'\t', null: "\\N".to_owned(), header: false },
            text: format!("COPY {} ({}) FROM STDIN", insert.table.name, list.join(", ")),
        },
    }))
}
