//! The DDL of a table's copies on one shard.
//!
//! Tables and leaves come first, then the rows, then what is quicker to build over rows that are there:
//! keys, indexes, foreign keys. All of it in one transaction.

use super::{
    check::check_foreign_keys,
    facts::{Column, Constraint, Facts},
};
use crate::router::core::{
    catalog::{leaf_name, quote_name},
    plan::Refusal,
};

/// What a table becomes.
#[derive(Debug, Clone, Copy)]
pub enum Copies<'a> {
    /// A parent, and leaves of the buckets that the shard holds.
    Distributed {
        /// Distribution column.
        key: &'a str,
        /// Its colocation group.
        colocation: u32,
        /// The modulus.
        bucket_count: u32,
        /// The shard's buckets.
        buckets: &'a [u32],
    },
    /// The whole table.
    Reference,
}

/// The statements, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardDdl {
    /// Before the rows are copied.
    pub before: Vec<String>,
    /// After.
    pub after: Vec<String>,
}

impl ShardDdl {
    /// For the shard with this number (`shard-3` has 3), which makes its sequences' ranges.
    pub fn new(facts: &Facts, copies: Copies<'_>, shard: u32) -> Result<Self, Refusal> {
        if let Copies::Distributed { key, colocation, .. } = copies {
            check_foreign_keys(facts, key, colocation)?;
        }
        let mut before = vec![schema(facts)];
        let mut owned = Vec::new();
        for column in &facts.columns {
            let Some((create, own)) = sequence(facts, column, copies, shard)? else { continue };
            before.push(create);
            owned.push(own);
        }
        before.push(table(facts, copies, shard)?);
        before.extend(owned);
        if let Copies::Distributed { bucket_count, buckets, .. } = copies {
            before.extend(buckets.iter().map(|bucket| leaf(facts, *bucket, bucket_count)));
        }
        Ok(Self { before, after: after(facts, copies) })
    }
}

/// A text as a literal.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Schemas are propagated when they are made; this is for those that were there before.
fn schema(facts: &Facts) -> String {
    let name = quote_name(&facts.schema);
    let body = format!("BEGIN IF to_regnamespace({}) IS NULL THEN CREATE SCHEMA {name}; END IF; END", literal(&name));
    format!("DO {}", literal(&body))
}

fn table(facts: &Facts, copies: Copies<'_>, shard: u32) -> Result<String, Refusal> {
    let mut parts = Vec::new();
    for column in &facts.columns {
        parts.push(column_definition(facts, column, copies, shard)?);
    }
    let checks = facts.constraints.iter().filter(|constraint| constraint.kind == 'c');
    parts.extend(checks.map(|check| format!("CONSTRAINT {} {}", check.name, check.definition)));
    let body = parts.join(", ");
    Ok(match copies {
        Copies::Distributed { key, .. } => {
            format!("CREATE TABLE {} ({body}) PARTITION BY HASH ({})", facts.quoted, quote_name(key))
        }
        Copies::Reference => {
            format!("CREATE {}TABLE {} ({body}){}", unlogged(facts), facts.quoted, options(facts))
        }
    })
}

fn leaf(facts: &Facts, bucket: u32, bucket_count: u32) -> String {
    format!(
        "CREATE {}TABLE {} PARTITION OF {} FOR VALUES WITH (MODULUS {bucket_count}, REMAINDER {bucket}){}",
        unlogged(facts),
        leaf_of(&facts.schema, &facts.name, bucket, bucket_count),
        facts.quoted,
        options(facts)
    )
}

fn leaf_of(schema: &str, name: &str, bucket: u32, bucket_count: u32) -> String {
    format!("{}.{}", quote_name(schema), quote_name(&leaf_name(name, bucket, bucket_count)))
}

fn unlogged(facts: &Facts) -> &'static str {
    if facts.persistence == 'u' { "UNLOGGED " } else { "" }
}

fn options(facts: &Facts) -> String {
    facts.options.as_ref().map(|options| format!(" WITH ({options})")).unwrap_or_default()
}

/// The value comes with the row: of the distribution column, because it decides where the row goes; of a
/// reference table, because every copy must have the same.
fn value_is_given(column: &Column, copies: Copies<'_>) -> bool {
    match copies {
        Copies::Distributed { key, .. } => key == column.name,
        Copies::Reference => true,
    }
}

fn column_definition(facts: &Facts, column: &Column, copies: Copies<'_>, shard: u32) -> Result<String, Refusal> {
    use std::fmt::Write as _;
    let mut text = format!("{} {}", column.quoted, column.declared);
    let mut add = |args: std::fmt::Arguments<'_>| text.write_fmt(args).expect("writing to a string cannot fail");
    if let Some(collation) = &column.collation {
        add(format_args!(" COLLATE {collation}"));
    }
    if column.not_null {
        add(format_args!(" NOT NULL"));
    }
    if let Some(expression) = &column.generated {
        add(format_args!(" GENERATED ALWAYS AS ({expression}) STORED"));
    } else if column.sequence.is_some() && value_is_given(column, copies) {
        // No default: a row without the value is a mistake, and says so.
    } else if let (true, Some(sequence)) = (column.identity, &column.sequence) {
        let range = range(facts, column, shard)?;
        add(format_args!(" GENERATED BY DEFAULT AS IDENTITY (SEQUENCE NAME {} {range})", sequence.quoted));
    } else if let Some(expression) = &column.default {
        add(format_args!(" DEFAULT {expression}"));
    }
    Ok(text)
}

