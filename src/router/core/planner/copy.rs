//! COPY: rows in are split by key, rows out are concatenated.

use super::{Input, Refused, insert, plan_node, survey::name_of};
use crate::router::core::{
    catalog::{Fill, Table, TableKind, quote_name},
    lexer,
    plan::{CopyFormat, CopyIn, CopyKey, CopyOut, Effect, Local, Merge, Piece, Plan, Probe, Refusal, Template},
    sql::{ConstValue, Node, Statement, location, nodes},
};

/// The plan of a COPY.
pub fn plan<'a>(input: &Input<'a>, statement: &Statement<'a>, copy: &'a nodes::CopyStmt) -> Result<Plan, Refused> {
    let by_client = copy.filename().is_none() && !copy.is_program;
    let probe = copy.relation().and_then(name_of).map(|name| {
        // The guard's trigger refuses rows, but only once the client is sending them.
        if copy.is_from { Probe::Name(name) } else { Probe::Read(name) }
    });
    let local = || {
        let effect = match (by_client, copy.is_from) {
            (true, true) => Some(Effect::CopyIn),
            (true, false) => Some(Effect::CopyOut),
            (false, _) => None,
        };
        let (effects, unguarded) = (effect.into_iter().collect(), probe.iter().cloned().collect());
        Plan::Local(Local { effects, read_only: false, unguarded })
    };
    let Some(var) = copy.relation() else {
        return match plan_node(input, statement, copy.query())? {
            Plan::Local(query) => match local() {
                Plan::Local(copy) => Ok(Plan::Local(Local { unguarded: query.unguarded, ..copy })),
                other => Ok(other),
            },
            Plan::Refuse(refusal) => Err(refusal),
            inner => query_out(statement, copy, inner),
        };
    };
    let Some(table) = input.table(var.schemaname(), var.relname().unwrap_or_default()) else { return Ok(local()) };
    if !by_client {
        return Err(Refusal::unsupported(
            format!("COPY of table \"{}\" with a file or program of the server is not supported", table.name.name),
            "Use COPY … FROM STDIN or TO STDOUT (in psql: \\copy).",
        )
        .into());
    }
    match (copy.is_from, &table.kind) {
        (true, _) => copy_in(statement, copy, table),
        (false, TableKind::Reference) => Ok(local()),
        (false, TableKind::Distributed(distribution)) => {
            let names: Vec<String> = if copy.attlist().is_empty() {
                let stored = table.columns.iter().filter(|column| column.fill != Fill::Generated);
                stored.map(|column| quote_name(&column.name)).collect()
            } else {
                copy.attlist().iter().filter_map(Node::as_str).map(quote_name).collect()
            };
            let (header, binary) = header_and_binary(copy);
            let options = options_text(statement, location(var.location)).ok_or_else(spelling)?;
            Ok(Plan::CopyOut(CopyOut {
                colocation: distribution.colocation,
                bucket_count: distribution.bucket_count,
                key: None,
                shard: Template::plain(
                    format!("COPY (SELECT {} FROM {}) TO STDOUT{options}", names.join(", "), table.name),
                    Vec::new(),
                ),
                header,
                binary,
            }))
        }
    }
}

fn spelling() -> Refused {
    Refusal::unsupported("this spelling of COPY is not supported", "Write COPY table (columns) TO STDOUT WITH (…).")
        .into()
}

/// What follows STDOUT.
fn options_text<'a>(statement: &Statement<'a>, from: Option<usize>) -> Option<&'a str> {
    let text = &statement.text[..statement.end];
    let mut at = from.unwrap_or(statement.start);
    loop {
        at = lexer::skip_space(text, at);
        if text.as_bytes().get(at)? == &b'(' {
            at = lexer::closing(text, at)?;
        } else {
            let end = lexer::token_end(text, at);
            if text[at..end].eq_ignore_ascii_case("stdout") {
                return Some(&text[end..]);
            }
            at = end;
        }
    }
}

fn query_out(statement: &Statement<'_>, copy: &nodes::CopyStmt, inner: Plan) -> Result<Plan, Refused> {
    if copy.filename().is_some() || copy.is_program {
        return Err(spelling());
    }
    let options = options_text(statement, None).ok_or_else(spelling)?;
    let (header, binary) = header_and_binary(copy);
    // The inner plan's text is that of the whole COPY where it is by the parents: take the query's own.
    let (colocation, bucket_count, key) = match inner {
        Plan::OneShard(one) if !one.is_write => (one.colocation, one.bucket_count, Some(one.key)),
        Plan::Scatter(scatter) if !scatter.is_write && scatter.merge == Merge::Concat => {
            (scatter.colocation, scatter.bucket_count, None)
        }
        _ => {
            return Err(Refusal::unsupported(
                "COPY of a query over several shards that must be merged or that writes is not supported",
                "Run the query itself, or copy its result into a local table first.",
            )
            .into());
        }
    };
    let query = crate::router::core::sql::deparse(copy.query()).ok_or_else(spelling)?;
    Ok(Plan::CopyOut(CopyOut {
        colocation,
        bucket_count,
        key,
        shard: Template { pieces: vec![Piece::Text(format!("COPY ({query}) TO STDOUT{options}"))], params: Vec::new() },
        header,
        binary,
    }))
}

