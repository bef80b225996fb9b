//! INSERT: where each row goes. One row to its leaf, several split by key, a SELECT on each shard by
//! itself where its rows stay there, else its rows split as they come.

use super::{Input, Refused, facts, insert_select, route, survey::Survey, write};
use crate::router::core::{
    catalog::{Fill, Table, TableKind},
    lexer,
    plan::{
        Command, InsertRow, InsertRows, KeySource, NullKey, OneShard, Piece, Plan, ReferenceWrite, Refusal, Template,
        null_key,
    },
    query::{Builder, Level, Query, constant},
    sql::{Node, NodeList, Recurse, Statement, location, nodes, walk_manual},
};

/// An INSERT into a distributed table, as far as it is understood.
pub struct Insert<'s, 'a> {
    pub input: &'s Input<'a>,
    pub statement: &'s Statement<'a>,
    pub node: &'a nodes::InsertStmt,
    pub table: &'a Table,
    /// The columns that are given values, by their place in the table.
    pub columns: Vec<usize>,
    /// Which of them is the distribution column.
    pub field: usize,
}

/// The plan of an INSERT.
pub fn plan<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    node: &'a nodes::InsertStmt,
    mut built: Builder<'a>,
    survey: &Survey,
) -> Result<Plan, Refused> {
    let target = node.relation().and_then(|var| input.table(var.schemaname(), var.relname()?));
    built.with(node.with_clause())?;
    let source = match node.select_stmt() {
        Node::SelectStmt(select) if select.values_lists().is_empty() => Some((select, built.select(select)?)),
        _ => None,
    };
    let parts = built.insert_parts(node)?;
    let Some(table) = target else {
        return if route::has_distributed(&built) {
            Err(Refusal::unsupported(
                "INSERT into a local table from distributed tables is not supported",
                "Distribute the table first, or COPY the rows out and in.",
            )
            .into())
        } else {
            Ok(Plan::Local(survey.local(statement.node)))
        };
    };
    let mut columns = columns_of(table, node.cols())?;
    // Without a list of columns the source may have fewer.
    if let (true, Some((_, Query::Level(level)))) = (node.cols().is_empty(), &source)
        && level.outputs_known
    {
        columns.truncate(level.outputs.len());
    }
    if table.kind == TableKind::Reference {
        return into_reference(statement, node, table, &columns, &built);
    }
    route::refuse_local(&built).or_else(|refused| match &source {
        // A source of local tables alone runs in the query group.
        Some(_) if route::only_target_distributed(&built) => Ok(()),
        _ => Err(refused),
    })?;
    let field = key_field(table, &columns)?;
    let insert = Insert { input, statement, node, table, columns, field };
    match source {
        Some((select, query)) => insert_select::plan(&insert, select, &query, parts, &built),
        None => rows(&insert, &built, &parts),
    }
}

/// The columns an INSERT names, or all.
pub fn columns_of(table: &Table, list: &NodeList) -> Result<Vec<usize>, Refused> {
    if list.is_empty() {
        return Ok((0..table.columns.len()).collect());
    }
    list.iter()
        .map(|item| {
            let name = match item {
                Node::ResTarget(target) => target.name(),
                Node::String(name) => name.sval(),
                _ => None,
            };
            let place = table.columns.iter().position(|column| Some(column.name.as_str()) == name);
            place.ok_or_else(|| {
                Box::new(Refusal {
                    sqlstate: "42703",
                    message: format!(
                        "column \"{}\" of relation \"{}\" does not exist",
                        name.unwrap_or_default(),
                        table.name.name
                    ),
                    detail: None,
                    hint: None,
                })
            })
        })
        .collect()
}

/// Where among the given columns the key is.
pub fn key_field(table: &Table, columns: &[usize]) -> Result<usize, Refused> {
    let key = table.distribution().map(|distribution| distribution.key);
    columns.iter().position(|place| Some(*place) == key).ok_or_else(|| no_key(table))
}

