//! ALTER TABLE on distributed and reference tables: each subcommand is known to be right with the same
//! text on the parent of every shard and on the shell, or it is refused.

use super::{Input, Refused, ddl};
use crate::router::core::{
    catalog::{Table, TableKind},
    plan::{DdlKind, Plan, Refusal},
    sql::{AlterTableType, ConstrType, Node, ObjectType, Statement, nodes},
};

fn refused(table: &Table, what: &str, hint: &str) -> Refused {
    Refusal::unsupported(
        format!("{what} is not supported on distributed or reference table \"{}\"", table.name.name),
        hint,
    )
    .into()
}

/// ALTER TABLE, and what shares its grammar.
pub fn table<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    alter: &'a nodes::AlterTableStmt,
) -> Result<Plan, Refused> {
    let Some(var) = alter.relation() else { return Ok(ddl::schema_change()) };
    let name = var.relname().unwrap_or_default();
    let table = match alter.objtype {
        ObjectType::OBJECT_INDEX => input.catalog.table_of_index(var.schemaname(), name, input.search_path),
        _ => input.table(var.schemaname(), name),
    };
    let Some(table) = table else {
        return no_foreign_key_to_ours(input, alter).map(|()| ddl::schema_change());
    };
    if !var.inh || alter.objtype != ObjectType::OBJECT_TABLE {
        return Err(refused(table, "ALTER … ONLY, or of an index", "Change the table itself."));
    }
    for command in alter.cmds() {
        let Node::AlterTableCmd(command) = command else {
            return Err(refused(table, "this ALTER TABLE", "Undistribute the table first."));
        };
        subcommand(input, table, command)?;
    }
    Ok(ddl::everywhere(statement, DdlKind::Everywhere, vec![table]))
}

/// A local table must not come to reference a shell, which is empty.
fn no_foreign_key_to_ours(input: &Input<'_>, alter: &nodes::AlterTableStmt) -> Result<(), Refused> {
    for command in alter.cmds() {
        if let Node::AlterTableCmd(command) = command
            && let Node::Constraint(constraint) = command.def()
            && let Some(var) = constraint.pktable()
            && let Some(table) = input.table(var.schemaname(), var.relname().unwrap_or_default())
            && table.distribution().is_some()
        {
            return Err(Refusal::unsupported(
                format!("a local table cannot reference distributed table \"{}\"", table.name.name),
                "Distribute it with colocate_with first.",
            )
            .into());
        }
    }
    Ok(())
}

fn subcommand(input: &Input<'_>, table: &Table, command: &nodes::AlterTableCmd) -> Result<(), Refused> {
    let on_key = table.key_column().is_some_and(|key| Some(key.name.as_str()) == command.name());
    match command.subtype {
        AlterTableType::AT_AddColumn => match command.def() {
            Node::ColumnDef(column) => add_column(table, column),
            _ => Err(refused(table, "this ADD COLUMN", "Add a plain column.")),
        },
        AlterTableType::AT_DropColumn | AlterTableType::AT_AlterColumnType | AlterTableType::AT_DropNotNull
            if on_key =>
        {
            Err(refused(table, "changing the distribution column", "Undistribute the table first."))
        }
        AlterTableType::AT_DropColumn
        | AlterTableType::AT_AlterColumnType
        | AlterTableType::AT_ColumnDefault
        | AlterTableType::AT_DropNotNull
        | AlterTableType::AT_SetNotNull
        | AlterTableType::AT_DropConstraint
        | AlterTableType::AT_ValidateConstraint
        | AlterTableType::AT_SetStatistics => Ok(()),
        AlterTableType::AT_AddConstraint => match command.def() {
            Node::Constraint(constraint) => add_constraint(input, table, constraint),
            _ => Err(refused(table, "this constraint", "Declare it before the table is distributed.")),
        },
        _ => Err(refused(
            table,
            "this form of ALTER TABLE",
            "Supported are ADD, DROP and ALTER COLUMN, and ADD and DROP CONSTRAINT; for others undistribute the table first.",
        )),
    }
}