/// An option's value as text; nothing written means true.
fn option_text(option: &nodes::DefElem) -> Option<String> {
    match option.arg() {
        Node::None => Some("true".to_owned()),
        Node::String(text) => text.sval().map(str::to_owned),
        Node::Integer(number) => Some(number.ival.to_string()),
        Node::Boolean(flag) => Some(flag.boolval.to_string()),
        Node::A_Const(value) => value.val().map(|value| match value {
            ConstValue::String(text) => text.to_owned(),
            other => other.to_string(),
        }),
        _ => None,
    }
}

fn is_true(text: &str) -> bool {
    ["true", "on", "1", "match"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn header_and_binary(copy: &nodes::CopyStmt) -> (bool, bool) {
    let value = |name: &str| copy.options().iter().find(|option| option.defname() == Some(name)).and_then(option_text);
    (value("header").is_some_and(|text| is_true(&text)), value("format").is_some_and(|format| format == "binary"))
}

fn copy_in(statement: &Statement<'_>, copy: &nodes::CopyStmt, table: &Table) -> Result<Plan, Refused> {
    let columns = if copy.attlist().is_empty() {
        (0..table.columns.len()).filter(|place| table.columns[*place].fill != Fill::Generated).collect()
    } else {
        insert::columns_of(table, copy.attlist())?
    };
    let key = match table.distribution() {
        None => {
            let uneven = |place: &usize| {
                matches!(table.columns[*place].fill, Fill::Default | Fill::Identity) && !columns.contains(place)
            };
            if let Some(place) = (0..table.columns.len()).find(|place| uneven(place)) {
                return Err(Refusal::unsupported(
                    format!(
                        "COPY into reference table \"{}\" leaves column \"{}\" to a default that would differ between copies",
                        table.name.name, table.columns[place].name
                    ),
                    "Give that column its values.",
                )
                .into());
            }
            None
        }
        Some(distribution) => {
            let field = insert::key_field(table, &columns)?;
            let column = &table.columns[distribution.key];
            Some(CopyKey {
                colocation: distribution.colocation,
                bucket_count: distribution.bucket_count,
                field,
                column: column.name.clone(),
                key: distribution.key_type,
                stored: column.declared_type.clone().filter(|_| !distribution.key_type.is_collatable()),
            })
        }
    };
    let key_name = table.key_column().map(|column| column.name.as_str());
    Ok(Plan::CopyIn(CopyIn {
        table: table.name.clone(),
        columns: columns.iter().map(|place| table.columns[*place].name.clone()).collect(),
        key,
        format: format(copy, key_name)?,
        text: statement.sql().to_owned(),
    }))
}

/// The options as written.
#[derive(Default)]
struct Options {
    format: Option<String>,
    delimiter: Option<u8>,
    null: Option<String>,
    header: bool,
    quote: Option<u8>,
    escape: Option<u8>,
    key_force_null: bool,
    key_force_not_null: bool,
}

fn one_byte(text: &str) -> Result<u8, Refused> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => Err(spelling()),
    }
}

fn format(copy: &nodes::CopyStmt, key: Option<&str>) -> Result<CopyFormat, Refused> {
    let mut options = Options::default();
    for option in copy.options() {
        let name = option.defname().unwrap_or_default();
        let text = option_text(option);
        let text = || text.clone().ok_or_else(spelling);
        let names_key = || match option.arg() {
            Node::NodeList(list) => list.iter().any(|item| item.as_str().is_some() && item.as_str() == key),
            _ => true,
        };
        match name {
            "format" => options.format = Some(text()?),
            "delimiter" => options.delimiter = Some(one_byte(&text()?)?),
            "null" => options.null = Some(text()?),
            "header" => options.header = is_true(&text()?),
            "quote" => options.quote = Some(one_byte(&text()?)?),
            "escape" => options.escape = Some(one_byte(&text()?)?),
            "force_null" => options.key_force_null = names_key(),
            "force_not_null" => options.key_force_not_null = names_key(),
            "freeze" => {}
            "encoding" if text()?.to_ascii_lowercase().replace('-', "") == "utf8" => {}
            _ => {
                return Err(Refusal::unsupported(
                    format!("COPY option {name} is not supported on distributed and reference tables"),
                    "Leave it out.",
                )
                .into());
            }
        }
    }
    Ok(match options.format.as_deref() {
        None | Some("text") => CopyFormat::Text {
            delimiter: options.delimiter.unwrap_or(b'\t'),
            null: options.null.unwrap_or_else(|| "\\N".to_owned()),
            header: options.header,
        },
        Some("csv") => CopyFormat::Csv {
            delimiter: options.delimiter.unwrap_or(b','),
            null: options.null.unwrap_or_default(),
            header: options.header,
            quote: options.quote.unwrap_or(b'"'),
            escape: options.escape.or(options.quote).unwrap_or(b'"'),
            key_force_null: options.key_force_null,
            key_force_not_null: options.key_force_not_null,
        },
        Some("binary") => CopyFormat::Binary,
        Some(_) => return Err(spelling()),
    })
}