/// The sequence behind a default, and what ties it to its column.
fn sequence(
    facts: &Facts,
    column: &Column,
    copies: Copies<'_>,
    shard: u32,
) -> Result<Option<(String, String)>, Refusal> {
    let Some(sequence) = column.sequence.as_ref().filter(|_| !column.identity && !value_is_given(column, copies))
    else {
        return Ok(None);
    };
    let range = range(facts, column, shard)?;
    Ok(Some((
        format!("CREATE SEQUENCE IF NOT EXISTS {} AS {} {range}", sequence.quoted, sequence.declared),
        format!("ALTER SEQUENCE {} OWNED BY {}.{}", sequence.quoted, facts.quoted, column.quoted),
    )))
}

/// The shard's own part of a sequence's numbers: 2^48 of a bigint as in Citus, 2^25 of an integer (63
/// shards). The query group's sequence keeps the numbers below, which existing rows have.
fn range(facts: &Facts, column: &Column, shard: u32) -> Result<String, Refusal> {
    let Some(sequence) = &column.sequence else { return Ok(String::new()) };
    let (bits, most) = match (sequence.declared.as_str(), column.base_type.as_str()) {
        ("bigint", "bigint" | "numeric") => (48, 32_767),
        ("integer" | "bigint", "integer" | "bigint") => (25, 63),
        _ => (0, 0),
    };
    if shard > most || sequence.increment < 1 {
        let column = format!("column \"{}\" of \"{}\"", column.name, facts.name);
        return Err(Refusal {
            sqlstate: "0A000",
            message: format!("the sequence of {column} has no numbers for shard {shard}"),
            detail: Some("Every shard draws from a range of its own.".to_owned()),
            hint: Some("Make the column and its sequence bigint, counting upwards.".to_owned()),
        });
    }
    let first = (i64::from(shard) << bits) + 1;
    let last = ((i64::from(shard) + 1) << bits) - 1;
    let (step, cache) = (sequence.increment, sequence.cache);
    Ok(format!("INCREMENT BY {step} MINVALUE {first} MAXVALUE {last} START WITH {first} CACHE {cache}"))
}

fn after(facts: &Facts, copies: Copies<'_>) -> Vec<String> {
    let table = &facts.quoted;
    let add = |constraint: &Constraint| {
        format!("ALTER TABLE {table} ADD CONSTRAINT {} {}", constraint.name, constraint.definition)
    };
    let keys = facts.constraints.iter().filter(|constraint| matches!(constraint.kind, 'p' | 'u' | 'x'));
    let mut after: Vec<String> = keys.map(add).collect();
    after.extend(facts.indexes.iter().map(|index| index.definition.clone()));
    for constraint in facts.constraints.iter().filter(|constraint| constraint.kind == 'f') {
        match copies {
            Copies::Distributed { bucket_count, buckets, .. } if !to_reference(constraint) => {
                after.extend(leaf_foreign_keys(facts, constraint, bucket_count, buckets));
            }
            _ => after.push(add(constraint)),
        }
    }
    if let Some(comment) = &facts.comment {
        after.push(format!("COMMENT ON TABLE {table} IS {}", literal(comment)));
    }
    let comments = facts.columns.iter().filter_map(|column| Some((column, column.comment.as_ref()?)));
    after.extend(
        comments
            .map(|(column, comment)| format!("COMMENT ON COLUMN {table}.{} IS {}", column.quoted, literal(comment))),
    );
    after.extend(facts.grants.iter().map(|grant| {
        let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
        format!("GRANT {} ON {table} TO {}{option}", grant.privilege, grant.grantee)
    }));
    if !facts.owner_is_me {
        after.push(format!("ALTER TABLE {table} OWNER TO {}", facts.owner));
    }
    if matches!(copies, Copies::Distributed { .. }) {
        after.push(align(facts));
    }
    after
}

/// Gives the leaves their parent's owner, grants and index names.
fn align(facts: &Facts) -> String {
    format!("SELECT howdah.align_leaves({}::regclass)", literal(&facts.quoted))
}

fn to_reference(constraint: &Constraint) -> bool {
    constraint.target.as_ref().is_some_and(|target| target.kind.as_deref() == Some("reference"))
}

/// A foreign key between colocated tables, leaf by leaf: a leaf is complete by itself.
pub(crate) fn leaf_foreign_keys(
    facts: &Facts,
    constraint: &Constraint,
    bucket_count: u32,
    buckets: &[u32],
) -> Vec<String> {
    let Some(target) = &constraint.target else { return Vec::new() };
    let statement = |bucket: &u32| {
        let to = leaf_of(&target.schema, &target.name, *bucket, bucket_count);
        let definition =
            constraint.definition.replacen(&format!("REFERENCES {}(", target.quoted), &format!("REFERENCES {to}("), 1);
        let from = leaf_of(&facts.schema, &facts.name, *bucket, bucket_count);
        format!("ALTER TABLE {from} ADD CONSTRAINT {} {definition}", constraint.name)
    };
    buckets.iter().map(statement).collect()
}
