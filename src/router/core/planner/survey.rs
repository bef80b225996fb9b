//! The first look at a statement: does it name anything of ours at all, and what does it do to the
//! session beyond its rows? Cheap: most statements of most clients end here. Called by the planner.

use super::Input;
use crate::router::core::{
    catalog::quote_name,
    plan::{Effect, Local, PinReason, Probe},
    sql::{Node, Recurse, last_name, nodes, walk_manual},
};

/// What was seen.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "what was seen and what was not, independently")]
pub struct Survey {
    /// A relation by a name that the catalog knows.
    pub named: bool,
    /// A write or lock anywhere.
    pub writes: bool,
    /// A call that could write or change the session.
    pub calls: bool,
    /// `SELECT INTO`.
    pub into: bool,
    /// Relations read without their children.
    pub only: Vec<Probe>,
    /// Why the session must keep its server connection, if it must.
    pub pin: Option<PinReason>,
}

impl Survey {
    /// Looks at a whole statement.
    pub fn of<'a>(input: &Input<'a>, node: Node<'a>) -> Self {
        let mut survey = Self::default();
        survey.see(input, node);
        walk_manual::<()>(node, |node| {
            survey.see(input, node);
            Recurse::yes()
        });
        survey
    }

    fn see(&mut self, input: &Input<'_>, node: Node<'_>) {
        match node {
            Node::RangeVar(var) => {
                self.named |= var.relname().is_some_and(|name| input.catalog.knows_name(name));
                if !var.inh
                    && let Some(name) = name_of(var)
                {
                    self.only.push(Probe::Read(name));
                }
            }
            Node::FuncCall(call) => self.call(last_name(call.funcname()).unwrap_or_default(), input),
            Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_)
            | Node::LockingClause(_) => self.writes = true,
            Node::IntoClause(into) => {
                self.writes = true;
                self.into = true;
                // RELPERSISTENCE_TEMP.
                if into.rel().is_some_and(|var| u8::try_from(var.relpersistence) == Ok(b't')) {
                    self.pin = Some(PinReason::Temporary);
                }
            }
            _ => {}
        }
    }

    fn call(&mut self, name: &str, input: &Input<'_>) {
        let pin = match name {
            "nextval" | "setval" | "currval" | "lastval" => Some(PinReason::Sequence),
            "set_config" | "setseed" => Some(PinReason::SessionState),
            "pg_advisory_lock" | "pg_advisory_lock_shared" | "pg_try_advisory_lock" | "pg_try_advisory_lock_shared" => {
                Some(PinReason::AdvisoryLock)
            }
            _ => None,
        };
        self.pin = self.pin.or(pin);
        self.calls |=
            pin.is_some() || name.starts_with("pg_") || name.starts_with("lo_") || input.catalog.is_user_function(name);
    }

    /// The plan of a statement that stays in the query group.
    pub fn local(&self, node: Node<'_>) -> Local {
        let mut effects: Vec<Effect> = self.pin.map(Effect::Pin).into_iter().collect();
        if self.into {
            effects.push(Effect::SchemaChange);
        }
        let read_only = matches!(node, Node::SelectStmt(_)) && !self.writes && !self.calls;
        Local { effects, read_only, unguarded: self.only.clone() }
    }
}

/// A relation's name as SQL; `None` for what is named otherwise.
pub fn name_of(var: &nodes::RangeVar) -> Option<String> {
    let name = quote_name(var.relname()?);
    Some(var.schemaname().map_or_else(|| name.clone(), |schema| format!("{}.{name}", quote_name(schema))))
}