fn add_column(table: &Table, column: &nodes::ColumnDef) -> Result<(), Refused> {
    let type_name = column.type_name().and_then(|name| name.names().iter().next_back().and_then(nodes::String::sval));
    let serial = type_name
        .is_some_and(|name| matches!(name, "serial" | "bigserial" | "smallserial" | "serial2" | "serial4" | "serial8"));
    let plain = column.constraints().iter().all(|node| match node {
        Node::Constraint(constraint) => {
            matches!(
                constraint.contype,
                ConstrType::CONSTR_NULL | ConstrType::CONSTR_NOTNULL | ConstrType::CONSTR_CHECK
            ) || constraint.contype == ConstrType::CONSTR_DEFAULT && !calls(constraint.raw_expr())
        }
        _ => false,
    });
    if serial || !plain {
        return Err(refused(
            table,
            "a new column that is serial, identity, generated, unique, a reference, or filled by a function",
            "Add a plain column, then fill it, then add the constraint.",
        ));
    }
    Ok(())
}

/// A function call stands in the expression: its value may differ between groups.
fn calls(node: Node<'_>) -> bool {
    let mut found = matches!(node, Node::FuncCall(_) | Node::SQLValueFunction(_));
    if !matches!(node, Node::None) {
        crate::router::core::sql::walk_manual::<()>(node, |node| {
            found |= matches!(node, Node::FuncCall(_) | Node::SQLValueFunction(_));
            crate::router::core::sql::Recurse::yes()
        });
    }
    found
}

fn add_constraint(input: &Input<'_>, table: &Table, constraint: &nodes::Constraint) -> Result<(), Refused> {
    match constraint.contype {
        ConstrType::CONSTR_CHECK => Ok(()),
        ConstrType::CONSTR_PRIMARY | ConstrType::CONSTR_UNIQUE if constraint.indexname().is_none() => {
            let key = table.key_column().map(|column| column.name.as_str());
            let has_key = key.is_none_or(|key| constraint.keys().iter().any(|name| name.as_str() == Some(key)));
            if has_key {
                Ok(())
            } else {
                Err(refused(
                    table,
                    "a unique constraint without the distribution column",
                    "Add the distribution column to it.",
                ))
            }
        }
        ConstrType::CONSTR_FOREIGN => {
            let referenced = constraint
                .pktable()
                .and_then(|var| input.table(var.schemaname(), var.relname().unwrap_or_default()))
                .map(|table| table.kind);
            match referenced {
                Some(TableKind::Reference) => Ok(()),
                _ => Err(refused(
                    table,
                    "a new foreign key to a table that is not a reference table",
                    "Declare foreign keys between colocated tables before distributing them.",
                )),
            }
        }
        _ => Err(refused(table, "this constraint", "Declare it before the table is distributed.")),
    }
}

/// ALTER … RENAME.
pub fn rename<'a>(
    input: &Input<'a>,
    statement: &Statement<'a>,
    rename: &'a nodes::RenameStmt,
) -> Result<Plan, Refused> {
    let Some(var) = rename.relation() else { return Ok(ddl::schema_change()) };
    let name = var.relname().unwrap_or_default();
    let table = match rename.rename_type {
        ObjectType::OBJECT_INDEX => input.catalog.table_of_index(var.schemaname(), name, input.search_path),
        _ => input.table(var.schemaname(), name),
    };
    match (table, rename.rename_type) {
        (None, _) => Ok(ddl::schema_change()),
        (Some(table), ObjectType::OBJECT_COLUMN) if var.inh => {
            Ok(ddl::everywhere(statement, DdlKind::Everywhere, vec![table]))
        }
        (Some(table), _) => Err(refused(
            table,
            "renaming a table, index or constraint",
            "Undistribute the table, rename, and distribute it again.",
        )),
    }
}