/// No value for the key.
fn no_key(table: &Table) -> Refused {
    let Some(column) = table.key_column() else { return null_key(&table.name.name, "").into() };
    match column.fill {
        Fill::Null => null_key(&table.name.name, &column.name).into(),
        _ => Refusal::unsupported(
            format!(
                "distribution column \"{}\" of table \"{}\" needs its value in the statement",
                column.name, table.name.name
            ),
            "Its default is evaluated too late to decide where the row lives: take the value first \
             (SELECT nextval(…), gen_random_uuid()) and insert it.",
        )
        .into(),
    }
}

impl Insert<'_, '_> {
    /// The parent must be named: the leaf lacks what the statement relies on.
    pub fn parent_only(&self) -> bool {
        let on_constraint = self
            .node
            .on_conflict_clause()
            .is_some_and(|conflict| conflict.infer().is_some_and(|infer| infer.conname().is_some()));
        let identity = self
            .table
            .columns
            .iter()
            .enumerate()
            .any(|(place, column)| column.fill == Fill::Identity && !self.columns.contains(&place));
        on_constraint || identity || self.table.statement_triggers || (self.table.has_identity() && self.has_default())
    }

    /// DEFAULT stands somewhere among the values.
    fn has_default(&self) -> bool {
        let mut found = false;
        walk_manual::<()>(self.node.select_stmt(), |node| {
            found |= matches!(node, Node::SetToDefault(_));
            Recurse::yes()
        });
        found
    }

    /// The error of a NULL key.
    pub fn null_key(&self) -> NullKey {
        NullKey::NotNull {
            table: self.table.name.name.clone(),
            column: self.table.key_column().map(|column| column.name.clone()).unwrap_or_default(),
        }
    }

    fn row_key(&self, row: Node<'_>) -> Result<KeySource, Refused> {
        let Node::NodeList(values) = row else { return Err(no_key(self.table)) };
        let column = self.table.key_column().map(|column| column.name.as_str()).unwrap_or_default();
        let value = match values.get(self.field) {
            None | Some(Node::SetToDefault(_)) => return Err(no_key(self.table)),
            Some(Node::A_Const(constant)) if constant.isnull => {
                return Err(null_key(&self.table.name.name, column).into());
            }
            Some(value) => value,
        };
        constant(value).and_then(|constant| facts::stored_source(self.input, constant, self.table)).ok_or_else(|| {
            Refusal::unsupported(
                format!(
                    "the value for distribution column \"{column}\" of table \"{}\" must be a constant or parameter of its type",
                    self.table.name.name
                ),
                "Compute the value first, then insert it.",
            )
            .into()
        })
    }
}

fn rows(insert: &Insert<'_, '_>, built: &Builder<'_>, parts: &Level<'_>) -> Result<Plan, Refused> {
    let Node::SelectStmt(select) = insert.node.select_stmt() else { return Err(no_key(insert.table)) };
    if !parts.links.is_empty() && !route::only_target_distributed(built) || !built.ctes.is_empty() {
        return Err(Refusal::unsupported(
            "INSERT … VALUES with WITH, or with a subquery on distributed tables, is not supported",
            "Use INSERT … SELECT, or read the value first.",
        )
        .into());
    }
    let keys: Vec<KeySource> = select.values_lists().iter().map(|row| insert.row_key(row)).collect::<Result<_, _>>()?;
    let Some(distribution) = insert.table.distribution() else { return Err(no_key(insert.table)) };
    let (colocation, bucket_count) = (distribution.colocation, distribution.bucket_count);
    if let [key] = keys.as_slice() {
        return Ok(Plan::OneShard(OneShard {
            colocation,
            bucket_count,
            key: key.clone(),
            text: route::one_bucket(insert.statement, built, insert.parent_only()),
            command: Command::Insert,
            is_write: true,
            null_key: insert.null_key(),
        }));
    }
    let split = split_rows(insert, keys.len()).ok_or_else(|| {
        Refused::new(Refusal::unsupported(
            "this spelling of INSERT … VALUES is not supported",
            "Insert the rows one by one.",
        ))
    })?;
    let piece = |start: usize, end: usize| {
        let text = &insert.statement.text[start..end];
        if insert.parent_only() || built.seen.parent_only {
            vec![Piece::Text(text.to_owned())]
        } else {
            route::by_leaf(insert.statement, built, start, end).unwrap_or_else(|| vec![Piece::Text(text.to_owned())])
        }
    };
    let rows = split.rows.iter().zip(keys).zip(select.values_lists()).map(|((range, key), row)| InsertRow {
        key,
        text: Template { pieces: piece(range.0, range.1), params: params_in(row) },
    });
    let mut tail_params = insert.node.on_conflict_clause().map_or(Vec::new(), |node| params_in(node.into()));
    tail_params.extend(insert.node.returning_clause().map_or(Vec::new(), |node| params_in(node.into())));
    Ok(Plan::InsertRows(InsertRows {
        colocation,
        bucket_count,
        head: Template { pieces: piece(insert.statement.start, split.rows[0].0), params: Vec::new() },
        rows: rows.collect(),
        tail: Template { pieces: piece(split.end, insert.statement.end), params: route::sorted(&tail_params) },
        null_key: insert.null_key(),
    }))
}

