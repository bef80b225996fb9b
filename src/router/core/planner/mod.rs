//! From a statement to its plan. Pure: catalog, search path and parameter types are arguments. Every
//! plan is a proof that the statement means the same on the shards; what is not proved is refused.
//! Called by the router's session, which caches plans.

#![allow(clippy::unnecessary_box_returns, reason = "a refusal travels boxed: it is rare and wide")]

mod alter;
mod bind;
mod call;
mod copy;
mod ddl;
mod expression;
mod facts;
mod insert;
mod insert_select;
mod read;
mod route;
mod scatter;
mod spread;
mod survey;
mod utility;
mod write;

use std::collections::BTreeSet;

use super::{
    catalog::{Catalog, Table},
    plan::{Command, Local, Plan, Planned, Refusal},
    query::Builder,
    sql::{Node, Parsed, Statement},
};
use survey::Survey;

/// A refusal on its way up.
pub type Refused = Box<Refusal>;

/// What a statement's meaning depends on beside its text.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Tables.
    pub catalog: &'a Catalog,
    /// Effective search path (`current_schemas(false)`, `"$user"` resolved), without temporary schemas.
    pub search_path: &'a [String],
    /// Names of the session's temporary relations: they shadow.
    pub temporary: &'a BTreeSet<String>,
    /// Parameter types the client declared or the server described, by position; 0 or missing: unknown.
    pub param_types: &'a [u32],
    /// The setting: with `off` a backslash escapes in every string, and locations are not what the
    /// parser thinks.
    pub standard_conforming_strings: bool,
}

impl<'a> Input<'a> {
    /// The distributed or reference table that a name means.
    pub fn table(&self, schema: Option<&str>, name: &str) -> Option<&'a Table> {
        if schema.is_none() && self.temporary.contains(name) {
            return None;
        }
        self.catalog.resolve(schema, name, self.search_path)
    }
}

/// Plans every statement of a query string. Where an earlier one changes what names mean (`SET
/// search_path`), plan one by one with [`plan`]. Text that is not SQL is one local statement:
/// `PostgreSQL` says what is wrong with it.
pub fn plan_text(input: &Input<'_>, text: &str) -> Vec<Planned> {
    match Parsed::new(text) {
        Ok(parsed) => (0..parsed.len())
            .filter_map(|index| parsed.get(index))
            .map(|statement| Planned { range: statement.range(), plan: plan(input, &statement) })
            .collect(),
        Err(_) => vec![Planned { range: 0..text.len(), plan: Plan::Local(Local::default()) }],
    }
}

/// Plans one statement.
pub fn plan(input: &Input<'_>, statement: &Statement<'_>) -> Plan {
    plan_node(input, statement, statement.node).unwrap_or_else(Plan::Refuse)
}

/// Plans a statement or the one inside it (`EXPLAIN`, `PREPARE`).
fn plan_node<'a>(input: &Input<'a>, statement: &Statement<'a>, node: Node<'a>) -> Result<Plan, Refused> {
    match node {
        Node::SelectStmt(_) | Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_) => {
            plan_query(input, statement, node)
        }
        _ => utility::plan(input, statement, node),
    }
}

fn plan_query<'a>(input: &Input<'a>, statement: &Statement<'a>, node: Node<'a>) -> Result<Plan, Refused> {
    if let Node::SelectStmt(select) = node
        && let Some(plan) = call::plan(input, select)?
    {
        return Ok(plan);
    }
    let survey = Survey::of(input, node);
    if !survey.named {
        return Ok(Plan::Local(survey.local(node)));
    }
    if !input.standard_conforming_strings && statement.sql().contains('\\') {
        return Err(Refusal::unsupported(
            "backslashes in strings are not supported over distributed tables while standard_conforming_strings is off",
            "SET standard_conforming_strings = on, and write escapes as E'\\\\'.",
        )
        .into());
    }
    let mut builder = Builder::new(input);
    match node {
        Node::SelectStmt(select) => read::plan(input, statement, select, builder, &survey),
        Node::InsertStmt(insert) => insert::plan(input, statement, insert, builder, &survey),
        Node::UpdateStmt(update) => {
            let level = builder.update(update)?;
            write::plan(input, statement, Command::Update, &builder, &level, &survey)
        }
        Node::DeleteStmt(delete) => {
            let level = builder.delete(delete)?;
            write::plan(input, statement, Command::Delete, &builder, &level, &survey)
        }
        _ => Err(Refusal::unsupported(
            "MERGE is not supported on distributed or reference tables",
            "Use INSERT … ON CONFLICT, or UPDATE and INSERT in one transaction.",
        )
        .into()),
    }
}

#[cfg(test)]
mod tests;

fn write_unsupported() -> Refused {
    Refusal::unsupported("this statement is not supported over several shards", "Bind it to one key.").into()
}
