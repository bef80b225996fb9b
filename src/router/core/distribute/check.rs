//! What forbids that a table be distributed, or become a reference table, each with a reason and a way
//! out. The words are those Citus's users know, where it has them.

use super::facts::{Column, Constraint, Facts};
use crate::router::core::{hash::KeyType, plan::Refusal};

/// How a table is to be spread.
#[derive(Debug, Clone, Copy)]
pub struct Spread<'a> {
    /// The distribution column.
    pub key: &'a Column,
    /// Its type.
    pub key_type: KeyType,
}

fn refusal(sqlstate: &'static str, message: String, detail: Option<&str>, hint: Option<&str>) -> Refusal {
    Refusal { sqlstate, message, detail: detail.map(str::to_owned), hint: hint.map(str::to_owned) }
}

/// May the table be distributed by `column`? (Where its foreign keys lead is checked once the colocation
/// group is known: [`check_foreign_keys`].)
pub fn check_distribute<'a>(facts: &'a Facts, column: &str) -> Result<Spread<'a>, Refusal> {
    check_table(facts)?;
    let name = &facts.name;
    let key = facts.column(column).ok_or_else(|| {
        refusal("42703", format!("column \"{column}\" of relation \"{name}\" does not exist"), None, None)
    })?;
    if key.generated.is_some() {
        let detail = "Distribution column must not use GENERATED ALWAYS AS (...) STORED.";
        return Err(refusal("0A000", format!("cannot distribute relation: {name}"), Some(detail), None));
    }
    let Some(key_type) = KeyType::from_oid(key.type_oid) else {
        let message = format!("cannot distribute \"{name}\" by column \"{column}\" of type {}", key.base_type);
        let hint = "Distribute by a number, text, uuid, date, time or bytea column.";
        return Err(refusal("0A000", message, None, Some(hint)));
    };
    if !key.deterministic {
        let message =
            format!("cannot distribute \"{name}\" by column \"{column}\": its collation is not deterministic");
        return Err(refusal("0A000", message, None, Some("Use a deterministic collation for the column.")));
    }
    for constraint in &facts.constraints {
        check_key_constraint(facts, constraint, column)?;
    }
    let unique = facts.indexes.iter().filter(|index| index.unique);
    for index in unique {
        if !contains(index.columns.as_deref(), column) {
            return Err(lacks_key(facts, column));
        }
    }
    Ok(Spread { key, key_type })
}

/// May the table become a reference table?
pub fn check_reference(facts: &Facts) -> Result<(), Refusal> {
    check_table(facts)?;
    for constraint in &facts.constraints {
        let Some(target) = &constraint.target else { continue };
        if target.oid != facts.oid && target.kind.as_deref() != Some("reference") {
            let message =
                format!("cannot make \"{}\" a reference table: it references \"{}\"", facts.name, target.name);
            let hint = format!("Call create_reference_table('{}') first.", target.quoted);
            return Err(refusal("0A000", message, None, Some(&hint)));
        }
    }
    Ok(())
}

/// Do the foreign keys lead to reference tables, or on the key to tables of the same colocation group?
pub(super) fn check_foreign_keys(facts: &Facts, key: &str, colocation: u32) -> Result<(), Refusal> {
    for constraint in &facts.constraints {
        let (Some(target), Some(columns)) = (&constraint.target, &constraint.columns) else { continue };
        if target.kind.as_deref() == Some("reference") {
            continue;
        }
        let itself = target.oid == facts.oid;
        if !itself && target.kind.is_none() {
            let message =
                format!("cannot distribute \"{}\": it references the local table \"{}\"", facts.name, target.name);
            let hint = format!(
                "Call create_reference_table('{}') or create_distributed_table('{0}', …) first.",
                target.quoted
            );
            return Err(refusal("0A000", message, None, Some(&hint)));
        }
        let target_key = if itself { Some(key) } else { target.key.as_deref() };
        let on_key =
            columns.iter().zip(&target.columns).any(|(from, to)| from == key && Some(to.as_str()) == target_key);
        if !(itself || target.colocation == Some(colocation)) || !on_key {
            let message = format!(
                "cannot create foreign key constraint since relations are not colocated or not referencing a reference table: {} of \"{}\"",
                constraint.name, facts.name
            );
            let detail = "A distributed table can only have foreign keys if it is referencing another colocated hash distributed table on the distribution column, or a reference table";
            return Err(refusal("0A000", message, Some(detail), None));
        }
    }
    Ok(())
}

/// What holds for both kinds.
fn check_table(facts: &Facts) -> Result<(), Refusal> {
    let name = &facts.name;
    if let Some(known) = &facts.distributed {
        let message = match known.kind.as_str() {
            "reference" => format!("table \"{name}\" is already a reference table"),
            _ => format!("table \"{name}\" is already distributed"),
        };
        return Err(refusal("42P16", message, None, Some("Call undistribute_table first.")));
    }
    if !facts.owned {
        return Err(refusal("42501", format!("must be owner of table {name}"), None, None));
    }
    let reason = match facts.kind {
        'r' if facts.persistence == 't' => "temporary tables",
        'r' if facts.partition => "partitions",
        'r' if facts.inherits => "tables with inheritance",
        'r' if facts.row_security => "tables with row security",
        'r' if facts.rules => "tables with rules",
        'r' if !facts.triggers.is_empty() => "tables with triggers",
        'r' if facts.schema == "pg_catalog" || facts.schema == "information_schema" || facts.schema == "howdah" => {
            "system tables"
        }
        'r' => return Ok(()),
        'p' => "tables that are already partitioned",
        'f' => "foreign tables",
        'v' | 'm' => "views",
        _ => {
            return Err(refusal("42809", format!("\"{name}\" is not a table"), None, None));
        }
    };
    Err(refusal("0A000", format!("cannot distribute \"{name}\": {reason} are not supported"), None, None))
}

fn check_key_constraint(facts: &Facts, constraint: &Constraint, column: &str) -> Result<(), Refusal> {
    match constraint.kind {
        'x' => {
            let message = format!("cannot create constraint on \"{}\"", facts.name);
            let detail = "Exclusion constraints of distributed tables are not supported.";
            Err(refusal("0A000", message, Some(detail), Some("Drop the constraint first.")))
        }
        'p' | 'u' if !contains(constraint.columns.as_deref(), column) => Err(lacks_key(facts, column)),
        'c' if constraint.definition.ends_with("NO INHERIT") => {
            let message =
                format!("cannot distribute \"{}\": CHECK constraint {} is NO INHERIT", facts.name, constraint.name);
            Err(refusal("0A000", message, None, Some("Drop the constraint, and add it without NO INHERIT.")))
        }
        _ => Ok(()),
    }
}

fn contains(columns: Option<&[String]>, column: &str) -> bool {
    columns.is_some_and(|columns| columns.iter().any(|name| name == column))
}

fn lacks_key(facts: &Facts, column: &str) -> Refusal {
    let detail = "Distributed relations cannot have UNIQUE, EXCLUDE, or PRIMARY KEY constraints that do not include the partition column (with an equality operator if EXCLUDE).";
    let hint = format!("Add column \"{column}\" to the key, or distribute by a column that is part of it.");
    refusal("0A000", format!("cannot create constraint on \"{}\"", facts.name), Some(detail), Some(&hint))
}