/// Where the rows stand in the text.
struct Split {
    rows: Vec<(usize, usize)>,
    end: usize,
}

/// Finds the rows; `None` if they are not as many as the parser saw.
fn split_rows(insert: &Insert<'_, '_>, count: usize) -> Option<Split> {
    let text = &insert.statement.text[..insert.statement.end];
    let mut at = lexer::dotted_name_end(text, location(insert.node.relation()?.location)?)?;
    loop {
        at = lexer::skip_space(text, at);
        if text.as_bytes().get(at)? == &b'(' {
            at = lexer::closing(text, at)?;
        } else {
            let end = lexer::token_end(text, at);
            let is_values = text[at..end].eq_ignore_ascii_case("values");
            at = end;
            if is_values {
                break;
            }
        }
    }
    let mut rows = Vec::with_capacity(count);
    loop {
        let start = lexer::skip_space(text, at);
        if text.as_bytes().get(start) != Some(&b'(') {
            return None;
        }
        let end = lexer::closing(text, start)?;
        rows.push((start, end));
        let next = lexer::skip_space(text, end);
        if text.as_bytes().get(next) != Some(&b',') {
            return (rows.len() == count).then_some(Split { rows, end });
        }
        at = next + 1;
    }
}

/// The parameters in a part of the tree, in order.
pub fn params_in(node: Node<'_>) -> Vec<u16> {
    let mut params = Vec::new();
    walk_manual::<()>(node, |node| {
        if let Node::ParamRef(param) = node
            && let Ok(number) = u16::try_from(param.number)
            && !params.contains(&number)
        {
            params.push(number);
        }
        Recurse::yes()
    });
    params.sort_unstable();
    params
}

fn into_reference(
    statement: &Statement<'_>,
    node: &nodes::InsertStmt,
    table: &Table,
    columns: &[usize],
    built: &Builder<'_>,
) -> Result<Plan, Refused> {
    if route::has_distributed(built) {
        return Err(Refusal::unsupported(
            "INSERT into a reference table from distributed tables is not supported",
            "Read the rows first, then insert them as constants, or with COPY.",
        )
        .into());
    }
    let uneven = |column: &crate::router::core::catalog::Column| matches!(column.fill, Fill::Default | Fill::Identity);
    let left_out = table.columns.iter().enumerate().any(|(place, column)| uneven(column) && !columns.contains(&place));
    let mut defaulted = matches!(node.select_stmt(), Node::None);
    if !defaulted {
        walk_manual::<()>(node.select_stmt(), |node| {
            defaulted |= matches!(node, Node::SetToDefault(_));
            Recurse::yes()
        });
        // A row may be shorter than the table.
        if let Node::SelectStmt(select) = node.select_stmt() {
            defaulted |=
                select.values_lists().iter().any(|row| row.as_node_list().is_none_or(|r| r.len() < columns.len()));
        }
    }
    let any_uneven = table.columns.iter().any(uneven);
    let plan = write::reference(statement, Command::Insert, built)?;
    Ok(match plan {
        Plan::ReferenceWrite(write) => {
            Plan::ReferenceWrite(ReferenceWrite { uneven_default: left_out || (defaulted && any_uneven), ..write })
        }
        other => other,
    })
}
