//! `SELECT create_distributed_table('orders', 'customer_id')` and its like: a call of one of Howdah's
//! functions as the whole of a SELECT. Positional and named arguments, constants only.

use super::Refused;
use crate::router::core::{
    plan::{ColocateWith, Function, Plan, Refusal},
    query::{Const, constant},
    sql::{Node, nodes},
};

/// One argument: its name or place, and its text; `None`: NULL.
type Arguments = Vec<(Option<String>, Option<String>)>;

/// The plan, if the statement is such a call.
pub fn plan(_input: &super::Input<'_>, select: &nodes::SelectStmt) -> Result<Option<Plan>, Refused> {
    let mut targets = select.target_list().iter();
    let (Some(target), None) = (targets.next(), targets.next()) else { return Ok(None) };
    let Node::FuncCall(call) = target.val() else { return Ok(None) };
    if !select.from_clause().is_empty() || !matches!(select.where_clause(), Node::None) {
        return Ok(None);
    }
    let names = crate::router::core::sql::names(call.funcname()).unwrap_or_default();
    let name = match names.as_slice() {
        [name] | ["pg_catalog" | "public", name] => *name,
        _ => return Ok(None),
    };
    Ok(match name {
        "create_distributed_table" => Some(distribute(&arguments(call, name)?)?),
        "create_reference_table" => {
            let table = required(&arguments(call, name)?, 0, "table_name", name)?;
            Some(Plan::Function(Function::Reference { table }))
        }
        "undistribute_table" => {
            let table = required(&arguments(call, name)?, 0, "table_name", name)?;
            Some(Plan::Function(Function::Undistribute { table }))
        }
        "get_shard_id_for_distribution_column" => {
            let arguments = arguments(call, name)?;
            let table = required(&arguments, 0, "table_name", name)?;
            let value = argument(&arguments, 1, "distribution_value").cloned().flatten();
            Some(Plan::Function(Function::ShardId { table, value }))
        }
        _ => None,
    })
}

fn distribute(arguments: &Arguments) -> Result<Plan, Refused> {
    let name = "create_distributed_table";
    if let Some(Some(kind)) = argument(arguments, 2, "distribution_type")
        && kind != "hash"
    {
        return Err(Refusal::unsupported(
            format!("distribution type \"{kind}\" is not supported"),
            "Tables are distributed by hash: leave distribution_type out.",
        )
        .into());
    }
    let colocate_with = match argument(arguments, 3, "colocate_with").cloned().flatten() {
        None => ColocateWith::Default,
        Some(word) if word.eq_ignore_ascii_case("default") => ColocateWith::Default,
        Some(word) if word.eq_ignore_ascii_case("none") => ColocateWith::None,
        Some(table) => ColocateWith::Table(table),
    };
    let bucket_count = match argument(arguments, 4, "shard_count").cloned().flatten() {
        None => None,
        Some(text) => match text.parse() {
            Ok(count @ 1..=MOST_BUCKETS) => Some(count),
            _ => return Err(invalid(name, &format!("shard_count must be between 1 and {MOST_BUCKETS}"))),
        },
    };
    Ok(Plan::Function(Function::Distribute {
        table: required(arguments, 0, "table_name", name)?,
        column: required(arguments, 1, "distribution_column", name)?,
        colocate_with,
        bucket_count,
    }))
}

/// Each bucket of each table is a table: more of them than this make planning and catalogs slow.
const MOST_BUCKETS: u32 = 2_048;

fn invalid(function: &str, what: &str) -> Refused {
    Refused::new(Refusal {
        sqlstate: "22023",
        message: format!("{function}(): {what}"),
        detail: None,
        hint: Some(format!("For example: SELECT {function}('orders', 'customer_id').")),
    })
}

fn argument<'l>(arguments: &'l Arguments, place: usize, name: &str) -> Option<&'l Option<String>> {
    let named = arguments.iter().find(|(given, _)| given.as_deref() == Some(name));
    let placed = || arguments.get(place).filter(|(given, _)| given.is_none());
    named.or_else(placed).map(|(_, text)| text)
}

fn required(arguments: &Arguments, place: usize, name: &str, function: &str) -> Result<String, Refused> {
    argument(arguments, place, name).cloned().flatten().ok_or_else(|| invalid(function, &format!("{name} is missing")))
}

fn arguments(call: &nodes::FuncCall, function: &str) -> Result<Arguments, Refused> {
    call.args()
        .iter()
        .map(|node| match node {
            Node::NamedArgExpr(named) => Ok((named.name().map(str::to_owned), text(named.arg(), function)?)),
            other => Ok((None, text(other, function)?)),
        })
        .collect()
}

/// A constant's text, whatever it is cast to (`'orders'::regclass`).
fn text(node: Node<'_>, function: &str) -> Result<Option<String>, Refused> {
    match node {
        Node::TypeCast(cast) => text(cast.arg(), function),
        Node::A_Const(value) if value.isnull => Ok(None),
        _ => match constant(node) {
            Some(Const::String(text, _) | Const::Number(text, _)) => Ok(Some(text.to_owned())),
            Some(Const::Integer(number, _)) => Ok(Some(number.to_string())),
            Some(Const::Boolean(value)) => Ok(Some(value.to_string())),
            Some(Const::Param(..)) | None => Err(invalid(function, "arguments must be constants")),
        },
    }
}
